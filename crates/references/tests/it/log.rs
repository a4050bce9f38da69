//! The SHA-256 digests and data of a crypto-agile TCG log, for tests only: trusted input, no checks.

use references::Digest;

pub(crate) struct Event {
    pub(crate) pcr: u32,
    pub(crate) kind: u32,
    pub(crate) sha256: Digest,
    pub(crate) data: Vec<u8>,
}

fn u16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
}

fn u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Everything that was extended.
pub(crate) fn events(log: &[u8]) -> Vec<Event> {
    let length = u32(log, 28) as usize;
    let head = &log[32..32 + length];
    let algorithms: Vec<(usize, usize)> = (0..u32(head, 24) as usize)
        .map(|n| (u16(head, 28 + 4 * n), u16(head, 30 + 4 * n)))
        .collect();
    let mut at = 32 + length;
    let mut events = Vec::new();
    while at < log.len() && u32(log, at) != u32::MAX {
        let (pcr, kind, count) = (u32(log, at), u32(log, at + 4), u32(log, at + 8));
        at += 12;
        let mut sha256 = Digest([0; 32]);
        for _ in 0..count {
            let algorithm = u16(log, at);
            let size = algorithms
                .iter()
                .find(|(id, _)| *id == algorithm)
                .unwrap()
                .1;
            if algorithm == 0x0b {
                sha256 = Digest(log[at + 2..at + 34].try_into().unwrap());
            }
            at += 2 + size;
        }
        let size = u32(log, at) as usize;
        let data = log[at + 4..at + 4 + size].to_vec();
        at += 4 + size;
        // EV_NO_ACTION
        if kind != 3 {
            events.push(Event {
                pcr,
                kind,
                sha256,
                data,
            });
        }
    }
    events
}
