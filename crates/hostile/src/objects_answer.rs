//! What an object store answers: a listing, and the code of an error. It says which objects may be removed, and
//! stands in what people read, so that nothing but plain words may come of it.

use objects::{error_code, listed_keys};

/// Each key is plain and stands in a `<Key>` of the answer, in its order; a code is one word of it.
pub(crate) fn answer(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut rest = text.as_ref();
    for key in listed_keys(&text) {
        assert!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(!key.contains(['<', '&']));
        let element = format!("<Key>{key}</Key>");
        let at = rest
            .find(&element)
            .expect("it stands there, after the last");
        rest = rest.split_at(at + element.len()).1;
    }
    if let Some(code) = error_code(&text) {
        assert!(code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(text.contains(&format!("<Code>{code}</Code>")));
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let listing = |keys: &[&str]| {
        let contents: String = keys
            .iter()
            .map(|key| format!("<Contents><Key>{key}</Key><Size>5</Size></Contents>"))
            .collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><Name>led</Name>\
             <IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        )
    };
    [
        listing(&[]),
        listing(&["a/tile/0/000.p/5", "a/tile/0/000.p/17"]),
        listing(&["a&amp;b", "c d", "<Key>e"]),
        "<Error><Code>NoSuchBucket</Code><Message>x</Message></Error>".to_owned(),
        "<Error><Code>No <Code>A</Code>".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}
