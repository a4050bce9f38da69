//! A registry of one image that answers as it is told to, over plain HTTP on this machine, and remembers what it was
//! asked and who said that they were.

use attest_code::image::{self, BlobDigest, Depth, Image, Layout, Platform};
use facts::Finding;
use registry::{Pulled, Reference, Registries, pull};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
pub(crate) const SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

#[derive(Clone)]
pub(crate) enum Reply {
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// A body without an end.
    Endless,
    /// A byte now and then.
    Drip,
}

impl Reply {
    pub(crate) fn good(body: &[u8]) -> Self {
        Self::Answer(200, Vec::new(), body.to_vec())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), b"no".to_vec())
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::Answer(
            307,
            vec![("Location".to_owned(), to.to_owned())],
            Vec::new(),
        )
    }

    pub(crate) fn challenge(text: &str) -> Self {
        let header = ("WWW-Authenticate".to_owned(), text.to_owned());
        Self::Answer(401, vec![header], b"who is there?".to_vec())
    }
}

type Handler = Box<dyn Fn(&Asked) -> Reply + Send>;

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<(Handler, Vec<Asked>)>>,
}

impl Service {
    pub(crate) async fn start(handler: impl Fn(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handler: Handler = Box::new(handler);
        let service = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::new(Mutex::new((handler, Vec::new()))),
        };
        let this = service.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                tokio::spawn(async move { this.serve(stream).await });
            }
        });
        service
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn answer(&self, handler: impl Fn(&Asked) -> Reply + Send + 'static) {
        self.shared.lock().unwrap().0 = Box::new(handler);
    }

    /// Since this was asked last.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.lock().unwrap().1)
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                return;
            };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let headers: BTreeMap<String, &str> = lines
            .map(|(name, value)| (name.to_lowercase(), value))
            .collect();
        let asked = Asked {
            path: head.split(' ').nth(1).unwrap().to_owned(),
            authorization: headers
                .get("authorization")
                .map(|value| (*value).to_owned()),
        };
        let reply = {
            let mut shared = self.shared.lock().unwrap();
            shared.1.push(asked.clone());
            (shared.0)(&asked)
        };
        // Whoever has enough goes away.
        drop(answer(&mut stream, reply).await);
    }
}

