//! Lets in clients whose HTTP/2 `:authority` is the path of the socket.
//!
//! gRPC for C++, Python, Ruby, Java, C# and Swift sends the (percent-encoded) socket path as `:authority`
//! when it dials a Unix socket. That is no authority (RFC 3986, section 3.2), and `h2` resets the stream
//! (hyperium/h2#487). On this socket the field means nothing, so its value is overwritten on the way in,
//! before `h2` looks, by as many `x` as it had characters: HPACK's dynamic table counts characters
//! (RFC 7541, section 4.1), so both sides go on agreeing about it.
//!
//! This is no HTTP/2 implementation. Whatever it does not recognise passes unchanged, for `h2` to judge.

/// RFC 9113, section 3.4.
const PREFACE: usize = 24;
/// RFC 9113, section 4.1.
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The frame size that the server announces; a larger frame is an error that `h2` will report.
const MAX_FRAME: usize = 16_384;

/// Field names, raw.
const NAME: &[u8] = b":authority";
/// RFC 7541, appendix A: index of `:authority` in the static table.
const STATIC_INDEX: usize = 1;

/// The inbound half of one connection.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Bytes that pass whatever they are: the preface, or the rest of a frame.
    passing: usize,
    /// A frame header, or a HEADERS frame, that has not arrived whole. At most `MAX_FRAME` and a header.
    held: Vec<u8>,
}

impl Inbound {
    pub(crate) const fn new() -> Self {
        Self {
            passing: PREFACE,
            held: Vec::new(),
        }
    }

    /// Takes what has arrived and appends what may go on to `out`.
    pub(crate) fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            if self.passing > 0 {
                let (pass, rest) = input.split_at(self.passing.min(input.len()));
                out.extend_from_slice(pass);
                self.passing -= pass.len();
                input = rest;
                continue;
            }
            let wanted = self.wanted() - self.held.len();
            let (take, rest) = input.split_at(wanted.min(input.len()));
            self.held.extend_from_slice(take);
            input = rest;
            if self.held.len() == self.wanted() {
                self.whole(out);
            }
        }
    }

    /// How many bytes `held` must have to be judged: a frame header, and the payload of a HEADERS frame.
    fn wanted(&self) -> usize {
        match frame(&self.held) {
            Some(frame) if frame.is_rewritten() => FRAME_HEADER + frame.length,
            _ => FRAME_HEADER,
        }
    }

    fn whole(&mut self, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        match frame(&held) {
            Some(frame) if frame.is_rewritten() => out.extend(rewritten(&held).unwrap_or(held)),
            Some(frame) => {
                self.passing = frame.length;
                out.extend(held);
            }
            None => out.extend(held),
        }
    }
}

struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Frame {
    /// A block that goes on in CONTINUATION frames is left alone; no client splits a small one.
    const fn is_rewritten(&self) -> bool {
        self.kind == HEADERS && self.flags & END_HEADERS != 0 && self.length <= MAX_FRAME
    }
}

fn frame(bytes: &[u8]) -> Option<Frame> {
    let &[high, middle, low, kind, flags, ..] = bytes.get(..FRAME_HEADER)? else {
        return None;
    };
    Some(Frame {
        length: usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low),
        kind,
        flags,
    })
}

/// The HEADERS frame with its `:authority` overwritten; `None` if there is none, or the frame is malformed.
fn rewritten(bytes: &[u8]) -> Option<Vec<u8>> {
    let (header, payload) = bytes.split_at_checked(FRAME_HEADER)?;
    let flags = *header.get(4)?;
    let (padding, rest) = if flags & PADDED != 0 {
        let (length, rest) = payload.split_first()?;
        (usize::from(*length), rest)
    } else {
        (0, payload)
    };
    let (priority, rest) = rest.split_at_checked(if flags & PRIORITY != 0 { 5 } else { 0 })?;
    let (block, _padding) = rest.split_at_checked(rest.len().checked_sub(padding)?)?;

    let block = rewrite_block(block)?;
    let length = u32::try_from(priority.len() + block.len()).ok()?;
    let [_, high, middle, low] = length.to_be_bytes();
    // The frame goes on without padding, and stays one frame.
    if priority.len() + block.len() > MAX_FRAME {
        return None;
    }
    let mut frame = vec![high, middle, low, HEADERS, flags & !PADDED];
    frame.extend_from_slice(header.get(5..)?);
    frame.extend_from_slice(priority);
    frame.extend(block);
    Some(frame)
}

