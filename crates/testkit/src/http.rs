//! Those who mean no good by a plain HTTP listener, over real sockets. It has to serve `/healthz`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// More than any of our listeners takes at once.
const MANY: usize = 320;
/// A head has to have come within this time.
const HEAD: Duration = Duration::from_secs(8);
/// Only a hung listener needs so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What comes back to `bytes` before the connection ends. Panics if it does not.
#[must_use]
pub fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    // The other side may end it before everything is written.
    let _cut = stream.write_all(bytes);
    rest(&mut stream)
}

/// Besieges the listener at `address`; panics when it does not bear it. Takes some ten seconds.
pub fn besiege(address: SocketAddr) {
    healthy(address);
    slow_heads_end(address);
    silence_keeps_nobody_out(address);
    what_is_malformed_or_too_large_is_not_answered(address);
    healthy(address);
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE);
    assert!(stream.is_ok(), "the listener is gone: {stream:?}");
    let stream = stream.unwrap_or_else(|_| unreachable!());
    assert!(stream.set_read_timeout(Some(PATIENCE)).is_ok());
    assert!(stream.set_write_timeout(Some(PATIENCE)).is_ok());
    stream
}

fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let ended = stream.read_to_end(&mut said);
    let late = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!late, "the connection does not end");
    String::from_utf8_lossy(&said).into_owned()
}

fn healthy(address: SocketAddr) {
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = raw(address, request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
}

fn slow_heads_end(address: SocketAddr) {
    let begun = Instant::now();
    let mut silent = connect(address);
    let mut slow = connect(address);
    let head = slow.write_all(b"GET /healthz HTTP/1.1\r\nx-a: ");
    assert!(head.is_ok(), "{head:?}");
    while slow.write_all(b"y").is_ok() {
        assert!(begun.elapsed() < HEAD, "a head may come for ever");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(rest(&mut silent), "");
    assert!(begun.elapsed() < HEAD, "silence may last for ever");
}

fn silence_keeps_nobody_out(address: SocketAddr) {
    let begun = Instant::now();
    let mut silent: Vec<_> = (0..MANY).map(|_| connect(address)).collect();
    for _ in 0..5 {
        healthy(address);
    }
    // The first had to go, and not because its time was over.
    assert_eq!(silent.first_mut().map(rest).as_deref(), Some(""));
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
}

fn what_is_malformed_or_too_large_is_not_answered(address: SocketAddr) {
    let long = "y".repeat(256 << 10);
    let many = "x: y\r\n".repeat(50_000);
    for bytes in [
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n").as_bytes(),
        format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes(),
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc",
        b"GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        &[0; 10_000],
        &[0xff; 10_000],
    ] {
        let answer = raw(address, bytes);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // A body without end is taken in by nobody.
    let mut stream = connect(address);
    let head = b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000000\r\n\r\n";
    assert!(stream.write_all(head).is_ok());
    let mut taken = 0;
    while stream.write_all(&[b'z'; 4096]).is_ok() {
        taken += 4096;
        assert!(taken < 16 << 20, "{taken} bytes of a body were taken");
    }
}
