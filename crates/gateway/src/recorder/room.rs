//! Lists of a record, cut to the room that there is: no statement can name so much that it, or its
//! denial, cannot be recorded.

use ledger::HexDigest;
use ledger::body::{ActionOn, More};

/// Bytes for the resources of all actions of a record, and for its policies. The rest of a record is
/// far below what is left of 16 KiB.
const RESOURCES: usize = 9 * 1024;
const POLICIES: usize = 3 * 1024;
/// For the columns of all actions: the names of some 50.
const COLUMNS: usize = 2 * 1024;
/// In the place of columns that there is no room for: any of any table.
const ANY_COLUMN: &str = "Column::\"*\"";
/// Quotes and comma.
const AROUND: usize = 3;

/// `actions` as far as there is room; the first of each list come first.
pub(super) fn actions(actions: &[ActionOn]) -> Vec<ActionOn> {
    let mut room = RESOURCES;
    let mut of_columns = COLUMNS;
    let cut = actions.iter().map(|on| {
        let (resources, more) = cut(&on.resources, &mut room);
        let (mut columns, left_out) = cut(&on.columns, &mut of_columns);
        if left_out.is_some() {
            columns.push(ANY_COLUMN.to_owned());
        }
        ActionOn {
            action: on.action.clone(),
            resources,
            more,
            columns,
        }
    });
    cut.collect()
}

/// `policies` as far as there is room.
pub(super) fn policies(policies: &[String]) -> (Vec<String>, Option<More>) {
    cut(policies, &mut POLICIES.clone())
}

fn cut(list: &[String], room: &mut usize) -> (Vec<String>, Option<More>) {
    let mut kept = Vec::with_capacity(list.len().min(64));
    for entry in list {
        let length = in_json(entry) + AROUND;
        if length > *room {
            *room = 0;
            break;
        }
        *room -= length;
        kept.push(entry.clone());
    }
    let left = list.len() - kept.len();
    let more = (left > 0).then(|| {
        let mut hash = crypto::Sha256::new();
        for entry in list {
            hash.update(entry.as_bytes());
            hash.update(b"\n");
        }
        More {
            count: (left as u64).into(),
            sha256: HexDigest(hash.finish()),
        }
    });
    (kept, more)
}

/// Bytes of `text` in a JSON string, at most.
fn in_json(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => 2,
            0..=0x1f => 6,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_counted_and_digested() {
        let resources: Vec<String> = (0..1_000)
            .map(|n| format!("Table::\"shop/{n:\\>60}\""))
            .collect();
        let on = |action: &str| ActionOn {
            action: action.to_owned(),
            resources: resources.clone(),
            more: None,
            columns: Vec::new(),
        };
        let cut = actions(&[on("select"), on("update")]);
        assert!(!cut[0].resources.is_empty() && cut[1].resources.is_empty());
        let more = cut[0].more.as_ref().unwrap();
        assert_eq!(
            usize::try_from(more.count.0).unwrap() + cut[0].resources.len(),
            1_000
        );
        assert_eq!(cut[1].more.as_ref().unwrap().count.0, 1_000);
        let json = serde_json::to_string(&cut).unwrap();
        assert!(json.len() < RESOURCES + 512, "{}", json.len());
        let whole: String = resources.iter().map(|entry| format!("{entry}\n")).collect();
        assert_eq!(more.sha256, HexDigest::of(whole.as_bytes()));
    }

    #[test]
    fn columns_that_there_is_no_room_for_may_be_any() {
        let columns: Vec<String> = (0..200)
            .map(|n| format!("Column::\"shop/public/cards/{n}\""))
            .collect();
        let on = ActionOn {
            action: "select".to_owned(),
            resources: vec!["Table::\"shop/public/cards\"".to_owned()],
            more: None,
            columns,
        };
        let cut = actions(&[on.clone(), on.clone()]);
        assert_eq!(cut[0].columns[0], on.columns[0]);
        assert_eq!(cut[0].columns.last().unwrap(), ANY_COLUMN);
        assert_eq!(cut[1].columns, [ANY_COLUMN]);
        assert!(cut[0].columns.len() > 40 && cut[0].more.is_none());
        let few = ActionOn {
            columns: on.columns[..3].to_vec(),
            ..on
        };
        assert_eq!(actions(std::slice::from_ref(&few)), [few]);
    }

    #[test]
    fn what_fits_is_left_alone() {
        let names = ["one".to_owned(), "two".to_owned()];
        assert_eq!(policies(&names), (names.to_vec(), None));
    }
}
