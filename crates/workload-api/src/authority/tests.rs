//! Bytes as clients send them, whole and in pieces.

use super::*;
use proptest::prelude::*;

fn headers(flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![high, middle, low, HEADERS, flags, 0, 0, 0, 1];
    frame.extend_from_slice(payload);
    frame
}

/// What goes on after the preface, when `input` arrives in pieces of `piece` bytes.
fn through(input: &[u8], piece: usize) -> Vec<u8> {
    let mut inbound = Inbound::new();
    let mut out = Vec::new();
    inbound.feed(&[0; PREFACE], &mut out);
    for bytes in input.chunks(piece) {
        inbound.feed(bytes, &mut out);
    }
    assert_eq!(out[..PREFACE], [0; PREFACE]);
    out.split_off(PREFACE)
}

/// The names and values that `h2`'s peer would see, for literals without Huffman coding.
fn block(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    block.extend_from_slice(name);
    block.push(u8::try_from(value.len()).unwrap());
    block.extend_from_slice(value);
    block.extend_from_slice(b"\x00\x12workload.spiffe.io\x04true");
    block
}

#[test]
fn a_socket_path_as_authority_is_overwritten() {
    // gRPC C-core 58 as captured: a literal name; Netty and others: the static index.
    for name in [b"\x40\x0a:authority".as_slice(), b"\x41", b"\x01", b"\x11"] {
        let path = b"tmp%2Frun%2Fapi.sock";
        let sent = headers(END_HEADERS, &block(name, path));
        let expected = headers(END_HEADERS, &block(name, &vec![b'x'; path.len()]));
        for piece in [1, 7, sent.len()] {
            assert_eq!(through(&sent, piece), expected, "{name:?} by {piece}");
        }
    }
}

#[test]
fn huffman_coded_values_keep_their_number_of_characters() {
    // RFC 7541, appendix C.4.1: `www.example.com`.
    let coded = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    assert_eq!(huffman_length(coded), Some(15));
    // Appendix C.6.1: a date of 29 characters.
    let coded =
        b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff";
    assert_eq!(huffman_length(coded), Some(29));
    assert_eq!(
        huffman_length(b"\xff\xff\xff\xff"),
        None,
        "the end-of-string code"
    );
    assert_eq!(
        huffman_length(b"\x1f\xff"),
        None,
        "padding of more than seven bits"
    );
    let sent = headers(
        END_HEADERS,
        b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
    );
    let expected = headers(END_HEADERS, b"\x41\x0fxxxxxxxxxxxxxxx");
    assert_eq!(through(&sent, 5), expected);
}

#[test]
fn every_code_is_accounted_for() {
    assert_eq!(CODES.iter().sum::<u32>(), 256);
    let kraft: u64 = CODES
        .iter()
        .zip(1..)
        .map(|(count, length)| u64::from(*count) << (30 - length))
        .sum();
    assert_eq!(
        kraft,
        (1 << 30) - 1,
        "complete, but for the end of a string"
    );
}

#[test]
fn padding_is_taken_off_and_priority_kept() {
    let mut payload = vec![3, 0, 0, 0, 0, 7];
    payload.extend_from_slice(b"\x41\x02/a");
    payload.extend_from_slice(&[0; 3]);
    let sent = headers(END_HEADERS | PADDED | PRIORITY, &payload);
    let expected = headers(END_HEADERS | PRIORITY, b"\x00\x00\x00\x00\x07\x41\x02xx");
    assert_eq!(through(&sent, 4), expected);
}

#[test]
fn everything_else_passes_unchanged() {
    let mut input = Vec::new();
    input.extend(headers(END_HEADERS, &block(b"\x00\x04host", b"/a%2f")));
    input.extend(headers(0, &block(b"\x41", b"/a%2f")));
    // DATA whose payload looks like a HEADERS frame.
    let inner = headers(END_HEADERS, &block(b"\x41", b"/a"));
    let length = u8::try_from(inner.len()).unwrap();
    input.extend([0, 0, length, 0, 0, 0, 0, 0, 1]);
    input.extend(inner);
    // Malformed: a string longer than its frame.
    input.extend(headers(END_HEADERS, b"\x41\x7f\xff\xff\x03/a"));
    for piece in [1, 3, input.len()] {
        assert_eq!(through(&input, piece), input);
    }
}

proptest! {
    /// Hostile bytes neither panic nor grow without bound, however they are cut.
    #[test]
    fn any_bytes_pass(input in proptest::collection::vec(any::<u8>(), 0..2048), piece in 1_usize..64) {
        let out = through(&input, piece);
        prop_assert!(out.len() <= input.len() * 2 + 64);
    }

    #[test]
    fn any_block_is_walked(payload in proptest::collection::vec(any::<u8>(), 0..512)) {
        let sent = headers(END_HEADERS, &payload);
        prop_assert_eq!(through(&sent, 9), through(&sent, sent.len()));
    }
}
