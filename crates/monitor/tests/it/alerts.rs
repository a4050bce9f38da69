//! Alerts: each reaches its webhook at least once, in order and signed, and what waits is bounded.

use crate::support::{Answer, Log, Site, WATCH, at, config, issuance};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use monitor::{Alert, Config, Ended, Failure, Monitor, Told, watch};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

const SECRET: &str = "sixteen bytes or more";

#[derive(Default)]
struct Taken {
    /// What is answered, the last first; then 204.
    answers: Mutex<Vec<u16>>,
    got: Mutex<Vec<(String, Vec<u8>)>>,
}

struct Hook {
    url: String,
    taken: Arc<Taken>,
    _server: tokio::task::JoinSet<()>,
}

impl Hook {
    async fn new(answers: &[u16]) -> Self {
        let taken = Arc::new(Taken::default());
        *taken.answers.lock().unwrap() = answers.iter().rev().copied().collect();
        let router = Router::new()
            .route("/hook", post(take))
            .with_state(Arc::clone(&taken));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            taken,
            _server: server,
        }
    }

    fn got(&self) -> Vec<Alert> {
        let got = self.taken.got.lock().unwrap();
        got.iter()
            .map(|(_, body)| serde_json::from_slice(body).unwrap())
            .collect()
    }

    fn ids(&self) -> Vec<String> {
        self.got().into_iter().map(|alert| alert.id).collect()
    }

    fn config(&self, folder: &Path, site: &Site, queue: u32) -> Config {
        let secret = folder.join("secret");
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let rest = format!(
            "[webhook]\nurl = \"{}\"\nsecret_file = \"{}\"\nqueue = {queue}\n{WATCH}",
            self.url,
            secret.display()
        );
        config(folder, &[site.url()], "", &rest)
    }
}

async fn take(State(taken): State<Arc<Taken>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let signature = headers["trilith-signature"].to_str().unwrap().to_owned();
    taken.got.lock().unwrap().push((signature, body.to_vec()));
    let answer = taken.answers.lock().unwrap().pop();
    StatusCode::from_u16(answer.unwrap_or(204)).unwrap()
}

/// Records of theirs where they may not be.
fn theirs(count: u64) -> Log {
    let mut log = Log::default();
    for seq in 0..count {
        log.push(issuance(seq, "payments/api", "m2"));
    }
    log
}

async fn once(config: Config) -> Result<Ended, Failure> {
    watch(config, true, CancellationToken::new(), |_| ()).await
}

#[tokio::test]
async fn alerts_reach_the_webhook_in_order_and_signed() {
    let site = Site::new(theirs(3)).await;
    let hook = Hook::new(&[500, 302]).await;
    let folder = tempfile::tempdir().unwrap();
    let ended = once(hook.config(folder.path(), &site, 10)).await.unwrap();
    assert_eq!(ended, Ended::Quiet);
    let id = |n| format!("example.org/server:{n}:payments");
    // The first one was refused twice.
    assert_eq!(hook.ids(), [id(0), id(0), id(0), id(1), id(2)]);
    for (signature, body) in hook.taken.got.lock().unwrap().iter() {
        let (time, mac) = signature
            .strip_prefix("t=")
            .unwrap()
            .split_once(",v1=")
            .unwrap();
        let signed = [time.as_bytes(), b".", body].concat();
        let expected = crypto::hmac_sha256(SECRET.as_bytes(), &signed);
        assert_eq!(mac, crypto::hex::encode(&expected));
    }
    // None of them again.
    assert_eq!(
        once(hook.config(folder.path(), &site, 10)).await.unwrap(),
        Ended::Quiet
    );
    assert_eq!(hook.ids().len(), 5);
}

#[tokio::test]
async fn what_a_webhook_does_not_take_waits_for_the_next_run() {
    let site = Site::new(theirs(2)).await;
    let hook = Hook::new(&[500; 3]).await;
    let folder = tempfile::tempdir().unwrap();
    let failure = once(hook.config(folder.path(), &site, 10))
        .await
        .unwrap_err();
    assert_eq!(failure.finding().code, "MONITOR-WEBHOOK");
    assert!(matches!(failure, Failure::Local(_)));
    assert_eq!(
        once(hook.config(folder.path(), &site, 10)).await.unwrap(),
        Ended::Quiet
    );
    assert_eq!(hook.ids().last().unwrap(), "example.org/server:1:payments");
    assert_eq!(hook.ids().len(), 5);
}

