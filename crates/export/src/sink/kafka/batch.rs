//! Record batches of version 2 (Kafka 0.11 and later), uncompressed and without a producer id: a batch that is handed
//! over again is there twice, and its records have the same keys.

use crate::Event;
use crate::sink::varint;

const MAGIC: u8 = 2;
const NONE: i64 = -1;

/// A batch of events, the time of each its record's. `None`: it is longer than the format can say.
pub(super) fn batch(events: &[Event]) -> Option<Vec<u8>> {
    let count = i32::try_from(events.len()).ok()?;
    let times = events.iter().map(|event| millis(event.time));
    let first = events.first().map_or(0, |event| millis(event.time));
    let latest = times.max().unwrap_or_default();
    // From the attributes on: what the checksum is over.
    let mut covered = Vec::new();
    covered.extend_from_slice(&0_i16.to_be_bytes());
    covered.extend_from_slice(&count.checked_sub(1)?.to_be_bytes());
    covered.extend_from_slice(&first.to_be_bytes());
    covered.extend_from_slice(&latest.to_be_bytes());
    covered.extend_from_slice(&NONE.to_be_bytes());
    covered.extend_from_slice(&(-1_i16).to_be_bytes());
    covered.extend_from_slice(&(-1_i32).to_be_bytes());
    covered.extend_from_slice(&count.to_be_bytes());
    for (offset, event) in (0_i64..).zip(events) {
        let mut record = vec![0];
        varint::signed(&mut record, millis(event.time).saturating_sub(first));
        varint::signed(&mut record, offset);
        for bytes in [event.id.as_bytes(), event.json.as_bytes()] {
            varint::signed(&mut record, i64::try_from(bytes.len()).ok()?);
            record.extend_from_slice(bytes);
        }
        varint::signed(&mut record, 0);
        varint::signed(&mut covered, i64::try_from(record.len()).ok()?);
        covered.append(&mut record);
    }
    let mut batch = 0_i64.to_be_bytes().to_vec();
    // The epoch of the leader, the magic byte and the checksum are counted as well.
    let length = i32::try_from(covered.len().checked_add(9)?).ok()?;
    batch.extend_from_slice(&length.to_be_bytes());
    batch.extend_from_slice(&(-1_i32).to_be_bytes());
    batch.push(MAGIC);
    batch.extend_from_slice(&crc32c(&covered).to_be_bytes());
    batch.append(&mut covered);
    Some(batch)
}

fn millis(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// CRC-32C (Castagnoli, RFC 3720, appendix B.4), a bit at a time: a batch has a MiB at most, and a network behind it.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let reduce = 0x82f6_3b78 * (crc & 1);
            crc = (crc >> 1) ^ reduce;
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
