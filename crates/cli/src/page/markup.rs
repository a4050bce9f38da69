//! Markup that only this program can write: tags are literals, everything else is text and is escaped. A page is
//! well-formed XML as well as HTML, so that any parser can judge it.

use std::fmt::Write as _;

/// A page, or a part of one.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Tags.
    pub(super) fn tags(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Words of ours.
    pub(super) fn text(&mut self, text: impl std::fmt::Display) -> &mut Self {
        for c in text.to_string().chars() {
            self.character(c);
        }
        self
    }

    /// What somebody else wrote. However its letters run, those around it keep their direction.
    pub(super) fn name(&mut self, text: impl std::fmt::Display) -> &mut Self {
        self.tags("<bdi>").text(text).tags("</bdi>")
    }

    /// As [`Markup::name`], in a fixed width.
    pub(super) fn code(&mut self, text: impl std::fmt::Display) -> &mut Self {
        self.tags("<code>").name(text).tags("</code>")
    }

    /// Several names with commas between them.
    pub(super) fn names<T: AsRef<str>>(&mut self, names: impl IntoIterator<Item = T>) -> &mut Self {
        for (at, name) in names.into_iter().enumerate() {
            if at > 0 {
                self.text(", ");
            }
            self.code(name.as_ref());
        }
        self
    }

    /// A link to the part of this page that [`Markup::target`] began.
    pub(super) fn link(&mut self, place: Place, text: impl std::fmt::Display) -> &mut Self {
        self.tags("<a href=\"#").text(place).tags("\">");
        self.name(text).tags("</a>")
    }

    /// Begins `tag`, to which [`Markup::link`] leads.
    pub(super) fn target(&mut self, tag: &'static str, place: Place) -> &mut Self {
        self.tags("<").tags(tag).tags(" id=\"").text(place);
        self.tags("\">")
    }

    pub(super) fn append(&mut self, other: &Self) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    fn character(&mut self, c: char) {
        match c {
            '&' => self.0.push_str("&amp;"),
            '<' => self.0.push_str("&lt;"),
            '>' => self.0.push_str("&gt;"),
            '"' => self.0.push_str("&quot;"),
            '\'' => self.0.push_str("&#39;"),
            '\n' | '\t' => self.0.push(c),
            c if is_unseen(c) => {
                // INVARIANT: writing to a String does not fail.
                let _ = write!(self.0, "\\u{{{:x}}}", u32::from(c));
            }
            c => self.0.push(c),
        }
    }
}

/// A part of the page; numbers, so that no text of others comes into an attribute.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// Number of the checkpoint, and index.
    Record(u64, u64),
    /// By its place among the page's policies.
    Policy(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Record(checkpoint, index) => write!(f, "r{checkpoint}-{index}"),
            Self::Policy(at) => write!(f, "p{at}"),
        }
    }
}

/// What has no shape of its own or turns what follows, and what XML does not have: it is written out.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
        || u32::from(c) & 0xfffe == 0xfffe
        || ('\u{fdd0}'..='\u{fdef}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_somebody_wrote_becomes_markup_or_goes_unseen() {
        let mut markup = Markup::default();
        markup.name("</bdi><script>\"a'&\u{202e}b\u{200b}\u{0}\u{ffff}\n");
        assert_eq!(
            markup.into_string(),
            "<bdi>&lt;/bdi&gt;&lt;script&gt;&quot;a&#39;&amp;\\u{202e}b\\u{200b}\\u{0}\\u{ffff}\n</bdi>"
        );
    }
}
