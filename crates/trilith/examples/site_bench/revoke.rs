//! From before a revocation is submitted to the end of the session at the client's socket: 100 sessions,
//! idle, in a query and in COPY, on 50 SVIDs that are revoked one after the other; four rounds.

use crate::client::{by_svid, config, context, serial};
use crate::pgbench::database;
use crate::site::{self, Site};
use crate::{percentile, row};
use futures::SinkExt as _;
use proto::v1::RevokeRequest;
use std::pin::pin;
use std::time::{Duration, Instant};
use testkit::bench::Plan;
use tokio::sync::oneshot;
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

const CUT: &str = "revoke.to_cut_p99_ms";
pub(crate) const IDS: [&str; 1] = [CUT];
/// As many as a workload may hold within its limit of 64; each has two sessions.
const IDENTITIES: usize = 50;

/// An open session of one identity.
struct Session {
    client: Client,
    /// When the socket closed.
    closed: oneshot::Receiver<Instant>,
    busy: Option<tokio::task::JoinHandle<()>>,
}

impl Session {
    /// When the socket closed.
    async fn end(self) -> Instant {
        let closed = tokio::time::timeout(Duration::from_secs(30), self.closed).await;
        drop(self.client);
        if let Some(busy) = self.busy {
            busy.await.unwrap();
        }
        closed.expect("the session is cut").unwrap()
    }
}

pub(crate) async fn run(plan: &Plan) {
    let (site, _postgres) = tokio::task::spawn_blocking(|| {
        let postgres = database(1);
        postgres
            .execute("bench", "create table notes (note text)")
            .unwrap();
        let mut site = Site::start(&estate());
        site.start_gateway(&postgres, "bench");
        (site, postgres)
    })
    .await
    .unwrap();
    let rounds = if plan.quick { 1 } else { 4 };
    let mut millis = Vec::new();
    let mut admin = site.admin().await;
    for _ in 0..rounds {
        for (serial, sessions) in open(&site).await {
            let request = RevokeRequest {
                kind: "serial".to_owned(),
                value: serial,
                reason: "the bench says so".to_owned(),
            };
            let begun = Instant::now();
            let (revoked, ended) = tokio::join!(
                admin.revoke(request),
                futures::future::join_all(sessions.into_iter().map(Session::end))
            );
            revoked.unwrap();
            millis.extend(
                ended
                    .iter()
                    .map(|at| at.duration_since(begun).as_secs_f64() * 1e3),
            );
        }
    }
    assert_eq!(millis.len(), rounds * IDENTITIES * 2);
    let recorded = site.records("server", "revocation").await;
    assert!(
        recorded.len() >= rounds * IDENTITIES,
        "{} revocations are recorded",
        recorded.len()
    );
    tokio::task::spawn_blocking(move || drop(site))
        .await
        .unwrap();
    row(CUT, percentile(&mut millis, 0.99), "ms", None);
}

fn estate() -> estate::EstateFiles {
    let (mut identities, mut policies) = (String::new(), String::new());
    for number in 0..IDENTITIES {
        let path = format!("bench/s{number:03}");
        identities.push_str(&format!(
            "[[identity]]\npath = \"{path}\"\nkind = \"service\"\nowner = \"bench\"\n"
        ));
        policies.push_str(&site::assume(&path, "*/site_bench"));
    }
    policies.push_str(
        "@id(\"notes\")\npermit (principal is Identity, action in [Action::\"select\", Action::\"insert\"], \
         resource in Schema::\"bench/public\")\nwhen { resource.classification == \"public\" };\n\
         @id(\"catalog\")\npermit (principal is Identity, action == Action::\"select\", \
         resource in Database::\"bench\")\nwhen { resource.classification == \"catalog\" };\n",
    );
    site::estate(
        "classifications = [\"public\", \"catalog\", \"restricted\"]\n",
        &identities,
        "[[database]]\nname = \"bench\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"notes\"\nclassification = \"public\"\n\
         [[database.schema]]\nname = \"pg_catalog\"\nclassification = \"catalog\"\n",
        &policies,
    )
}

/// Two sessions for each SVID: a third of all idle, a third in a query, a third in COPY.
async fn open(site: &Site) -> Vec<(String, [Session; 2])> {
    let deadline = Instant::now() + Duration::from_secs(60);
    // After the first round the agent holds renewed SVIDs within moments.
    let context = loop {
        let context = context(&site.workload_api()).await;
        if context.svids().len() == IDENTITIES {
            break context;
        }
        assert!(
            Instant::now() < deadline,
            "{} SVIDs of {IDENTITIES}",
            context.svids().len()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let mut opened = Vec::new();
    for (number, svid) in context.svids().iter().enumerate() {
        let tls = by_svid(&context, svid);
        let sessions = [
            session(site, tls.clone(), 2 * number).await,
            session(site, tls, 2 * number + 1).await,
        ];
        opened.push((serial(&context, svid), sessions));
    }
    opened
}

async fn session(site: &Site, tls: MakeRustlsConnect, number: usize) -> Session {
    let (client, connection) = config(site.port(), "bench").connect(tls).await.unwrap();
    let (tell, closed) = oneshot::channel();
    tokio::spawn(async move {
        drop(connection.await);
        let _nobody_waits = tell.send(Instant::now());
    });
    let busy = match number % 3 {
        0 => None,
        1 => {
            let query = client.batch_execute("select count(*) from generate_series(1, 2000000000)");
            // Sent when first polled, and never answered.
            let first = tokio::time::timeout(Duration::from_millis(20), query).await;
            assert!(first.is_err(), "the query ended: {first:?}");
            None
        }
        _ => {
            let sink = client
                .copy_in::<_, bytes::Bytes>("copy notes from stdin")
                .await
                .unwrap();
            Some(tokio::spawn(async move {
                let mut sink = pin!(sink);
                let note = bytes::Bytes::from_static(b"note\n");
                while sink.send(note.clone()).await.is_ok() && sink.flush().await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }))
        }
    };
    Session {
        client,
        closed,
        busy,
    }
}
