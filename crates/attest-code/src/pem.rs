//! PEM (RFC 7468), as far as logs and owners use it: one block, its label and its bytes.

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// The bytes of the first block, which has `label`.
pub(crate) fn decode(label: &str, text: &str) -> Option<Vec<u8>> {
    let (_, text) = text.split_once(BEGIN)?;
    let text = text.strip_prefix(label)?.strip_prefix(DASHES)?;
    let (body, rest) = text.split_once("-----END ")?;
    rest.strip_prefix(label)?.strip_prefix(DASHES)?;
    let body: String = body.split_ascii_whitespace().collect();
    crypto::base64::decode(&body).ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn a_block_is_read_under_its_own_label_only() {
        let text = "-----BEGIN PUBLIC KEY-----\nAAEC\nAwQF\n-----END PUBLIC KEY-----\n";
        assert_eq!(decode("PUBLIC KEY", text), Some(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(decode("CERTIFICATE", text), None);
        let crossed = text.replace("END PUBLIC KEY", "END CERTIFICATE");
        assert_eq!(decode("PUBLIC KEY", &crossed), None);
        for cut in 0..text.len() - 6 {
            assert_eq!(
                decode("PUBLIC KEY", text.get(..cut).unwrap()),
                None,
                "{cut}"
            );
        }
    }
}
