//! Durations as people write them: `90s`, `5m`, `12h`, `30d`. Nothing finer, nothing compound.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Whole seconds, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seconds(pub(crate) u64);

impl Seconds {
    fn parse(text: &str) -> Option<Self> {
        let unit = text.chars().last()?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        let digits = text.strip_suffix(unit)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let seconds = digits.parse::<u64>().ok()?.checked_mul(factor)?;
        (seconds > 0).then_some(Self(seconds))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no duration; write a number and one of s, m, h, d, such as \"12h\""
            ))
        })
    }
}

impl schemars::JsonSchema for Seconds {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]+[smhd]$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_and_nothing_else() {
        assert_eq!(Seconds::parse("90s"), Some(Seconds(90)));
        assert_eq!(Seconds::parse("12h"), Some(Seconds(43_200)));
        for text in [
            "",
            "s",
            "0s",
            "-1s",
            "+1s",
            "1.5h",
            "1h30m",
            "99999999999999999999d",
            "5µ",
        ] {
            assert_eq!(Seconds::parse(text), None, "{text}");
        }
    }
}
