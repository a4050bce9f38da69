//! Throughput of prepared point selects: through the gateway, as reads of public data are recorded and strictly,
//! through pgbouncer, and directly; afterwards every transaction has its outcome in the ledger.

use crate::peers::PgBouncer;
use crate::site::{self, Site};
use crate::{block_on, median, row};
use std::process::Command;
use testkit::bench::Plan;
use testkit::postgres::{Options, Postgres};

const PREPARED: &str = "gateway.pgbench_prepared_16";
const DIRECT: &str = "gateway.pgbench_prepared_16_vs_direct";
const STRICT: &str = "gateway.strict_cost";
pub(crate) const IDS: [&str; 3] = [PREPARED, DIRECT, STRICT];
const PASSWORD: &str = "only-for-this-run";

/// A database that `pgbench -i` filled, and the user `peer` who may read it past the gateway.
pub(crate) fn database(scale: u32) -> Postgres {
    let options = Options {
        tcp: true,
        ..Options::default()
    };
    let postgres = Postgres::start_with(&options).unwrap();
    postgres
        .execute("postgres", "create database bench")
        .unwrap();
    let filled = Command::new(testkit::postgres_tool("pgbench").unwrap())
        .args([
            "-i",
            "-q",
            "-U",
            testkit::postgres::ADMIN,
            "-s",
            &scale.to_string(),
        ])
        .arg("-h")
        .arg(postgres.socket_folder())
        .args(["-p", &postgres.port().to_string(), "bench"])
        .output()
        .unwrap();
    assert!(
        filled.status.success(),
        "{}",
        String::from_utf8_lossy(&filled.stderr)
    );
    for sql in [
        format!("create role peer login password '{PASSWORD}'"),
        "grant select on all tables in schema public to peer".to_owned(),
    ] {
        postgres.execute("bench", &sql).unwrap();
    }
    postgres
}

/// The estate in which whoever runs a program like `path` reads what `pgbench -i` made.
pub(crate) fn estate(path: &str) -> estate::EstateFiles {
    recorded(path, "default")
}

/// As [`estate`], with `mode` in its `[recording]`.
fn recorded(path: &str, mode: &str) -> estate::EstateFiles {
    let tables: String = ["accounts", "branches", "tellers", "history"]
        .iter()
        .map(|name| format!("[[database.schema.table]]\nname = \"pgbench_{name}\"\nclassification = \"public\"\n"))
        .collect();
    site::estate(
        &format!(
            "classifications = [\"public\", \"catalog\", \"restricted\"]\n[recording]\nmode = \"{mode}\"\n"
        ),
        "[[identity]]\npath = \"bench/reader\"\nkind = \"service\"\nowner = \"bench\"\n",
        &format!(
            "[[database]]\nname = \"bench\"\n[[database.schema]]\nname = \"public\"\n{tables}\
             [[database.schema]]\nname = \"pg_catalog\"\nclassification = \"catalog\"\n"
        ),
        &format!(
            "{}\n@id(\"reads\")\npermit (principal == Identity::\"bench/reader\", action == Action::\"select\", \
             resource in Database::\"bench\")\n\
             when {{ resource.classification == \"public\" || resource.classification == \"catalog\" }};\n",
            site::assume("bench/reader", path)
        ),
    )
}

pub(crate) fn run(plan: &Plan) {
    let postgres = database(10);
    let mut site = Site::start(&estate("*/pgbench"));
    site.start_gateway(&postgres, "bench");
    let bouncer = PgBouncer::start(&postgres, "bench", PASSWORD);
    let (pairs, seconds) = if plan.quick { (1, 2) } else { (3, 20) };
    let (mut ours, mut theirs, mut direct) = (Vec::new(), Vec::new(), Vec::new());
    let mut transactions = 0;
    if plan.wants(STRICT) {
        transactions += cost_of_strict(&site, &postgres, pairs, seconds);
    }
    if !plan.wants(PREPARED) && !plan.wants(DIRECT) {
        return check(&site, transactions);
    }
    for _ in 0..pairs {
        let ran = through_gateway(&site, seconds);
        ours.push(ran.per_second);
        transactions += ran.transactions;
        theirs.push(through_bouncer(&bouncer, seconds).per_second);
        if plan.wants(DIRECT) {
            direct.push(directly(&postgres, seconds).per_second);
        }
    }
    check(&site, transactions);
    let ours = median(&mut ours);
    if plan.wants(PREPARED) {
        row(
            PREPARED,
            ours,
            "1/s",
            Some((
                median(&mut theirs),
                "pgbouncer with TLS and client certificates, session mode",
            )),
        );
    }
    if plan.wants(DIRECT) {
        row(
            DIRECT,
            ours,
            "1/s",
            Some((median(&mut direct), "PostgreSQL with TLS, directly")),
        );
    }
}

