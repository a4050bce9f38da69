//! A reference value: something that is good, who says so, and when. Boot and IMA are compared with
//! values of this shape.

use facts::Timestamp;
use std::sync::Arc;

/// When a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// From the beginning if absent.
    pub not_before: Option<Timestamp>,
    /// For ever if absent. That moment itself is still inside.
    pub not_after: Option<Timestamp>,
}

impl Window {
    #[must_use]
    pub fn holds(self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|from| from <= now)
            && self.not_after.is_none_or(|until| now <= until)
    }

    /// For people.
    pub(crate) fn describe(self, now: Timestamp) -> String {
        match (self.not_before, self.not_after) {
            (_, Some(until)) if until < now => format!("it counted until {until}"),
            (Some(from), _) if now < from => format!("it counts from {from} on"),
            _ => "it counts".to_owned(),
        }
    }
}

/// One reference value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value<T> {
    pub value: T,
    /// What a person calls it: `linux-image-6.1.0-56-amd64 6.1.192-1`. Values of one release share it.
    pub label: Arc<str>,
    /// What vouches for it: the signed file and its key.
    pub source: Arc<str>,
    pub window: Window,
}

impl<T> Value<T> {
    /// A value that always counts.
    #[must_use]
    pub fn new(value: T, label: impl Into<Arc<str>>, source: impl Into<Arc<str>>) -> Self {
        Self {
            value,
            label: label.into(),
            source: source.into(),
            window: Window::default(),
        }
    }

    /// The same in `window` only.
    #[must_use]
    pub const fn within(mut self, window: Window) -> Self {
        self.window = window;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_at_both_of_its_ends() {
        let at = Timestamp::from_secs;
        let window = Window {
            not_before: Some(at(10)),
            not_after: Some(at(20)),
        };
        for (now, holds) in [(9, false), (10, true), (20, true), (21, false)] {
            assert_eq!(window.holds(at(now)), holds, "{now}");
        }
        assert!(Window::default().holds(Timestamp::EPOCH));
    }
}
