//! Times as reference values and archives write them.

use facts::Timestamp;

/// A time to the second, as `2026-07-11T10:16:37Z`; for `#[serde(with = "…")]`.
pub mod moment {
    use super::rfc3339;
    use facts::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    /// # Errors
    /// Whatever the serializer refuses.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*time))
    }

    /// # Errors
    /// When the text is not a time of that form.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        rfc3339(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is no time such as 2026-07-11T10:16:37Z"))
        })
    }

    /// `time` to the second, rounded down.
    #[must_use]
    pub fn text(time: Timestamp) -> String {
        // The display form ends with `.mmmZ`.
        let text = time.to_string();
        text.split_once('.')
            .map_or_else(String::new, |(seconds, _)| format!("{seconds}Z"))
    }

    /// The same for a time that may be absent.
    pub mod option {
        use facts::Timestamp;
        use serde::{Deserializer, Serializer};

        /// # Errors
        /// Whatever the serializer refuses.
        pub fn serialize<S: Serializer>(
            time: &Option<Timestamp>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// # Errors
        /// When the text is not a time of that form.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ`, from 1970 on.
#[must_use]
pub fn rfc3339(text: &str) -> Option<Timestamp> {
    let (day, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let mut parts = day.splitn(3, '-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let day = digits(parts.next()?, 2)?;
    at(year, month, day, clock)
}

/// The `Date` of a Debian `Release`: RFC 2822 in UTC, `Sat, 11 Jul 2026 10:16:37 UTC`.
#[must_use]
pub fn date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_weekday, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    let (clock, zone) = (words.next()?, words.next()?);
    if words.next().is_some() || !["UTC", "GMT", "Z", "+0000"].contains(&zone) {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)?;
    let day = digits(day, day.len().clamp(1, 2))?;
    at(digits(year, 4)?, u64::try_from(month).ok()? + 1, day, clock)
}

fn digits(text: &str, length: usize) -> Option<u64> {
    let plain = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// Seconds since the epoch of a day of the proleptic Gregorian calendar and `HH:MM:SS`.
fn at(year: u64, month: u64, day: u64, clock: &str) -> Option<Timestamp> {
    let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || !(1..=length).contains(&day) {
        return None;
    }
    let mut parts = clock.splitn(3, ':');
    let hour = digits(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = digits(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let second = digits(parts.next()?, 2).filter(|second| *second < 60)?;
    // Counted from March, so that the leap day ends a year.
    let (years, months) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day;
    // 1970-01-01 is day 719 469 of that count.
    let days = days.checked_sub(719_469)?;
    Some(Timestamp::from_secs(
        days * 86_400 + hour * 3600 + minute * 60 + second,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for seconds in [0, 951_782_400, 1_795_500_000, 4_107_542_399, 68_169_600] {
            let time = Timestamp::from_secs(seconds);
            assert_eq!(rfc3339(&moment::text(time)), Some(time), "{time}");
        }
        for not in [
            "",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00+00:00",
            "1969-12-31T23:59:59Z",
            "2026-1-01T00:00:00Z",
        ] {
            assert_eq!(rfc3339(not), None, "{not}");
        }
    }

    #[test]
    fn reads_the_date_of_a_release() {
        let text = "Sat, 11 Jul 2026 10:16:37 UTC";
        assert_eq!(date(text), rfc3339("2026-07-11T10:16:37Z"));
        assert_eq!(date("Sat, 11 Jul 2026 10:16:37 +0200"), None);
        assert_eq!(date("Sat, 11 Jul 2026 10:16:37"), None);
        assert!(date("Thu, 1 Jan 1970 00:00:00 UTC").is_some());
    }
}
