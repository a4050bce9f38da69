//! The cleartext signature framework (RFC 9580, section 7), read so that what is parsed later is exactly
//! what was signed: nothing may stand before, between or behind the two armours.

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END: &str = "-----END PGP SIGNATURE-----";
/// Debian's main archive has 150 KB.
const LARGEST: usize = 16 * 1024 * 1024;
const LARGEST_SIGNATURES: usize = 64 * 1024;

pub(super) struct Message {
    pub(super) text: String,
    /// Lines without trailing white space, ended by CR LF except the last: what is hashed.
    pub(super) canonical: Vec<u8>,
    /// Signature packets.
    pub(super) signatures: Vec<u8>,
}

impl Message {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > LARGEST {
            return Err("more than 16 MiB");
        }
        let text = str::from_utf8(bytes).map_err(|_| "bytes that are not UTF-8")?;
        let mut lines = text.lines();
        if lines.next().map(trim) != Some(BEGIN) {
            return Err("something before the message");
        }
        for header in lines.by_ref() {
            match trim(header) {
                "" => break,
                header if header.starts_with("Hash: ") => {}
                _ => return Err("a header that is not Hash"),
            }
        }
        let mut signed = Vec::new();
        loop {
            let line = trim(lines.next().ok_or("no signature")?);
            if line == SIGNATURE {
                break;
            }
            signed.push(match line.strip_prefix("- ") {
                Some(escaped) => escaped,
                None if line.starts_with('-') => return Err("a line with an unescaped dash"),
                None => line,
            });
        }
        let signatures = armoured(&mut lines)?;
        if lines.any(|line| !trim(line).is_empty()) {
            return Err("something behind the signature");
        }
        let canonical = signed.join("\r\n").into_bytes();
        let mut text = signed.join("\n");
        text.push('\n');
        Ok(Self {
            text,
            canonical,
            signatures,
        })
    }
}

/// Trailing white space is not part of what is signed.
fn trim(line: &str) -> &str {
    line.trim_end_matches([' ', '\t', '\r'])
}

/// Base 64 up to the end of the armour; the checksum is skipped, as RFC 9580 allows.
fn armoured<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Result<Vec<u8>, &'static str> {
    let mut body = String::new();
    let mut headers = true;
    loop {
        let line = trim(lines.next().ok_or("a signature without an end")?);
        if line == END {
            break;
        }
        if headers {
            // `Comment: …`; an empty line ends them, and there may be none.
            if line.is_empty() {
                headers = false;
                continue;
            }
            if line.contains(": ") {
                continue;
            }
            headers = false;
        }
        if !line.starts_with('=') {
            body.push_str(line);
        }
        if body.len() > LARGEST_SIGNATURES {
            return Err("signatures of more than 64 KiB");
        }
    }
    crypto::base64::decode(&body).map_err(|_| "a signature that is not base 64")
}