/// RFC 7541, section 6: walks the representations without decoding them.
fn rewrite_block(block: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(block.len() + 32);
    let mut found = false;
    let mut rest = block;
    while let Some(&first) = rest.first() {
        let before = rest;
        // Section 6.1 (indexed) and 6.3 (size update) are one integer; the others are literals.
        let prefix = match first {
            0x80.. => 7,
            0x40..=0x7f => 6,
            0x20..=0x3f => 5,
            _ => 4,
        };
        let (index, after) = integer(rest, prefix)?;
        rest = after;
        if prefix == 7 || prefix == 5 {
            out.extend_from_slice(consumed(before, rest)?);
            continue;
        }
        let is_authority = if index == 0 {
            let (name, after) = string(rest)?;
            rest = after;
            !name.huffman && name.bytes == NAME
        } else {
            index == STATIC_INDEX
        };
        out.extend_from_slice(consumed(before, rest)?);
        let (value, after) = string(rest)?;
        let overwritten = if is_authority {
            value.overwritten()
        } else {
            None
        };
        match overwritten {
            Some(value) => {
                found = true;
                out.extend(value);
            }
            None => out.extend_from_slice(consumed(rest, after)?),
        }
        rest = after;
    }
    found.then_some(out)
}

fn consumed<'a>(before: &'a [u8], rest: &[u8]) -> Option<&'a [u8]> {
    before.get(..before.len().checked_sub(rest.len())?)
}

/// Section 5.1, at most 24 bits beyond the prefix: nothing in a frame is longer.
fn integer(bytes: &[u8], prefix: u8) -> Option<(usize, &[u8])> {
    let (&first, mut rest) = bytes.split_first()?;
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(first) & most;
    if value < most {
        return Some((value, rest));
    }
    for shift in [0, 7, 14] {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

/// Section 5.2.
struct Text<'a> {
    huffman: bool,
    bytes: &'a [u8],
}

fn string(bytes: &[u8]) -> Option<(Text<'_>, &[u8])> {
    let huffman = bytes.first()? & 0x80 != 0;
    let (length, rest) = integer(bytes, 7)?;
    let (bytes, rest) = rest.split_at_checked(length)?;
    Some((Text { huffman, bytes }, rest))
}

impl Text<'_> {
    /// As many `x` as there are characters, not Huffman-coded.
    fn overwritten(&self) -> Option<Vec<u8>> {
        let characters = if self.huffman {
            huffman_length(self.bytes)?
        } else {
            self.bytes.len()
        };
        let mut out = Vec::with_capacity(characters + 3);
        if characters < 0x7f {
            out.push(u8::try_from(characters).ok()?);
        } else {
            out.push(0x7f);
            let mut rest = characters - 0x7f;
            while rest >= 0x80 {
                out.push(u8::try_from(rest & 0x7f).ok()? | 0x80);
                rest >>= 7;
            }
            out.push(u8::try_from(rest).ok()?);
        }
        out.resize(out.len() + characters, b'x');
        Some(out)
    }
}

/// How many codes of each length (from 1 bit) appendix B has. The code is canonical: shorter codes come
/// first, and each length goes on where the one before ended. The very last, the end of a string, is left
/// out: in a string it is an error.
const CODES: [u32; 30] = [
    0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29,
    0, 3,
];

/// The number of characters in a Huffman-coded string.
fn huffman_length(bytes: &[u8]) -> Option<usize> {
    let mut bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |shift| u32::from(byte >> shift & 1)));
    let mut characters = 0;
    'character: loop {
        let (mut code, mut first) = (0_u32, 0_u32);
        for (count, length) in CODES.iter().zip(1..) {
            let Some(bit) = bits.next() else {
                // Section 5.2: what remains is padding, shorter than 8 bits and all ones.
                let padding: u32 = (1 << (length - 1)) - 1;
                return (length <= 8 && code == padding).then_some(characters);
            };
            code = code << 1 | bit;
            first <<= 1;
            if code < first + count {
                characters += 1;
                continue 'character;
            }
            first += count;
        }
        return None;
    }
}

#[cfg(test)]
mod tests;
