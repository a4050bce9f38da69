//! What the gateway adds to one prepared point select, beside what pgbouncer adds: the three ways in turn,
//! statement by statement, so that whatever else happens meets all of them.

use crate::client::{by_files, by_svid, config, context};
use crate::peers::PgBouncer;
use crate::pgbench::{database, estate};
use crate::site::Site;
use crate::{block_on, percentile, row};
use std::time::Instant;
use testkit::bench::Plan;
use tokio_postgres::{Client, Config, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

const ADDED: &str = "gateway.added_p99_us";
pub(crate) const IDS: [&str; 1] = [ADDED];

struct Way {
    client: Client,
    select: Statement,
    micros: Vec<f64>,
}

pub(crate) fn run(plan: &Plan) {
    let postgres = database(1);
    let mut site = Site::start(&estate("*/site_bench"));
    site.start_gateway(&postgres, "bench");
    let bouncer = PgBouncer::start(&postgres, "bench", "only-for-this-run");
    let rounds = if plan.quick { 500 } else { 20_000 };
    let [mut ours, mut theirs, mut direct] = block_on(async {
        let context = context(&site.workload_api()).await;
        let svid = context.default_svid().expect("an SVID");
        let mut direct = config(postgres.port(), "peer");
        direct.password("only-for-this-run");
        let certificate = (bouncer.file("client.crt"), bouncer.file("client.key"));
        let mut ways = [
            way(by_svid(&context, svid), config(site.port(), "bench")).await,
            way(
                by_files(
                    &bouncer.file("ca.crt"),
                    Some((&certificate.0, &certificate.1)),
                ),
                config(bouncer.port, "peer"),
            )
            .await,
            way(by_files(&postgres.certificate(), None), direct).await,
        ];
        for round in 0..rounds {
            for way in &mut ways {
                let aid: i32 = round * 37 % 100_000 + 1;
                let begun = Instant::now();
                let rows = way.client.query(&way.select, &[&aid]).await.unwrap();
                let micros = begun.elapsed().as_secs_f64() * 1e6;
                assert_eq!(rows.len(), 1);
                // The first few warm caches up.
                if round >= rounds / 50 {
                    way.micros.push(micros);
                }
            }
        }
        ways.map(|way| way.micros)
    });
    let base = percentile(&mut direct, 0.99);
    row(
        ADDED,
        percentile(&mut ours, 0.99) - base,
        "us",
        Some((
            percentile(&mut theirs, 0.99) - base,
            "what pgbouncer adds to p99 of the same select",
        )),
    );
    // The medians beside it say what is usual.
    let base = percentile(&mut direct, 0.5);
    row(
        "gateway.added_p50_us",
        percentile(&mut ours, 0.5) - base,
        "us",
        Some((
            percentile(&mut theirs, 0.5) - base,
            "what pgbouncer adds to the median",
        )),
    );
}

async fn way(tls: MakeRustlsConnect, config: Config) -> Way {
    let (client, connection) = config.connect(tls).await.unwrap();
    tokio::spawn(connection);
    let select = "select abalance from pgbench_accounts where aid = $1";
    let select = client.prepare(select).await.unwrap();
    Way {
        client,
        select,
        micros: Vec::new(),
    }
}
