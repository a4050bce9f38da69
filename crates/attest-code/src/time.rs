//! Times as others write them: RFC 3339, and ASN.1 `GeneralizedTime`. Only UTC, and only from 1970 on.

use facts::Timestamp;

/// `2021-01-12T11:53:27Z`, with at most nine digits of a fraction (RFC 3339, section 5.6).
pub(crate) fn rfc3339(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z')?;
    let (day, time) = text.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let day: Vec<&str> = day.split('-').collect();
    let time: Vec<&str> = time.split(':').collect();
    let ([year, month, date], [hour, minute, second]) = (day.as_slice(), time.as_slice()) else {
        return None;
    };
    let seconds = seconds([
        number(year, 4)?,
        number(month, 2)?,
        number(date, 2)?,
        number(hour, 2)?,
        number(minute, 2)?,
        number(second, 2)?,
    ])?;
    Some(Timestamp::from_millis(
        seconds.checked_mul(1000)?.checked_add(millis(fraction)?)?,
    ))
}

/// `20251203183642Z`, perhaps with a fraction (RFC 3161, section 2.4.2).
pub(crate) fn generalized(bytes: &[u8]) -> Option<Timestamp> {
    let text = str::from_utf8(bytes).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if whole.len() != 14 {
        return None;
    }
    let part = |from: usize, length: usize| number(whole.get(from..from + length)?, length);
    let seconds = seconds([
        part(0, 4)?,
        part(4, 2)?,
        part(6, 2)?,
        part(8, 2)?,
        part(10, 2)?,
        part(12, 2)?,
    ])?;
    Some(Timestamp::from_millis(
        seconds.checked_mul(1000)?.checked_add(millis(fraction)?)?,
    ))
}

fn number(text: &str, length: usize) -> Option<u64> {
    let plain = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The first three digits of a fraction.
fn millis(fraction: &str) -> Option<u64> {
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    number(fraction, fraction.len())?;
    let padded: String = fraction.chars().chain("00".chars()).take(3).collect();
    padded.parse().ok()
}

/// Year, month, day, hour, minute, second of the proleptic Gregorian calendar, from 1970 on. A leap second
/// is the second after it.
fn seconds([year, month, day, hour, minute, second]: [u64; 6]) -> Option<u64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    let plausible =
        year >= 1970 && (1..=longest).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !plausible {
        return None;
    }
    // Counted from 0000-03-01, so that the leap day ends a year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let since_epoch = days.checked_sub(719_468)?;
    Some(since_epoch * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_shown() {
        for millis in [0, 951_782_400_000, 1_795_312_969_123, 4_107_542_399_999] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(rfc3339(&time.to_string()), Some(time));
        }
        let plain = Timestamp::from_secs(1_610_452_407);
        assert_eq!(rfc3339("2021-01-12T11:53:27Z"), Some(plain));
        assert_eq!(rfc3339("2021-01-12T11:53:27.000000001Z"), Some(plain));
        assert_eq!(generalized(b"20210112115327Z"), Some(plain));
        assert_eq!(
            generalized(b"20210112115327.5Z"),
            Some(Timestamp::from_millis(1_610_452_407_500))
        );
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "Z",
            "2021-01-12",
            "2021-02-29T00:00:00Z",
            "2021-13-01T00:00:00Z",
            "2021-01-12T24:00:00Z",
            "2021-01-12T11:53:27",
            "2021-01-12T11:53:27+01:00",
            "2021-01-12T11:53:27.Z",
            "1969-12-31T23:59:59Z",
            "+021-01-12T11:53:27Z",
            "2021-1-12T11:53:27Z",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
        for text in [
            "",
            "20210112115327",
            "2021011211532Z",
            "20210112115327.Z",
            "é0210112115327Z",
        ] {
            assert_eq!(generalized(text.as_bytes()), None, "{text}");
        }
    }
}
