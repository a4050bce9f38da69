//! Times in certificates (RFC 5280, section 4.1.2.5), to the second.

use crate::der::{GENERALIZED_TIME, UTC_TIME, Writer};
use facts::Timestamp;

/// 2050-01-01T00:00:00Z.
const YEAR_2050: Timestamp = Timestamp::from_secs(2_524_608_000);

/// "CAs conforming to this profile MUST always encode certificate validity dates through the year
/// 2049 as UTCTime; certificate validity dates in 2050 or later MUST be encoded as
/// GeneralizedTime."
pub(crate) fn write_time(writer: &mut Writer, time: Timestamp) {
    // `2026-11-22T02:42:49.123Z`
    let rfc_3339 = time.to_string();
    let seconds = rfc_3339.split('.').next().unwrap_or_default();
    let mut digits: Vec<u8> = seconds.bytes().filter(u8::is_ascii_digit).collect();
    digits.push(b'Z');
    match digits.get(2..) {
        Some(two_digit_year) if time < YEAR_2050 => writer.element(UTC_TIME, two_digit_year),
        _ => writer.element(GENERALIZED_TIME, &digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_changes_with_the_year_2050() {
        let encoded = |seconds| {
            let mut writer = Writer::with_capacity(0);
            write_time(&mut writer, Timestamp::from_secs(seconds));
            writer.finish()
        };
        assert_eq!(encoded(1_795_312_969), b"\x17\x0d261122020249Z");
        assert_eq!(encoded(2_524_607_999), b"\x17\x0d491231235959Z");
        assert_eq!(encoded(2_524_608_000), b"\x18\x0f20500101000000Z");
    }
}
