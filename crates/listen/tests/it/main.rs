//! Plain HTTP in the hands of those who mean no good, over real sockets.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use axum::Router;
use axum::routing::get;
use listen::{CONNECTIONS, HEAD, LONGEST_HEAD, serve_http};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What only a hung test uses up.
const PATIENCE: Duration = Duration::from_secs(60);

async fn served() -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/healthz", get(|| std::future::ready("ok")));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve_http(listener, router, stop.clone()));
    (address, stop, serving)
}

/// Everything that comes before the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said));
    drop(read.await.expect("the connection ends"));
    String::from_utf8_lossy(&said).into_owned()
}

async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may be closed before everything is written.
    drop(stream.write_all(bytes).await);
    rest(&mut stream).await
}

async fn healthy(address: SocketAddr) {
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = raw(address, request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_nobody_out() {
    let (address, ..) = served().await;
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS + 50 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    healthy(address).await;
    // Those that came first had to go, long before their time.
    for stream in silent.iter_mut().take(40) {
        assert_eq!(rest(stream).await, "");
    }
    // And while more and more come.
    let flood = tokio::spawn(async move {
        let mut held = std::collections::VecDeque::new();
        loop {
            if let Ok(stream) = TcpStream::connect(address).await {
                held.push_back(stream);
            }
            if held.len() > CONNECTIONS {
                held.pop_front();
            }
            // Each has its place for as long as a client needs on a machine that does much else.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    for _ in 0..20 {
        healthy(address).await;
    }
    assert!(!flood.is_finished());
    flood.abort();
    assert!(begun.elapsed() < HEAD, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_slowly_or_never_ends_in_time() {
    let (address, ..) = served().await;
    let slowly = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut read, mut write) = stream.split();
        let dripping = async {
            write.write_all(b"GET /healthz HTTP/1.1\r\nx-a: ").await?;
            loop {
                write.write_all(b"y").await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let mut said = Vec::new();
        tokio::select! {
            written = dripping => drop::<std::io::Result<()>>(written),
            ended = read.read_to_end(&mut said) => drop(ended),
        }
    };
    let silently = async {
        rest(&mut TcpStream::connect(address).await.unwrap()).await;
    };
    let kept = async {
        // Answered, and then nothing more is asked.
        let answer = raw(address, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    let begun = Instant::now();
    tokio::time::timeout(PATIENCE, async { tokio::join!(slowly, silently, kept) })
        .await
        .expect("all three end");
    assert!(begun.elapsed() >= HEAD - Duration::from_millis(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_larger_than_a_head() {
    let (address, ..) = served().await;
    let long = "y".repeat(4 * LONGEST_HEAD);
    for head in [
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(5_000)),
    ] {
        let answer = raw(address, head.as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // A body that says how long it is, and one that never ends: nobody takes it in.
    for head in [
        "content-length: 1000000000000",
        "transfer-encoding: chunked",
    ] {
        let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = [b"1000\r\n".as_slice(), &[b'z'; 0x1000], b"\r\n"].concat();
        let mut taken = 0_usize;
        let pushing = async {
            while stream.write_all(&chunk).await.is_ok() {
                taken += chunk.len();
            }
        };
        tokio::time::timeout(PATIENCE, pushing)
            .await
            .expect("an end");
        assert!(taken < 16 << 20, "{taken} bytes of a body were taken");
    }
    for noise in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        &[0; 10_000],
    ] {
        let answer = raw(address, noise).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    healthy(address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_nobody_who_says_nothing() {
    let (address, stop, serving) = served().await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    healthy(address).await;
    stop.cancel();
    tokio::time::timeout(HEAD, serving).await.unwrap().unwrap();
    assert_eq!(rest(&mut silent).await, "");
    assert!(TcpStream::connect(address).await.is_err());
}