/// The same reads as they are recorded by default, strictly, and not at all; how many went through the gateway.
fn cost_of_strict(site: &Site, postgres: &Postgres, pairs: u32, seconds: u32) -> u64 {
    let change = |mode: &str| {
        let files = recorded("*/pgbench", mode);
        block_on(async { site::apply(&mut site.admin().await, &files).await });
    };
    let (mut prompt, mut strict, mut direct) = (Vec::new(), Vec::new(), Vec::new());
    let mut transactions = 0;
    for _ in 0..pairs {
        for (mode, rates) in [("default", &mut prompt), ("strict", &mut strict)] {
            change(mode);
            let ran = through_gateway(site, seconds);
            rates.push(ran.per_second);
            transactions += ran.transactions;
        }
        direct.push(directly(postgres, seconds).per_second);
    }
    change("default");
    let strict = median(&mut strict);
    for (id, rates, beside) in [
        (
            STRICT,
            &mut prompt,
            "the same, recorded within the flush interval, 1/s",
        ),
        (
            "gateway.strict_cost_vs_none",
            &mut direct,
            "PostgreSQL with TLS, directly: nothing recorded, 1/s",
        ),
    ] {
        row(id, strict, "1/s", Some((median(rates), beside)));
    }
    transactions
}

/// Each transaction has one outcome, and it is a good one.
fn check(site: &Site, transactions: u64) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let outcomes = block_on(site.records("pg-1", "outcome"));
        let selects = outcomes
            .iter()
            .filter(|record| record["body"]["tag"] == "SELECT" && record["body"]["result"] == "ok")
            .count() as u64;
        // pgbench asks the catalog a few questions of its own before each run.
        if selects >= transactions {
            assert!(
                selects <= transactions + 100,
                "{selects} outcomes of {transactions} transactions"
            );
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{selects} outcomes of {transactions} transactions"
        );
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}

struct Ran {
    per_second: f64,
    transactions: u64,
}

fn through_gateway(site: &Site, seconds: u32) -> Ran {
    let mut command = Command::new(site::binary());
    command
        .args(["exec", "--"])
        .arg(testkit::postgres_tool("pgbench").unwrap())
        .env("SPIFFE_ENDPOINT_SOCKET", site.workload_api())
        .env("TRILITH_LOG", "warn");
    bench(
        command,
        seconds,
        &format!(
            "host=127.0.0.1 port={} dbname=bench user=bench sslmode=verify-ca",
            site.port()
        ),
    )
}

fn through_bouncer(bouncer: &PgBouncer, seconds: u32) -> Ran {
    let connection = format!(
        "host=127.0.0.1 port={} dbname=bench user=peer sslmode=verify-ca sslrootcert={} sslcert={} sslkey={}",
        bouncer.port,
        bouncer.file("ca.crt").display(),
        bouncer.file("client.crt").display(),
        bouncer.file("client.key").display()
    );
    bench(
        Command::new(testkit::postgres_tool("pgbench").unwrap()),
        seconds,
        &connection,
    )
}

fn directly(postgres: &Postgres, seconds: u32) -> Ran {
    let connection = format!(
        "host=127.0.0.1 port={} dbname=bench user=peer password={PASSWORD} sslmode=verify-ca sslrootcert={}",
        postgres.port(),
        postgres.certificate().display()
    );
    bench(
        Command::new(testkit::postgres_tool("pgbench").unwrap()),
        seconds,
        &connection,
    )
}

fn bench(mut pgbench: Command, seconds: u32, connection: &str) -> Ran {
    let ran = pgbench
        .args([
            "-S",
            "-n",
            "-M",
            "prepared",
            "-s",
            "10",
            "-c",
            "16",
            "-j",
            "2",
            "-T",
            &seconds.to_string(),
        ])
        .arg(connection)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        ran.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let number = |before: &str| {
        let rest = told
            .split_once(before)
            .unwrap_or_else(|| panic!("no `{before}` in {told}"));
        rest.1.split([' ', '\n', '(']).next().unwrap()
    };
    assert!(told.contains("number of failed transactions: 0 "), "{told}");
    Ran {
        per_second: number("tps = ").parse().unwrap(),
        transactions: number("number of transactions actually processed: ")
            .parse()
            .unwrap(),
    }
}
