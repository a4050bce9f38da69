//! A small client of the wire protocol, for what psql cannot be made to send.

use crate::plane::{Plane, Svid};
use crate::world::World;
use crypto::Signer;
use std::net::SocketAddr;
use std::sync::Arc;
use svid_tls::OwnSvid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What only a gateway that says nothing uses up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);

pub(crate) type Answer = Result<Vec<String>, (String, String)>;

pub(crate) struct Client {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) process: u32,
    pub(crate) secret: u32,
    /// Of the last ReadyForQuery.
    pub(crate) status: u8,
}

pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

pub(crate) fn startup(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in pairs {
        body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    let mut out = u32::try_from(body.len() + 4)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    out.extend_from_slice(&body);
    out
}

pub(crate) async fn tls(world: &World, svid: &Svid) -> std::io::Result<TlsStream<TcpStream>> {
    tls_to(world.address, &world.plane, svid).await
}

pub(crate) async fn tls_to(
    address: SocketAddr,
    plane: &Plane,
    svid: &Svid,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = asked_for_tls(address).await?;
    let config = config(plane, svid);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(svid_tls::server_name(), tcp).await
}

/// A connection on which TLS comes next.
pub(crate) async fn asked_for_tls(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut tcp = TcpStream::connect(address).await?;
    tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
    if tcp.read_u8().await? != b'S' {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    Ok(tcp)
}

/// What `svid` connects with.
pub(crate) fn config(plane: &Plane, svid: &Svid) -> rustls::ClientConfig {
    let key: Arc<dyn Signer> = Arc::clone(&svid.key) as _;
    let own = OwnSvid::new(svid.chain.clone(), key).unwrap();
    let trust_domain = spiffe_core::TrustDomain::new(crate::plane::DOMAIN).unwrap();
    let mut bundle = spiffe_core::Bundle::new(trust_domain.clone());
    for root in plane.authority.roots() {
        bundle.add_x509_authority(root).unwrap();
    }
    let gateway = svid_tls::peer::exactly(trust_domain.identity("gateway/pg").unwrap());
    svid_tls::client(own, Arc::new(bundle), gateway).unwrap()
}

impl Client {
    pub(crate) async fn connect(world: &World, svid: &Svid) -> Self {
        Self::try_connect(world, svid, &[]).await.unwrap()
    }

    /// The first answer's error, if it is one.
    pub(crate) async fn try_connect(
        world: &World,
        svid: &Svid,
        more: &[(&str, &str)],
    ) -> Result<Self, (String, String)> {
        Self::connect_to(world.address, &world.plane, svid, more).await
    }

    pub(crate) async fn connect_to(
        address: SocketAddr,
        plane: &Plane,
        svid: &Svid,
        more: &[(&str, &str)],
    ) -> Result<Self, (String, String)> {
        let stream = tls_to(address, plane, svid)
            .await
            .map_err(|error| ("tls".to_owned(), error.to_string()))?;
        let mut client = Self {
            stream,
            process: 0,
            secret: 0,
            status: 0,
        };
        let mut pairs = vec![("user", "x"), ("database", "shop")];
        pairs.extend_from_slice(more);
        client.send(&startup(&pairs)).await;
        loop {
            let (tag, body) = client
                .receive()
                .await
                .map_err(|error| ("io".to_owned(), error.to_string()))?;
            match tag {
                b'K' => {
                    client.process = u32::from_be_bytes(body[..4].try_into().unwrap());
                    client.secret = u32::from_be_bytes(body[4..8].try_into().unwrap());
                }
                b'E' => return Err(error(&body)),
                b'Z' => return Ok(client),
                _ => {}
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let reading = async {
            let tag = self.stream.read_u8().await?;
            let length = self.stream.read_u32().await? as usize;
            let mut body = vec![0; length - 4];
            self.stream.read_exact(&mut body).await?;
            Ok((tag, body))
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        read.expect("the gateway says something")
    }

    /// Does `sql` as soon as it may: the rights in the database follow the estate a moment later.
    pub(crate) async fn once_granted(&mut self, sql: &str) {
        let granted = async {
            while self.simple(sql).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let granted = tokio::time::timeout(PATIENCE, granted).await;
        granted.expect("the rights come");
    }

    /// Every answer up to ReadyForQuery: first columns of rows, or the first error.
    pub(crate) async fn answer(&mut self) -> Answer {
        let (mut rows, mut failed) = (Vec::new(), None);
        loop {
            let (tag, body) = self
                .receive()
                .await
                .map_err(|error| ("io".to_owned(), error.to_string()))?;
            match tag {
                b'D' => {
                    let length = u32::from_be_bytes(body[2..6].try_into().unwrap()) as usize;
                    rows.push(String::from_utf8_lossy(&body[6..6 + length]).into_owned());
                }
                b'E' => failed = failed.or_else(|| Some(error(&body))),
                b'Z' => {
                    self.status = body[0];
                    return failed.map_or(Ok(rows), Err);
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn simple(&mut self, sql: &str) -> Answer {
        self.send(&message(b'Q', format!("{sql}\0").as_bytes()))
            .await;
        self.answer().await
    }

    pub(crate) async fn parse(&mut self, name: &str, sql: &str) -> Answer {
        let mut bytes = message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes());
        bytes.extend(message(b'S', b""));
        self.send(&bytes).await;
        self.answer().await
    }

    pub(crate) async fn execute(&mut self, name: &str) -> Answer {
        let mut bytes = bind("", name);
        bytes.extend(message(b'E', b"\0\0\0\0\0"));
        bytes.extend(message(b'S', b""));
        self.send(&bytes).await;
        self.answer().await
    }
}

pub(crate) fn bind(portal: &str, name: &str) -> Vec<u8> {
    let mut body = format!("{portal}\0{name}\0").into_bytes();
    body.extend_from_slice(&[0; 6]);
    message(b'B', &body)
}

pub(crate) fn error(body: &[u8]) -> (String, String) {
    let mut fields = std::collections::HashMap::new();
    for field in body
        .split(|byte| *byte == 0)
        .filter(|field| !field.is_empty())
    {
        fields.insert(field[0], String::from_utf8_lossy(&field[1..]).into_owned());
    }
    let field = |key: u8| fields.get(&key).cloned().unwrap_or_default();
    (
        field(b'C'),
        format!("{} | {} | {}", field(b'M'), field(b'D'), field(b'H')),
    )
}

pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

pub(crate) fn execute(portal: &str, rows: u32) -> Vec<u8> {
    let mut body = format!("{portal}\0").into_bytes();
    body.extend_from_slice(&rows.to_be_bytes());
    message(b'E', &body)
}
