//! Those who come in numbers and say nothing, or next to nothing: nobody else is kept out.

use crate::client::{Client, asked_for_tls, config, startup, tls};
use crate::world::{World, skipped};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Time in which the world's clients have to have said everything.
const HANDSHAKE: Duration = Duration::from_secs(6);
/// The world's places for handshakes.
const PLACES: usize = 20;

/// Silent connections without end, from the address that everybody here has: so many that they take all places again
/// and again, and so few that each has its place for a client's time.
fn flood(world: &World) -> tokio::task::JoinHandle<()> {
    let address = world.address;
    tokio::spawn(async move {
        let mut held = VecDeque::new();
        loop {
            if let Ok(stream) = TcpStream::connect(address).await {
                held.push_back(stream);
            }
            if held.len() > 10 * PLACES {
                held.pop_front();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

/// Waits until the other side ends it; how long that took since `begun`.
async fn ended(stream: &mut (impl tokio::io::AsyncRead + Unpin), begun: Instant) -> Duration {
    let mut said = Vec::new();
    let reading = stream.read_to_end(&mut said);
    let _reset = tokio::time::timeout(Duration::from_secs(60), reading)
        .await
        .expect("the connection is ended");
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_nobody_out() {
    if skipped("silent_connections_keep_nobody_out") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    // Its role is made before it counts.
    Client::connect(&world, &payments).await;
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..10 * PLACES {
        silent.push(TcpStream::connect(world.address).await.unwrap());
    }
    let mut client = Client::connect(&world, &payments).await;
    assert_eq!(client.simple("SELECT 1").await.unwrap(), ["1"]);
    assert!(
        begun.elapsed() < HANDSHAKE,
        "the silent ones are still there"
    );
    // Those that came first gave way; the last have their time.
    ended(&mut silent[0], begun).await;
    assert!(begun.elapsed() < HANDSHAKE);

    let flood = flood(&world);
    for _ in 0..10 {
        let mut client = Client::connect(&world, &payments).await;
        assert_eq!(client.simple("SELECT 1").await.unwrap(), ["1"]);
    }
    assert!(!flood.is_finished());
    flood.abort();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deadline_counts_over_all_that_a_client_says() {
    if skipped("one_deadline_counts_over_all_that_a_client_says") {
        return;
    }
    let world = World::start().await;
    let svid = world.plane.issue("payments/api");
    let step = HANDSHAKE * 3 / 5;
    let in_time = HANDSHAKE - Duration::from_millis(50)..HANDSHAKE + step / 2;
    // As TLS begins, and goes on for longer than anybody waits.
    let hello = [22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]
        .into_iter()
        .chain([0; 100]);
    // A byte now and then: each stage alone is well within its time.
    let dripping = async {
        let begun = Instant::now();
        let mut tcp = TcpStream::connect(world.address).await.unwrap();
        let (mut read, mut write) = tcp.split();
        let drip = async {
            for byte in [0, 0, 0, 8, 4, 210, 22, 47].into_iter().chain(hello) {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(HANDSHAKE / 12).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            took = ended(&mut read, begun) => took,
            () = drip => unreachable!(),
        }
    };
    // TLS is asked for late, and then not begun.
    let late_for_tls = async {
        let begun = Instant::now();
        let mut tcp = TcpStream::connect(world.address).await.unwrap();
        tokio::time::sleep(step).await;
        tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
        ended(&mut tcp, begun).await
    };
    // TLS is established late, and then nothing is said under it.
    let late_under_tls = async {
        let begun = Instant::now();
        let tcp = asked_for_tls(world.address).await.unwrap();
        tokio::time::sleep(step).await;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config(&world.plane, &svid)));
        let mut tls = connector
            .connect(svid_tls::server_name(), tcp)
            .await
            .unwrap();
        ended(&mut tls, begun).await
    };
    let (drip, tcp, tls) = tokio::join!(dripping, late_for_tls, late_under_tls);
    for took in [drip, tcp, tls] {
        assert!(in_time.contains(&took), "{took:?} is not in {in_time:?}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_shown_an_svid_gives_way_to_no_stranger() {
    if skipped("whoever_has_shown_an_svid_gives_way_to_no_stranger") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    drop(Client::connect(&world, &payments).await);
    // From now on a login at the database takes a second, in which the flood fills every place twice.
    world.slow_logins();
    let flood = flood(&world);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut client = Client::connect(&world, &payments).await;
    assert_eq!(client.simple("SELECT 1").await.unwrap(), ["1"]);
    assert!(!flood.is_finished());
    flood.abort();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_begins_without_end_keeps_no_other_out() {
    if skipped("an_identity_that_begins_without_end_keeps_no_other_out") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let agent = world.plane.issue("agents/helper");
    Client::connect(&world, &payments).await;
    let begun = Instant::now();
    let mut silent = Vec::new();
    let mut waiting = tls(&world, &payments).await.unwrap();
    for _ in 0..PLACES + 10 {
        silent.push(tls(&world, &agent).await.unwrap());
    }
    // The first of the many had to give way and is told; whoever had one place still has it.
    let mut said = Vec::new();
    silent[0].read_to_end(&mut said).await.unwrap();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("53300"), "{said}");
    let hello = startup(&[("user", "x"), ("database", "shop")]);
    waiting.write_all(&hello).await.unwrap();
    waiting.flush().await.unwrap();
    assert_eq!(waiting.read_u8().await.unwrap(), b'R', "it is admitted");
    assert!(begun.elapsed() < HANDSHAKE, "{:?}", begun.elapsed());
    Client::connect(&world, &payments).await;
    world.stop().await;
}