#[tokio::test]
async fn a_full_queue_keeps_the_records_waiting_and_none_is_left_out() {
    let site = Site::new(theirs(2500)).await;
    let hook = Hook::new(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut monitor = Monitor::open(hook.config(folder.path(), &site, 5)).unwrap();
    let mut told = 0;
    for round in 0..3 {
        let seen = monitor.round(at(round)).await.unwrap();
        // The head is held to what was seen all the same.
        assert_eq!(seen.size, 2500);
        assert_eq!(
            u64::try_from(told + monitor.waiting().len()).unwrap(),
            seen.looked
        );
        assert!(monitor.waiting().len() <= 1024 && seen.looked <= 1024 * (round + 1));
        told += monitor.waiting().len();
        monitor.taken(usize::MAX).unwrap();
    }
    assert_eq!(told, 2500);
}

#[tokio::test]
async fn a_monitor_that_dies_after_it_sent_sends_again_and_nothing_is_lost() {
    let site = Site::new(theirs(1)).await;
    let hook = Hook::new(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut monitor = Monitor::open(hook.config(folder.path(), &site, 5)).unwrap();
    monitor.round(at(0)).await.unwrap();
    let name = ledger::witness::origin_hash(crate::support::ORIGIN).to_string();
    let state = folder.path().join("state").join(name);
    let before = std::fs::read(&state).unwrap();
    monitor.send(at(0)).await.unwrap();
    drop(monitor);
    // As it is on the disk if the process ends before it has written that the alert was taken.
    std::fs::write(&state, before).unwrap();
    let mut monitor = Monitor::open(hook.config(folder.path(), &site, 5)).unwrap();
    monitor.send(at(1)).await.unwrap();
    assert!(monitor.waiting().is_empty());
    let ids = hook.ids();
    assert_eq!(ids.len(), 2);
    assert_eq!(
        ids[0], ids[1],
        "whoever takes it can tell that it is the same"
    );
}

#[tokio::test]
async fn without_a_webhook_it_ends_with_what_it_tells() {
    let site = Site::new(theirs(2)).await;
    let folder = tempfile::tempdir().unwrap();
    let plain = || config(folder.path(), &[site.url()], "", WATCH);
    let mut told = 0;
    let looking = watch(plain(), false, CancellationToken::new(), |it| {
        told += usize::from(matches!(it, Told::Alert(_)));
    });
    assert_eq!(looking.await.unwrap(), Ended::Unexpected(2));
    assert_eq!(told, 2);
    assert_eq!(once(plain()).await.unwrap(), Ended::Quiet);
    site.lie(Some(Box::new(|_, _| Answer::Endless)));
    assert!(matches!(once(plain()).await, Err(Failure::Broken(_))));
}

#[tokio::test]
async fn a_secret_that_others_read_and_an_address_in_the_clear_are_refused() {
    let site = Site::new(theirs(1)).await;
    let hook = Hook::new(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let refused = |config: Config| match Monitor::open(config).map(drop) {
        Err(Failure::Local(finding)) => finding.code.into_owned(),
        other => panic!("{other:?}"),
    };
    let config = || hook.config(folder.path(), &site, 5);
    let secret = folder.path().join("secret");
    let asked = config();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(refused(asked), "MONITOR-SECRET");
    let asked = config();
    std::fs::write(&secret, "short").unwrap();
    assert_eq!(refused(asked), "MONITOR-SECRET");
    for url in [
        "http://192.0.2.1/hook",
        "http://localhost/hook",
        "ftp://127.0.0.1/",
        "https://a@b/",
        "hook",
    ] {
        let mut asked = config();
        asked.webhook.as_mut().unwrap().url = url.to_owned();
        assert_eq!(refused(asked), "MONITOR-ADDRESS", "{url}");
    }
}

/// Whatever becomes of the webhook: whoever looks at the exit code hears of the fork, and the alert waits.
#[tokio::test]
async fn a_fork_is_told_by_how_it_ends_also_where_no_webhook_takes_it() {
    let site = Site::new(Log::new("a", 20)).await;
    let hook = Hook::new(&[500; 3]).await;
    let folder = tempfile::tempdir().unwrap();
    let first = once(hook.config(folder.path(), &site, 10)).await.unwrap();
    assert_eq!(first, Ended::Quiet);
    site.change(|log| *log = Log::new("b", 30));
    let ended = once(hook.config(folder.path(), &site, 10)).await;
    assert!(matches!(ended, Err(Failure::Misbehaved(..))), "{ended:?}");
    let ended = once(hook.config(folder.path(), &site, 10)).await;
    assert!(matches!(ended, Err(Failure::Misbehaved(..))), "{ended:?}");
    let got = hook.got();
    assert_eq!(got.len(), 4, "three times refused, and taken once");
    assert_eq!(got[3].finding.code, "MONITOR-FORK");
    assert_eq!(got[3].kind, monitor::Kind::Misbehaviour);
}
