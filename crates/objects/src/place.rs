//! Where a ledger is published: the store's address, a bucket and a prefix, and how the two are written. What is
//! accepted needs no escaping anywhere.

use facts::Finding;
use hyper::Uri;
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Of S3: a key has so many bytes at most; the longest name of a tile is short of 64.
const LONGEST_PREFIX: usize = 512;

/// What is configured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://HOST[:PORT]`, or `http://` and an address of this machine.
    pub endpoint: String,
    pub bucket: String,
    /// Names begin with it and a slash; may be empty.
    pub prefix: String,
    pub region: String,
    pub style: Style,
    /// A PEM file of the only authorities that may certify the store; the system's without it.
    pub ca: Option<PathBuf>,
    /// The environment's without it.
    pub credentials: Option<PathBuf>,
    /// For one request and its answer.
    pub timeout: Duration,
    /// With the records, or only their hashes.
    pub entries: bool,
}

/// Where a request names the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `https://HOST/BUCKET/KEY`.
    Path,
    /// `https://BUCKET.HOST/KEY`.
    Host,
}

/// Checked settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As `Host` has it.
    pub(crate) authority: String,
    /// `None`: plain, on this machine.
    pub(crate) name: Option<ServerName<'static>>,
    pub(crate) region: String,
    bucket: String,
    style: Style,
    /// Empty, or with a slash at its end.
    prefix: String,
}

impl Place {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Finding> {
        Self::parse(settings).map_err(|what| none(&what))
    }

    /// The same, for names below another prefix.
    pub(crate) fn below(&self, prefix: &str) -> Result<Self, Finding> {
        Ok(Self {
            prefix: prefix_of(prefix).map_err(|what| none(&what))?,
            ..self.clone()
        })
    }

    fn parse(settings: &Settings) -> Result<Self, String> {
        let url = &settings.endpoint;
        let wrong = |what: &str| Err(format!("`endpoint` {url:?} {what}"));
        let Ok(uri) = url.parse::<Uri>() else {
            return wrong("cannot be read");
        };
        let Some(authority) = uri.authority() else {
            return wrong("names no host");
        };
        let bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
        if authority.as_str().contains('@') || url.contains('#') || !bare {
            return wrong("has more than scheme, host and port");
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let numeric = host.parse::<IpAddr>().ok();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if numeric.is_some_and(|it| it.is_loopback()) => false,
            Some("http") => return wrong("is neither encrypted nor on this machine: use https"),
            _ => return wrong("is not of the web"),
        };
        let port = authority.port_u16();
        if authority.as_str().len() > authority.host().len() && port.is_none() {
            return wrong("has no port of TCP");
        }
        if !is_bucket(&settings.bucket) {
            return Err(format!(
                "`bucket` {:?} is not 3 to 63 of a-z, 0-9, `-` and `.`",
                settings.bucket
            ));
        }
        let prefix = prefix_of(&settings.prefix)?;
        let region = &settings.region;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if region.is_empty() || region.len() > 64 || !region.bytes().all(plain) {
            return Err(format!("`region` {region:?} is none"));
        }
        let inside = settings.style == Style::Host;
        if inside && (numeric.is_some() || settings.bucket.contains('.')) {
            return Err(
                "`style = \"host\"` needs an endpoint with a name, and a bucket without dots"
                    .to_owned(),
            );
        }
        let host = match settings.style {
            Style::Path => host,
            Style::Host => format!("{}.{host}", settings.bucket),
        };
        let Ok(name) = ServerName::try_from(host.clone()) else {
            return wrong("names no host");
        };
        let shown = match numeric {
            Some(IpAddr::V6(_)) => format!("[{host}]"),
            _ => host.clone(),
        };
        Ok(Self {
            authority: port.map_or(shown.clone(), |port| format!("{shown}:{port}")),
            port: port.unwrap_or(if secure { 443 } else { 80 }),
            name: secure.then_some(name),
            host,
            region: region.clone(),
            bucket: settings.bucket.clone(),
            style: settings.style,
            prefix,
        })
    }

    /// The key of an object.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The object's name below the prefix; `None` for one of somebody else.
    pub(crate) fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.prefix.as_str())
    }

    /// What a request asks for, as it is signed and sent. An empty key is the bucket itself.
    pub(crate) fn path(&self, key: &str) -> String {
        match (self.style, key) {
            (Style::Path, "") => format!("/{}", self.bucket),
            (Style::Path, key) => format!("/{}/{key}", self.bucket),
            (Style::Host, key) => format!("/{key}"),
        }
    }

    /// For people, and to tell places apart.
    pub(crate) fn shown(&self) -> String {
        let scheme = if self.name.is_some() { "https" } else { "http" };
        let path = self.path(&self.prefix);
        format!("{scheme}://{}{path}", self.authority)
    }
}

