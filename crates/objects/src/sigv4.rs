//! AWS Signature Version 4 of a request to S3: the whole body is hashed, and each header that is sent is signed.
//! No I/O.

use crate::credentials::Credentials;
use crypto::{Zeroizing, hex, hmac_sha256, sha256};

/// A moment as signatures have it: `20130524T000000Z`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp(String);

impl Stamp {
    /// `time` of RFC 3339 in UTC, with or without a fraction.
    pub(crate) fn new(time: &str) -> Self {
        let whole = time.split(['.', 'Z']).next().unwrap_or_default();
        let digits = whole.chars().filter(|it| !matches!(it, '-' | ':'));
        Self(digits.chain(['Z']).collect())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn day(&self) -> &str {
        self.0.get(..8).unwrap_or_default()
    }
}

/// What is signed of a request. INVARIANT: path and query are percent-encoded as S3 canonicalizes them, the query's
/// parameters and the headers are in the order of their names, and the names in lower case.
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a [(&'a str, String)],
    /// Hexadecimal SHA-256 of the body.
    pub(crate) payload: &'a str,
}

impl Signed<'_> {
    /// The value of `Authorization`.
    pub(crate) fn authorization(
        &self,
        credentials: &Credentials,
        region: &str,
        stamp: &Stamp,
    ) -> String {
        let scope = format!("{}/{region}/s3/aws4_request", stamp.day());
        let text = format!(
            "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
            stamp.as_str(),
            hex::encode(&sha256(self.canonical().as_bytes())),
        );
        let key = key(credentials.secret.expose(), stamp.day(), region);
        let signature = hex::encode(&hmac_sha256(key.as_ref(), text.as_bytes()));
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={},Signature={signature}",
            credentials.id,
            self.names(),
        )
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        names.join(";")
    }

    fn canonical(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.method, self.path, self.query);
        for (name, value) in self.headers {
            text.push_str(&format!("{name}:{}\n", value.trim()));
        }
        text.push_str(&format!("\n{}\n{}", self.names(), self.payload));
        text
    }
}

/// Of one day, region and service; wiped like the secret that it comes from.
fn key(secret: &[u8], day: &str, region: &str) -> Zeroizing<[u8; 32]> {
    let first = Zeroizing::new([b"AWS4", secret].concat());
    let mut key = Zeroizing::new(hmac_sha256(&first, day.as_bytes()));
    for part in [region, "s3", "aws4_request"] {
        key = Zeroizing::new(hmac_sha256(key.as_ref(), part.as_bytes()));
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of "Signature Calculations for the Authorization Header", Amazon S3 API Reference.
    #[test]
    fn signs_as_the_examples_of_the_specification() {
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
        );
        let stamp = Stamp::new("2013-05-24T00:00:00.000Z");
        assert_eq!(stamp.as_str(), "20130524T000000Z");
        let header = |name, value: &str| (name, value.to_owned());
        let empty = hex::encode(&sha256(b""));
        let host = header("host", "examplebucket.s3.amazonaws.com");
        let date = header("x-amz-date", stamp.as_str());
        let hash = |of: &str| header("x-amz-content-sha256", of);
        let welcome = hex::encode(&sha256(b"Welcome to Amazon S3."));
        let plain = [host.clone(), hash(&empty), date.clone()];
        let ranged = [
            host.clone(),
            header("range", "bytes=0-9"),
            hash(&empty),
            date.clone(),
        ];
        let put = [
            header("date", "Fri, 24 May 2013 00:00:00 GMT"),
            host,
            hash(&welcome),
            date,
            header("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        let check = |method, path, query, headers: &[_], payload: &str, expected: &str| {
            let signed = Signed {
                method,
                path,
                query,
                headers,
                payload,
            };
            let value = signed.authorization(&credentials, "us-east-1", &stamp);
            let start = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=";
            assert!(value.starts_with(start), "{value}");
            assert!(
                value.ends_with(&format!(",Signature={expected}")),
                "{value}"
            );
        };
        check(
            "GET",
            "/test.txt",
            "",
            &ranged,
            &empty,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        );
        check(
            "PUT",
            "/test%24file.text",
            "",
            &put,
            &welcome,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        );
        check(
            "GET",
            "/",
            "lifecycle=",
            &plain,
            &empty,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        );
        check(
            "GET",
            "/",
            "max-keys=2&prefix=J",
            &plain,
            &empty,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        );
    }
}
