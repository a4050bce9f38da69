//! The times of Intel's collateral: RFC 3339, whole seconds, UTC.

use facts::Timestamp;

/// `2025-06-19T10:16:03Z`, from 1970 on; nothing else is read.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let &[
        a,
        b,
        c,
        d,
        b'-',
        e,
        f,
        b'-',
        g,
        h,
        b'T',
        i,
        j,
        b':',
        k,
        l,
        b':',
        m,
        n,
        b'Z',
    ] = text.as_bytes()
    else {
        return None;
    };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u64, |sum, digit| {
            digit
                .is_ascii_digit()
                .then(|| sum * 10 + u64::from(digit - b'0'))
        })
    };
    let (year, month, day) = (number(&[a, b, c, d])?, number(&[e, f])?, number(&[g, h])?);
    let (hour, minute, second) = (number(&[i, j])?, number(&[k, l])?, number(&[m, n])?);
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let longest = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || day == 0 || day > longest || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Counted from 1 March, so that the leap day ends a year.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = shifted_year * 365 + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + day_of_year
        - 719_468;
    Some(Timestamp::from_secs(
        days * 86_400 + hour * 3600 + minute * 60 + second,
    ))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_time_is_read_as_it_is_shown() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2000-02-29T23:59:59Z",
            "2025-06-19T10:16:03Z",
            "2100-03-01T00:00:00Z",
            "2400-02-29T12:00:00Z",
        ] {
            let shown = parse(text).unwrap().to_string();
            assert_eq!(shown, text.replace('Z', ".000Z"));
        }
    }

    #[test]
    fn nothing_else_is_read() {
        for text in [
            "",
            "2025-06-19T10:16:03",
            "2025-06-19 10:16:03Z",
            "2025-06-19T10:16:03+00:00",
            "2025-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-01-00T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2025-06-19T24:00:00Z",
            "2025-06-19T10:60:00Z",
            "20x5-06-19T10:16:03Z",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
