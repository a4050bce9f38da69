//! Where an answer goes on: a place in one question to one version of the estate.

use std::fmt;
use std::str::FromStr;

/// Hex digits of a digest that a cursor has: enough that nobody confuses two by accident. It protects nothing:
/// whoever makes one up is answered what he may ask anyway.
const DIGITS: usize = 16;

/// A place between two accesses of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// First digits of the estate's version.
    estate: String,
    /// First digits of the question's digest.
    question: String,
    pub(super) place: Place,
}

/// After so many accesses of the candidate of that number, in the turn of that number, of the list of that number
/// where an answer has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) list: usize,
    pub(crate) turn: usize,
    pub(crate) candidate: usize,
    pub(crate) given: usize,
}

/// Why an answer does not go on there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    #[error("this is no cursor that an answer ended with")]
    Malformed,
    #[error("the cursor belongs to another question")]
    Question,
    #[error("the estate has changed since the answer began")]
    Estate,
}

impl CursorError {
    /// As findings have it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed | Self::Question => "QUESTION-CURSOR",
            Self::Estate => "QUESTION-ESTATE-CHANGED",
        }
    }
}

impl Cursor {
    /// After `given` of an answer that is one list, in an order that the version and the question determine.
    #[must_use]
    pub fn in_list(estate: &str, question: &str, given: usize) -> Self {
        let place = Place {
            given,
            ..Place::default()
        };
        Self::new(estate, question, place)
    }

    /// How much of such an answer was given.
    ///
    /// # Errors
    /// The cursor belongs to another question or another version.
    pub fn given(&self, estate: &str, question: &str) -> Result<usize, CursorError> {
        self.check(estate, question).map(|place| place.given)
    }

    pub(crate) const fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn new(estate: &str, question: &str, place: Place) -> Self {
        let first = |text: &str| text.get(..DIGITS).unwrap_or(text).to_owned();
        Self {
            estate: first(estate),
            question: first(&crypto::hex::encode(&crypto::sha256(question.as_bytes()))),
            place,
        }
    }

    pub(crate) fn check(&self, estate: &str, question: &str) -> Result<Place, CursorError> {
        let now = Self::new(estate, question, self.place);
        if self.question != now.question {
            return Err(CursorError::Question);
        }
        if self.estate != now.estate {
            return Err(CursorError::Estate);
        }
        Ok(self.place)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place {
            list,
            turn,
            candidate,
            given,
        } = self.place;
        let (estate, question) = (&self.estate, &self.question);
        write!(f, "{estate}.{question}.{list}.{turn}.{candidate}.{given}")
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let parts: Vec<&str> = text.splitn(7, '.').collect();
        let [estate, question, list, turn, candidate, given] = parts.as_slice() else {
            return Err(CursorError::Malformed);
        };
        let digest = |text: &str| {
            let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            let good = text.len() == DIGITS && text.bytes().all(hex);
            good.then(|| text.to_owned()).ok_or(CursorError::Malformed)
        };
        let number = |text: &str| {
            let good = text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| good);
            number.ok_or(CursorError::Malformed)
        };
        Ok(Self {
            estate: digest(estate)?,
            question: digest(question)?,
            place: Place {
                list: number(list)?,
                turn: number(turn)?,
                candidate: number(candidate)?,
                given: number(given)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_goes_with_one_question() {
        let place = Place {
            list: 4,
            turn: 3,
            candidate: 1_000_000,
            given: 2,
        };
        let version = "0123456789abcdef0123";
        let cursor = Cursor::new(version, "what a", place);
        let read: Cursor = cursor.to_string().parse().unwrap();
        assert_eq!(read, cursor);
        assert_eq!(read.check(version, "what a"), Ok(place));
        assert_eq!(read.check(version, "what b"), Err(CursorError::Question));
        let other = "1123456789abcdef0123";
        assert_eq!(read.check(other, "what a"), Err(CursorError::Estate));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let good = Cursor::new("0123456789abcdef", "q", Place::default()).to_string();
        for text in [
            "",
            ".",
            "....",
            &good.replace('.', ":"),
            &format!("{good}.0"),
            "0123456789abcdef.0123456789abcdef.0.0.0",
            &format!("{good}1234567890123"),
            &good.replacen('0', "g", 1),
            &good.replace(".0.", ".-1."),
            &good.replace(".0.", ".+1."),
        ] {
            assert_eq!(
                text.parse::<Cursor>(),
                Err(CursorError::Malformed),
                "{text}"
            );
        }
    }
}
