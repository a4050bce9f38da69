//! Bytes for a gRPC listener that are no message, no HTTP/2, or both.

/// Bodies of a unary call that are no message, and the codes that may answer them.
#[must_use]
pub fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let framed = |flag: u8, length: u32, bytes: &[u8]| {
        let mut body = vec![flag];
        body.extend(length.to_be_bytes());
        body.extend(bytes);
        body
    };
    vec![
        ("nothing", Vec::new()),
        ("half a header", vec![0, 0, 0]),
        ("a length beyond the end", framed(0, 1_000, b"short")),
        ("a length beyond every limit", framed(0, u32::MAX, b"x")),
        (
            "a compression that is not",
            framed(1, 4, b"\xff\xff\xff\xff"),
        ),
        ("a flag that is none", framed(77, 4, b"abcd")),
        ("a field without an end", framed(0, 3, b"\x0a\xff\x01")),
        ("a field number of nothing", framed(0, 2, b"\x00\x00")),
        ("a group that never ends", framed(0, 3, b"\x0b\x0b\x0b")),
        ("a varint without an end", framed(0, 12, &[0xff; 12])),
        ("text that is no UTF-8", framed(0, 4, b"\x0a\x02\xff\xfe")),
        (
            "nested without end",
            framed(0, 60_000, &b"\x0a\x7f".repeat(30_000)),
        ),
        (
            "two messages",
            [framed(0, 0, b""), framed(0, 0, b"")].concat(),
        ),
        (
            "noise",
            (0..100_000_u32)
                .map(|n| {
                    let [first, ..] = n.wrapping_mul(2_654_435_761).to_be_bytes();
                    first
                })
                .collect(),
        ),
    ]
}

/// Bytes that are no HTTP/2 at all.
#[must_use]
pub fn noise() -> Vec<Vec<u8>> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let frame = |length: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let [_, high, middle, low] = length.to_be_bytes();
        let mut bytes = vec![high, middle, low, kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    };
    let after = |frames: Vec<u8>| [preface.clone(), frame(0, 4, 0, 0, b""), frames].concat();
    vec![
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        vec![0; 100_000],
        (0..=255).cycle().take(100_000).collect(),
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        // A frame as long as a length can say, headers that never end, data for no stream, a window of
        // nothing, settings of half a setting.
        after(frame(0xff_ffff, 0, 0, 1, b"")),
        after(frame(5, 1, 0, 1, b"\x82\x84\x86\xff\xff")),
        after(frame(4, 0, 0, 99, b"data")),
        after(frame(4, 8, 0, 0, &[0; 4])),
        after(frame(5, 4, 0, 0, &[0; 5])),
        after(frame(4, 9, 0, 1, b"\xff\xff\xff\xff").repeat(10_000)),
    ]
}
