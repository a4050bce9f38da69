//! The certificate table that a host hands to its guest beside the report (GHCB, table 10; the
//! `auxblob` of configfs-tsm). A convenience: whatever is in it is checked like any other certificate.

use crate::wire::Reader;

/// Longer than tables with every certificate in them.
const LONGEST: usize = 64 * 1024;
const MOST: usize = 16;
/// VCEK, 63da758d-e664-4564-adc5-f4b93be8accd, and VLEK, a8074bc2-a25a-483e-aae6-39c045a0b8a1, as the
/// table spells them.
const KEYS: [[u8; 16]; 2] = [
    [
        0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac,
        0xcd,
    ],
    [
        0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8,
        0xa1,
    ],
];

/// The certificates of report keys in a table, DER, VLEK and VCEK alike. What is no table has none.
#[must_use]
pub fn certificates(table: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    if table.len() > LONGEST {
        return found;
    }
    let mut reader = Reader::new(table);
    for _ in 0..MOST {
        let entry = (|| Some((reader.array::<16>()?, reader.u32()?, reader.u32()?)))();
        let Some((guid, offset, length)) = entry else {
            break;
        };
        if guid == [0; 16] {
            break;
        }
        let (Ok(offset), Ok(length)) = (usize::try_from(offset), usize::try_from(length)) else {
            break;
        };
        let bytes = table.get(offset..).and_then(|rest| rest.get(..length));
        if let Some(bytes) = bytes.filter(|_| KEYS.contains(&guid)) {
            found.push(bytes);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{KEYS, certificates};

    #[test]
    fn report_keys_are_found_and_nothing_else() {
        let mut table = Vec::new();
        for (guid, offset, length) in [
            (KEYS[1], 96_u32, 3_u32),
            ([7; 16], 96, 3),
            (KEYS[0], 99, 9),
            ([0; 16], 0, 0),
        ] {
            table.extend(guid);
            table.extend(offset.to_le_bytes());
            table.extend(length.to_le_bytes());
        }
        table.extend(b"key");
        // The second one reaches beyond the end.
        assert_eq!(certificates(&table), [b"key"]);
        for cut in 0..table.len() {
            drop(certificates(&table[..cut]));
        }
    }
}