fn none(what: &str) -> Finding {
    Finding::new(
        "PUBLISH-PLACE",
        format!("[publish] does not name a place: {what}"),
    )
    .next("correct [publish] in server.toml; docs/operate/publishing.md has an example")
}

/// As names begin with it.
fn prefix_of(prefix: &str) -> Result<String, String> {
    if prefix.is_empty() {
        return Ok(String::new());
    }
    if is_prefix(prefix) {
        return Ok(format!("{prefix}/"));
    }
    Err(format!(
        "`prefix` {prefix:?} has an empty or dotted part, or other than letters, digits, `-`, `_`, `.` and `/`"
    ))
}

fn is_bucket(name: &str) -> bool {
    let edge = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    (3..=63).contains(&name.len())
        && edge(name.bytes().next())
        && edge(name.bytes().next_back())
        && name.bytes().all(inner)
        && !name.contains("..")
}

fn is_prefix(prefix: &str) -> bool {
    let part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    prefix.len() <= LONGEST_PREFIX && prefix.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: &str, bucket: &str, prefix: &str, style: Style) -> Settings {
        Settings {
            endpoint: endpoint.to_owned(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region: "us-east-1".to_owned(),
            style,
            ca: None,
            credentials: None,
            timeout: Duration::from_secs(1),
            entries: true,
        }
    }

    #[test]
    fn a_bucket_is_named_by_path_or_by_host() {
        let place = |style| {
            let endpoint = "https://s3.example:9000";
            Place::new(&settings(endpoint, "led-1", "example.org/server", style)).unwrap()
        };
        let path = place(Style::Path);
        assert_eq!(
            (path.authority.as_str(), path.path("a/b").as_str()),
            ("s3.example:9000", "/led-1/a/b")
        );
        assert_eq!(path.path(""), "/led-1");
        assert_eq!(path.key("checkpoint"), "example.org/server/checkpoint");
        assert_eq!(
            path.name("example.org/server/tile/0/000"),
            Some("tile/0/000")
        );
        assert_eq!(path.name("other/tile/0/000"), None);
        assert_eq!(
            path.shown(),
            "https://s3.example:9000/led-1/example.org/server/"
        );
        let host = place(Style::Host);
        assert_eq!(
            (host.authority.as_str(), host.path("a/b").as_str()),
            ("led-1.s3.example:9000", "/a/b")
        );
        let plain = Place::new(&settings("http://[::1]:9", "led", "", Style::Path)).unwrap();
        assert_eq!((plain.authority.as_str(), plain.name), ("[::1]:9", None));
    }

    #[test]
    fn what_would_need_escaping_or_show_records_in_the_clear_is_no_place() {
        let good = "https://s3.example";
        for (endpoint, bucket, prefix, style) in [
            ("", "led", "", Style::Path),
            ("s3.example", "led", "", Style::Path),
            ("http://s3.example", "led", "", Style::Path),
            ("http://localhost:9000", "led", "", Style::Path),
            ("https://u:p@s3.example", "led", "", Style::Path),
            ("https://s3.example/led", "led", "", Style::Path),
            ("https://s3.example/?x", "led", "", Style::Path),
            ("https://s3.example:99999", "led", "", Style::Path),
            ("ftp://s3.example", "led", "", Style::Path),
            (good, "", "", Style::Path),
            (good, "Led", "", Style::Path),
            (good, "-led", "", Style::Path),
            (good, "led/x", "", Style::Path),
            (good, "led..x", "", Style::Path),
            (good, "led", "/a", Style::Path),
            (good, "led", "a/", Style::Path),
            (good, "led", "a/../b", Style::Path),
            (good, "led", "a b", Style::Path),
            (good, "led", "a?b", Style::Path),
            (good, "led.x", "", Style::Host),
            ("https://192.0.2.1", "led", "", Style::Host),
        ] {
            let refused = Place::new(&settings(endpoint, bucket, prefix, style)).err();
            assert_eq!(
                refused.map(|finding| finding.code),
                Some("PUBLISH-PLACE".into()),
                "{endpoint} {bucket} {prefix}"
            );
        }
        let mut region = settings(good, "led", "", Style::Path);
        region.region = "eu/1".to_owned();
        assert!(Place::new(&region).is_err());
    }
}
