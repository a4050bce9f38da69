//! A state as the bytes of a blob: what a `snapshot` record of the ledger names. The same state has the same bytes,
//! whoever writes them, and bytes that are not exactly those of the state that they say are no state.
//!
//! ```text
//! ["trilith.dev/state/v2",4096]                     the format, and the records that the state follows from
//! ["meta","clock","1798761600000"]                  a row: its table, then its columns, in the order of `rows.rs`
//! ```
//! One line each, JSON without blanks (RFC 8259), tables in the order of [`Snapshot`], rows in that of their keys. A
//! table or column more is another format, and so is a row that other records give: what `v1` says was folded otherwise
//! (the clock took each leap at once), so that it is not compared with what is folded now.

use crate::change::Snapshot;
use crate::table::Row;
use serde_json::Value;

/// Stands in the `snapshot` record, too.
pub const FORMAT: &str = "trilith.dev/state/v2";

/// Bytes that are not those of a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    #[error("it is not of the format {FORMAT}")]
    Format,
    #[error("line {line} is no row of a table")]
    Row { line: usize },
    #[error("it is a state, but not as it is written: {0}")]
    Canonical(&'static str),
}

impl Snapshot {
    /// The state after `applied` records.
    #[must_use]
    pub fn to_bytes(&self, applied: u64) -> Vec<u8> {
        let mut out = Vec::new();
        line(&mut out, vec![Value::from(FORMAT), Value::from(applied)]);
        rows(&mut out, &self.meta);
        rows(&mut out, &self.nodes);
        rows(&mut out, &self.tokens);
        rows(&mut out, &self.svids);
        rows(&mut out, &self.revocations);
        rows(&mut out, &self.estates);
        rows(&mut out, &self.bundles);
        rows(&mut out, &self.gateways);
        rows(&mut out, &self.delegations);
        out
    }

    /// The records that the state follows from, and the state.
    ///
    /// # Errors
    /// [`BytesError`]; what is read is what [`Snapshot::to_bytes`] would write, byte for byte. Whether the rows are in
    /// order and each there once shows only to whoever makes a state of them.
    pub fn from_bytes(bytes: &[u8]) -> Result<(u64, Self), BytesError> {
        let text = std::str::from_utf8(bytes).map_err(|_| BytesError::Format)?;
        let text = text
            .strip_suffix('\n')
            .ok_or(BytesError::Canonical("its end is missing"))?;
        let mut lines = text.split('\n').enumerate();
        let first = lines.next().and_then(|(_, line)| values(line));
        let applied = match first.as_deref() {
            Some([Value::String(format), applied]) if format == FORMAT => applied.as_u64(),
            _ => None,
        };
        let applied = applied.ok_or(BytesError::Format)?;
        let mut found = Self::default();
        for (at, line) in lines {
            found.take(line).ok_or(BytesError::Row {
                line: at.saturating_add(1),
            })?;
        }
        match found.to_bytes(applied) == bytes {
            true => Ok((applied, found)),
            false => Err(BytesError::Canonical(
                "its lines are in another order or form",
            )),
        }
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let mut told = values(line)?;
        if told.is_empty() {
            return None;
        }
        let rest = told.split_off(1);
        let table = told.pop()?;
        match table.as_str()? {
            "meta" => self.meta.push(Row::of(rest)?),
            "node" => self.nodes.push(Row::of(rest)?),
            "token" => self.tokens.push(Row::of(rest)?),
            "svid" => self.svids.push(Row::of(rest)?),
            "revocation" => self.revocations.push(Row::of(rest)?),
            "estate" => self.estates.push(Row::of(rest)?),
            "bundle" => self.bundles.push(Row::of(rest)?),
            "gateway" => self.gateways.push(Row::of(rest)?),
            "delegation" => self.delegations.push(Row::of(rest)?),
            _ => return None,
        }
        Some(())
    }
}

fn values(line: &str) -> Option<Vec<Value>> {
    serde_json::from_str(line).ok()
}

fn rows<R: Row>(out: &mut Vec<u8>, rows: &[R]) {
    for row in rows {
        let mut told = vec![Value::from(R::TABLE)];
        told.extend(row.told());
        line(out, told);
    }
}

fn line(out: &mut Vec<u8>, told: Vec<Value>) {
    out.extend_from_slice(Value::Array(told).to_string().as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{BundleRow, MetaRow, TokenRow};

    fn state() -> Snapshot {
        Snapshot {
            meta: vec![MetaRow {
                key: "clock".to_owned(),
                value: "1\n\"2".to_owned(),
            }],
            tokens: vec![TokenRow {
                hash: "ab".to_owned(),
                node: "m1".to_owned(),
                pool: "demo".to_owned(),
                expires: u64::MAX,
                created: 7,
                spent: None,
                key: Some(String::new()),
            }],
            bundles: vec![BundleRow {
                sequence: 1,
                index: 2,
                x509_authorities: vec!["a".to_owned(), "b".to_owned()],
                jwt_authorities: Vec::new(),
                blob: None,
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_written_alike() {
        let bytes = state().to_bytes(9);
        assert_eq!(Snapshot::from_bytes(&bytes).unwrap(), (9, state()));
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            "[\"trilith.dev/state/v2\",9]\n\
             [\"meta\",\"clock\",\"1\\n\\\"2\"]\n\
             [\"token\",\"ab\",\"m1\",\"demo\",18446744073709551615,7,null,\"\"]\n\
             [\"bundle\",1,2,[\"a\",\"b\"],[],null]\n"
        );
        assert_eq!(
            Snapshot::from_bytes(&Snapshot::default().to_bytes(0)).unwrap(),
            (0, Snapshot::default())
        );
    }

    #[test]
    fn other_bytes_are_no_state() {
        let good = String::from_utf8(state().to_bytes(9)).unwrap();
        let refused = |text: &str| Snapshot::from_bytes(text.as_bytes()).unwrap_err();
        for format in ["", "\n", "[]\n", "[\"trilith.dev/state/v3\",9]\n"] {
            assert_ne!(
                Snapshot::from_bytes(format.as_bytes()).ok(),
                Some((9, Snapshot::default())),
                "{format:?}"
            );
        }
        assert_eq!(
            refused("[\"trilith.dev/state/v3\",9]\n"),
            BytesError::Format
        );
        assert_eq!(refused(&good.replace(",9]", ",-9]")), BytesError::Format);
        assert!(matches!(refused(good.trim_end()), BytesError::Canonical(_)));
        assert!(matches!(
            refused(&good.replace("[\"meta\",", "[ \"meta\",")),
            BytesError::Canonical(_)
        ));
        for (from, to) in [
            ("\"token\"", "\"tokens\""),
            (",7,null", ",7,null,null"),
            (",7,null", ",\"7\",null"),
            (",[],null]", ",null,null]"),
            ("[\"a\",\"b\"]", "[\"a\",1]"),
        ] {
            let changed = good.replace(from, to);
            assert_ne!(changed, good);
            assert!(matches!(refused(&changed), BytesError::Row { .. }), "{to}");
        }
        // Rows of a later table first.
        let mut lines: Vec<&str> = good.lines().collect();
        lines.swap(1, 3);
        let moved = lines.join("\n") + "\n";
        assert!(matches!(refused(&moved), BytesError::Canonical(_)));
        for end in 0..good.len() {
            assert!(
                Snapshot::from_bytes(&good.as_bytes()[..end]).is_err()
                    || good.as_bytes()[end - 1] == b'\n'
            );
        }
    }
}