async fn answer(stream: &mut TcpStream, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Answer(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all(format!("{head}\r\n").as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 x\r\n\r\n").await?;
            loop {
                stream.write_all(&[b'x'; 16 * 1024]).await?;
            }
        }
        Reply::Drip => {
            stream
                .write_all(b"HTTP/1.1 200 x\r\nContent-Length: 1000\r\n\r\n")
                .await?;
            loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    stream.shutdown().await
}

pub(crate) fn digest(bytes: &[u8]) -> BlobDigest {
    BlobDigest::new(crypto::sha256(bytes))
}

/// What a repository `app` holds.
#[derive(Clone, Default)]
pub(crate) struct Repository {
    /// By digest or tag.
    pub(crate) manifests: BTreeMap<String, Vec<u8>>,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// By the digest of their subject; `None`: it does not speak of them.
    pub(crate) referrers: Option<BTreeMap<String, Vec<Value>>>,
    pub(crate) image: String,
    pub(crate) layer: String,
}

impl Repository {
    /// An image of one layer, with nothing attached.
    pub(crate) fn new() -> Self {
        let mut this = Self::default();
        let layer = this.blob(&[b'l'; 100_000], "application/vnd.oci.image.layer.v1.tar");
        this.layer = layer["digest"].as_str().unwrap().to_owned();
        let config = json!({ "rootfs": { "type": "layers", "diff_ids": [this.layer] } });
        let config = this.blob(
            config.to_string().as_bytes(),
            "application/vnd.oci.image.config.v1+json",
        );
        this.image = this.manifest(&[layer], Some(config), None, None);
        this
    }

    pub(crate) fn blob(&mut self, bytes: &[u8], media_type: &str) -> Value {
        let digest = digest(bytes).to_string();
        self.blobs.insert(digest.clone(), bytes.to_vec());
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Its digest.
    pub(crate) fn manifest(
        &mut self,
        layers: &[Value],
        config: Option<Value>,
        subject: Option<&str>,
        tag: Option<&str>,
    ) -> String {
        let config =
            config.unwrap_or_else(|| self.blob(b"{}", "application/vnd.oci.empty.v1+json"));
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        if let Some(subject) = subject {
            let size = self.manifests[subject].len();
            manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": size });
        }
        self.put(manifest.to_string().as_bytes(), tag)
    }

    pub(crate) fn put(&mut self, bytes: &[u8], tag: Option<&str>) -> String {
        let digest = digest(bytes).to_string();
        self.manifests.insert(digest.clone(), bytes.to_vec());
        if let Some(tag) = tag {
            self.manifests.insert(tag.to_owned(), bytes.to_vec());
        }
        digest
    }

    pub(crate) fn entry(&self, digest: &str, media_type: &str) -> Value {
        let size = self.manifests[digest].len();
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    /// An index of two platforms, the image for amd64.
    pub(crate) fn index(&mut self) -> String {
        let mut one = self.entry(&self.image.clone(), MANIFEST);
        let mut other = one.clone();
        one["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        other["platform"] = json!({ "os": "linux", "architecture": "arm64" });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [one, other] });
        self.put(index.to_string().as_bytes(), None)
    }

    /// A signature as cosign makes it, under its tag.
    pub(crate) fn sign(&mut self, of: &str) -> String {
        let payload = json!({ "critical": { "image": { "docker-manifest-digest": of } } });
        let mut layer = self.blob(payload.to_string().as_bytes(), SIGNING);
        layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": "AAAA" });
        let tag = format!("{}.sig", of.replace(':', "-"));
        self.manifest(&[layer], None, None, Some(&tag))
    }

    /// A bundle whose subject is the image; how a list of referrers has it.
    pub(crate) fn refer(&mut self, to: &str, text: &str) -> Value {
        let layer = self.blob(text.as_bytes(), BUNDLE);
        let digest = self.manifest(&[layer], None, Some(to), None);
        self.entry(&digest, MANIFEST)
    }

    pub(crate) fn reply(&self, asked: &Asked) -> Reply {
        let found = |map: &BTreeMap<String, Vec<u8>>, name: &str| map.get(name).cloned();
        let body = match asked
            .path
            .strip_prefix("/v2/app/")
            .and_then(|it| it.split_once('/'))
        {
            Some(("manifests", name)) => found(&self.manifests, name),
            Some(("blobs", name)) => found(&self.blobs, name),
            Some(("referrers", name)) => self.referrers.as_ref().map(|all| {
                let listed = all.get(name).cloned().unwrap_or_default();
                let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": listed });
                index.to_string().into_bytes()
            }),
            _ => None,
        };
        body.map_or(Reply::status(404), |body| Reply::good(&body))
    }
}

/// Who pulls: a file of registries, and a folder for images.
pub(crate) struct Puller {
    pub(crate) folder: TempDir,
    registries: String,
    host: String,
}

impl Puller {
    /// One registry, with these more lines.
    pub(crate) fn new(service: &Service, more: &str) -> Self {
        let host = service.address.to_string();
        let registries = format!(
            "[[registry]]\nhost = \"{host}\"\nurl = \"{}\"\n{more}",
            service.url()
        );
        Self::with(&host, registries)
    }

    pub(crate) fn with(host: &str, registries: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(&file, "reader:secret\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self {
            folder,
            registries,
            host: host.to_owned(),
        }
    }

    pub(crate) async fn pull(&self, digest: &str) -> Result<Pulled, Finding> {
        let path = self.folder.path().join("registries.toml");
        std::fs::write(&path, &self.registries).unwrap();
        let registries = Registries::open(&path)?;
        let reference = Reference::parse(&format!("{}/app@{digest}", self.host)).unwrap();
        let folder = self.folder.path().join("images");
        pull(&registries, &reference, &platform(), &folder, &|_| {}).await
    }

    pub(crate) async fn refused(&self, digest: &str) -> Finding {
        let refused = self.pull(digest).await.expect_err("it is refused");
        assert!(refused.next.is_some(), "{refused}");
        // Nothing half is left, and nothing that is not what it is called.
        for file in self.kept() {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            let bytes = std::fs::read(&file).unwrap();
            assert_eq!(format!("sha256:{name}"), digest_text(&bytes), "{refused}");
        }
        refused
    }

    pub(crate) fn kept(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder.path().join("images/blobs/sha256"));
        let files = files.into_iter().flatten();
        files.map(|file| file.unwrap().path()).collect()
    }
}

fn digest_text(bytes: &[u8]) -> String {
    digest(bytes).to_string()
}

pub(crate) fn platform() -> Platform {
    Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        variant: None,
    }
}

/// As the verifier reads it, every layer hashed.
pub(crate) fn read(pulled: &Pulled, named: &str) -> Result<Image, Finding> {
    let blobs = |digest: &BlobDigest| {
        let name = crypto::hex::encode(digest.as_bytes());
        let path = pulled.folder.join("blobs/sha256").join(name);
        std::fs::read(path).ok().map(Cow::Owned)
    };
    let layout = Layout {
        index: &pulled.index,
        blobs: &blobs,
    };
    let named = BlobDigest::parse(named).unwrap();
    image::read(&layout, named, &platform(), Depth::Layers)
}
