//! A place that may be asked: named by the operator, and nothing else is ever connected to.

use attest_tee::Artefact;
use facts::Finding;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

const AMD: &str = "https://kdsintf.amd.com";
const INTEL: &str = "https://api.trustedservices.intel.com";
/// Intel's service does not have the list of its root: it stands here.
const INTEL_ROOT_CRL: (&str, &str) = (
    "https://certificates.trustedservices.intel.com",
    "/IntelSGXRootCA.der",
);

/// Whose documents a source has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Amd,
    Intel,
}

/// A source as it is configured.
#[derive(Debug, Clone)]
pub struct SourceTerms {
    pub kind: Kind,
    /// `https://HOST[:PORT][/PREFIX]`, or `http://` and a loopback address. `None`: the vendor's own service.
    pub url: Option<String>,
    /// A PEM file of the authorities that may certify it; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// The root, as the estate names it, that its documents lead to; `None`: the vendor's own.
    pub root: Option<String>,
}

/// A source that can be asked.
pub struct Source {
    kind: Kind,
    root: Option<String>,
    base: Base,
    /// Where the list of Intel's root stands, if not beside the rest.
    root_list: Option<(Base, &'static str)>,
    tls: Arc<ClientConfig>,
}

/// Where to connect, and what comes before each path.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) host: String,
    pub(crate) port: u16,
    prefix: String,
    /// `None`: plain, to this machine.
    pub(crate) name: Option<ServerName<'static>>,
}

impl Source {
    /// Reads its authorities. Blocks; connects to nothing.
    ///
    /// # Errors
    /// `TEE-FETCH-CONFIG`.
    pub fn open(terms: &SourceTerms) -> Result<Self, Finding> {
        let (vendor, root_list) = match terms.kind {
            Kind::Amd => (AMD, None),
            Kind::Intel if terms.url.is_none() => (INTEL, Some(INTEL_ROOT_CRL)),
            Kind::Intel => (INTEL, None),
        };
        let root_list = match root_list {
            Some((url, path)) => Some((base(url)?, path)),
            None => None,
        };
        Ok(Self {
            kind: terms.kind,
            root: terms.root.clone(),
            base: base(terms.url.as_deref().unwrap_or(vendor))?,
            root_list,
            tls: Arc::new(client(terms.ca.as_ref())?),
        })
    }

    /// Whether it is asked for this document below this root.
    pub(crate) fn has(&self, artefact: &Artefact, root: Option<&str>) -> bool {
        let kind = match artefact {
            Artefact::SnpKey { .. } | Artefact::SnpCrl { .. } => Kind::Amd,
            Artefact::TcbInfo { .. }
            | Artefact::QeIdentity { .. }
            | Artefact::PckCrl { .. }
            | Artefact::IntelRootCrl => Kind::Intel,
        };
        self.kind == kind && self.root.as_deref() == root
    }

    /// Whom to ask, and for which path.
    pub(crate) fn target(&self, artefact: &Artefact) -> (&Base, String) {
        if let (Artefact::IntelRootCrl, Some((base, path))) = (artefact, &self.root_list) {
            return (base, (*path).to_owned());
        }
        let path = crate::path::of(artefact);
        (&self.base, format!("{}{path}", self.base.prefix))
    }

    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// For people.
    pub(crate) fn host(&self) -> &str {
        &self.base.host
    }
}

fn refused(what: &str, observed: &str) -> Finding {
    Finding::new("TEE-FETCH-CONFIG", format!("this is no source: {what}"))
        .expected(
            "https://HOST[:PORT][/PREFIX] without user, query or fragment; http:// for an address of this \
             machine alone, as 127.0.0.1",
        )
        .observed(observed)
        .next("correct [[tee_fetch.source]]; see docs/attestation/endorsements.md")
}

fn base(url: &str) -> Result<Base, Finding> {
    let uri: http::Uri = url.parse().map_err(|_| refused("it cannot be read", url))?;
    let authority = uri
        .authority()
        .ok_or_else(|| refused("it names no host", url))?;
    if authority.as_str().contains('@') || uri.query().is_some() || url.contains('#') {
        return Err(refused("it has more than a path", url));
    }
    let named = authority.as_str().len() > authority.host().len();
    if named && authority.port_u16().is_none() {
        return Err(refused("it has no port of TCP", url));
    }
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(refused("it is not of the web", url)),
    };
    let loopback = host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
    if !secure && !loopback {
        return Err(refused("it is neither encrypted nor on this machine", url));
    }
    let name = if secure {
        let name = ServerName::try_from(host.clone());
        Some(name.map_err(|_| refused("its host is no name", url))?)
    } else {
        None
    };
    Ok(Base {
        host,
        port: authority
            .port_u16()
            .unwrap_or(if secure { 443 } else { 80 }),
        prefix: uri.path().trim_end_matches('/').to_owned(),
        name,
    })
}

fn client(ca: Option<&PathBuf>) -> Result<ClientConfig, Finding> {
    crypto::client_trusting(ca.map(PathBuf::as_path)).map_err(|error| {
        Finding::new(
            "TEE-FETCH-CONFIG",
            "the authorities that may certify a source cannot be read",
        )
        .expected(error.expected)
        .observed(error.observed)
        .next("install ca-certificates, or name a file with `ca` under [[tee_fetch.source]]")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_addresses_of_one_service_are_sources() {
        for good in [
            AMD,
            INTEL,
            INTEL_ROOT_CRL.0,
            "https://pccs.example:8081",
            "https://mirror.example/amd/",
            "https://[2001:db8::1]:8443",
            "http://127.0.0.1:8080",
            "http://[::1]",
        ] {
            base(good).unwrap();
        }
        let prefixed = base("https://mirror.example/amd/").unwrap();
        assert_eq!((prefixed.prefix.as_str(), prefixed.port), ("/amd", 443));
        for bad in [
            "",
            "mirror.example",
            "/vcek",
            "ftp://mirror.example",
            "file:///etc/passwd",
            "http://mirror.example",
            "http://localhost",
            "http://169.254.169.254",
            "http://127.0.0.1.example",
            "https://user@mirror.example",
            "https://user:word@mirror.example",
            "https://mirror.example/?x=",
            "https://mirror.example/#x",
            "https://mirror.example:99999",
        ] {
            let refused = base(bad).map(|_| bad).unwrap_err();
            assert_eq!(refused.code, "TEE-FETCH-CONFIG", "{bad}");
        }
    }

    #[test]
    fn a_source_of_one_root_is_not_asked_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let open = |ca: Option<PathBuf>, root: Option<&str>| {
            Source::open(&SourceTerms {
                kind: Kind::Amd,
                url: None,
                ca,
                root: root.map(str::to_owned),
            })
        };
        assert_eq!(
            open(Some(ca.clone()), None).err().unwrap().code,
            "TEE-FETCH-CONFIG"
        );
        fs::write(&ca, "nothing").unwrap();
        assert_eq!(open(Some(ca), None).err().unwrap().code, "TEE-FETCH-CONFIG");
        let Ok(lab) = open(None, Some("lab")) else {
            // A machine without authorities of the web.
            return;
        };
        let list: Artefact = "snp-crl:milan".parse().unwrap();
        assert!(lab.has(&list, Some("lab")));
        assert!(!lab.has(&list, None));
        assert!(!lab.has(&"intel-root-crl".parse().unwrap(), Some("lab")));
    }
}
