//! One measured row, as a bench program prints it, and the table of all.

use super::Aim;
use serde_json::Value;
use std::fmt::Write as _;

pub(crate) struct Row {
    pub(crate) id: String,
    ours: f64,
    unit: String,
    /// Value, what it is, and ours divided by it; a row without a peer has none.
    reference: Option<(f64, String, f64)>,
    /// The line itself.
    pub(crate) text: String,
}

impl Row {
    /// Parses `{"id","ours","unit","reference","reference_is","ratio"}`; further fields are kept in `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let number = |key: &str| value.get(key).and_then(Value::as_f64);
        let word = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let id = word("id").ok_or("a row needs an `id`")?;
        let ours = number("ours").ok_or("a row needs a number `ours`")?;
        let unit = word("unit").ok_or("a row needs a `unit`")?;
        let reference = match (number("reference"), word("reference_is"), number("ratio")) {
            (Some(reference), Some(is), Some(ratio)) => {
                let expected = ours / reference;
                if (ratio - expected).abs() > 0.01 * expected.abs() {
                    return Err(format!("ratio is {ratio}, ours / reference is {expected}"));
                }
                Some((reference, is, ratio))
            }
            (None, _, None) => None,
            _ => return Err("`reference`, `reference_is` and `ratio` come together".to_owned()),
        };
        Ok(Self {
            id,
            ours,
            unit,
            reference,
            text: text.trim().to_owned(),
        })
    }

    fn reaches(&self, aim: Aim) -> Option<bool> {
        let ratio = self.reference.as_ref().map(|(_, _, ratio)| *ratio);
        match aim {
            Aim::RatioAtLeast(least) => Some(ratio? >= least),
            Aim::RatioAtMost(most) => Some(ratio? <= most),
            Aim::AtLeast(least) => Some(self.ours >= least),
            Aim::AtMost(most) => Some(self.ours <= most),
            Aim::None => None,
        }
    }
}

/// All rows, aligned; the last column says what the aim is and whether it is reached.
pub(crate) fn table(rows: &[Row], aim_of: impl Fn(&str) -> Aim) -> String {
    let mut lines = vec![
        [
            "id",
            "ours",
            "unit",
            "reference",
            "ratio",
            "aim",
            "reference is",
        ]
        .map(str::to_owned),
    ];
    for row in rows {
        let aim = aim_of(&row.id);
        let (reference, is, ratio) = match &row.reference {
            Some((value, is, ratio)) => (short(*value), is.clone(), short(*ratio)),
            None => ("-".to_owned(), String::new(), "-".to_owned()),
        };
        let verdict = match row.reaches(aim) {
            None => "-".to_owned(),
            Some(true) => format!("{} reached", words(aim)),
            Some(false) => format!("{} MISSED", words(aim)),
        };
        let cells = [
            row.id.clone(),
            short(row.ours),
            row.unit.clone(),
            reference,
            ratio,
            verdict,
            is,
        ];
        lines.push(cells);
    }
    aligned(&lines)
}

fn aligned(lines: &[[String; 7]]) -> String {
    let mut widths = [0; 7];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut padded = String::new();
        for (cell, width) in line.iter().zip(widths) {
            // Writing to a string cannot fail.
            let _ = write!(padded, "{cell:<width$}  ");
        }
        text.push_str(padded.trim_end());
        text.push('\n');
    }
    text
}

fn words(aim: Aim) -> String {
    match aim {
        Aim::RatioAtLeast(least) => format!("ratio >= {least}"),
        Aim::RatioAtMost(most) => format!("ratio <= {most}"),
        Aim::AtLeast(least) => format!(">= {least}"),
        Aim::AtMost(most) => format!("<= {most}"),
        Aim::None => "-".to_owned(),
    }
}

/// Three significant digits or so, without an exponent.
fn short(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 1.0 {
        2
    } else {
        4
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::{Aim, Row, table};

    const LINE: &str =
        r#"{"id":"a.b","ours":50,"unit":"/s","reference":100,"reference_is":"limit","ratio":0.5}"#;

    #[test]
    fn a_row_says_whether_its_aim_is_reached() {
        let row = Row::parse(LINE).unwrap();
        let shown = table(&[row], |_| Aim::RatioAtLeast(0.6));
        assert!(shown.contains("ratio >= 0.6 MISSED"), "{shown}");
    }

    #[test]
    fn a_ratio_that_does_not_fit_its_numbers_is_refused() {
        assert!(Row::parse(&LINE.replace("0.5", "0.9")).is_err());
        assert!(Row::parse(&LINE.replace(",\"ratio\":0.5", "")).is_err());
        assert!(Row::parse("{}").is_err());
    }
}
