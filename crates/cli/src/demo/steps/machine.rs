//! Steps 1 to 3: server, estate, machine, programs.

use crate::demo::database::Database;
use crate::demo::emulated_tpm::EmulatedTpm;
use crate::demo::estate::{self, References};
use crate::demo::site::{PATIENCE, Site};
use crate::demo::story::{Detail, Story};
use crate::demo::workload::Workload;
use ::estate::EstateFiles;
use anyhow::Context as _;
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

/// What is in the shop.
const SHOP: &str = "
create table cards (id int primary key, holder text not null, number text not null);
create table customers (id int primary key, email text not null);
create table orders (id serial primary key, customer int not null, product int not null, amount numeric not null);
create table products (id int primary key, name text not null, price numeric not null);
create view card_holders as select holder from cards;
create view order_totals as select product, sum(amount) as total from orders group by product;
create function first_card() returns text language sql security definer as 'select number from cards order by id limit 1';
insert into cards select n, 'holder ' || n, '4000-0000-' || n from generate_series(1, 20) n;
insert into customers select n, 'c' || n || '@example.org' from generate_series(1, 20) n;
insert into products select n, 'product ' || n, n * 10 from generate_series(1, 50) n;
insert into orders (customer, product, amount) select n % 20 + 1, n % 50 + 1, n from generate_series(1, 200) n;
";

pub(crate) async fn server_and_estate(
    story: &mut Story,
    site: &mut Site,
) -> anyhow::Result<EstateFiles> {
    let (directory, logs) = (site.path("postgres"), site.logs());
    let started = Instant::now();
    let mut database =
        tokio::task::spawn_blocking(move || Database::start(&directory, &logs)).await??;
    let ready = database.probe();
    database
        .daemon
        .wait_until(PATIENCE, async || ready())
        .await?;
    database.superuser("postgres", "create role trilith_gateway login createrole")?;
    database.superuser("postgres", "create database shop owner trilith_gateway")?;
    database.superuser("shop", SHOP)?;
    database.superuser("shop", "grant all on schema public to trilith_gateway; grant all on all tables in schema public to trilith_gateway with grant option; grant all on all sequences in schema public to trilith_gateway with grant option")?;
    let version = database.superuser("shop", "show server_version")?;
    site.database = Some(database);
    story.step(
        "database",
        true,
        "a private PostgreSQL runs; nothing but its socket leads to it",
        &Detail::new()
            .with("postgresql", version.trim())
            .with("ms", millis(started)),
    );

    let waited = site.start_server().await?;
    let status = site.trilith.run(&["status"]).await?.ok()?.json()?;
    story.step(
        "server",
        status.pointer("/ledger/size").and_then(Value::as_u64) > Some(0),
        "the server started: root and issuing keys made, the ledger begins",
        &Detail::new()
            .with("ms", ms(waited))
            .with("ledger", text(&status, "/ledger/origin"))
            .with("records", number(&status, "/ledger/size"))
            .with("root", text(&status, "/ledger/root")),
    );

    let files = references(site).await?;
    let directory = site.path("estate");
    crate::commands::estate::write(&files, &directory)
        .map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let path = directory.display().to_string();
    let plan = site.trilith.run(&["estate", "plan", &path]).await?;
    let planned = plan.json()?;
    story.step(
        "estate-plan",
        plan.code == 0 && planned.pointer("/applicable") == Some(&Value::Bool(true)),
        "the estate compiles, its tests pass and its invariants are proved",
        &Detail::new()
            .with("version", text(&planned, "/version"))
            .with(
                "tests",
                planned
                    .get("tests")
                    .and_then(Value::as_array)
                    .map_or(0, Vec::len),
            )
            .with("proof_ms", number(&planned, "/proof_millis")),
    );
    let applied = site
        .trilith
        .run(&["estate", "apply", &path, "--message", "the shop"])
        .await?
        .ok()?
        .json()?;
    story.step(
        "estate-apply",
        applied.get("index").is_some(),
        "it is current, and recorded",
        &Detail::new()
            .with("index", number(&applied, "/index"))
            .with("proof_index", number(&applied, "/proof_index")),
    );
    Ok(files)
}

/// Starts the TPM and takes the digests of the programs: what good looks like here.
async fn references(site: &mut Site) -> anyhow::Result<EstateFiles> {
    if site.device.is_none() {
        let (directory, logs) = (site.path("tpm"), site.logs());
        let mut tpm =
            tokio::task::spawn_blocking(move || EmulatedTpm::start(&directory, &logs)).await??;
        let socket = tpm.socket().to_owned();
        tpm.daemon
            .wait_until(PATIENCE, async || {
                std::os::unix::net::UnixStream::connect(&socket).is_ok()
            })
            .await?;
        site.tpm = Some(tpm);
    }
    let shown = site
        .trilith
        .run(&["tpm", "show", "--tpm", &address(site)])
        .await?
        .ok()?
        .json()?;
    let database = site.database.as_ref().context("there is no database")?;
    let mut code = Vec::new();
    for (name, program) in [
        (
            "payments-api",
            site.install("payments-api", "payments-api")?,
        ),
        (
            "reporting-nightly",
            site.install("reporting-nightly", "reporting-nightly")?,
        ),
        ("agents-helper", site.install("ai-agent", "ai-agent")?),
        ("psql", database.psql()),
    ] {
        code.push((name, digest(&program)?));
    }
    Ok(estate::files(&References {
        uid: rustix::process::geteuid().as_raw(),
        ek_sha256: text(&shown, "/ek_sha256"),
        emulated_root: site.tpm.as_ref().map(EmulatedTpm::root_pem).transpose()?,
        code,
    }))
}

fn address(site: &Site) -> String {
    match (&site.device, &site.tpm) {
        (Some(device), _) => format!("device:{}", device.display()),
        (None, Some(tpm)) => tpm.address(),
        (None, None) => String::new(),
    }
}

pub(crate) async fn join(story: &mut Story, site: &mut Site) -> anyhow::Result<String> {
    let status = site.trilith.run(&["status"]).await?.ok()?.json()?;
    let pin = text(&status, "/pin");
    let waited = site.start_agent(&pin, &address(site)).await?;
    let agents = site.trilith.run(&["agent", "list"]).await?.ok()?.json()?;
    let index = number(&agents, "/agents/0/verdict");
    let verdict = site
        .trilith
        .run(&["attest", "explain", &index.to_string()])
        .await?
        .ok()?
        .json()?;
    let facts = facts_of(&verdict);
    let states = |start: &str| facts.iter().any(|fact| fact.starts_with(start));
    // A private TPM says that it is emulated; one in the machine must not.
    let kind = states("machine.tpm.kind=emulated") == site.device.is_none();
    story.step(
        "join",
        text(&agents, "/agents/0/joined_by") == "tpm"
            && kind
            && (states("machine.boot.state=unknown") || site.device.is_some()),
        "the machine joined by TPM: key activated, quote fresh, identity key certified",
        &Detail::new()
            .with("node", text(&agents, "/agents/0/node"))
            .with("ms", ms(waited))
            .with("verdict", index)
            .with("facts", facts),
    );
    Ok(pin)
}

/// `name=value (source)` of each fact in a verdict.
fn facts_of(verdict: &Value) -> Vec<String> {
    let facts = verdict
        .pointer("/verdict/facts")
        .or_else(|| verdict.pointer("/facts"))
        .unwrap_or(&Value::Null);
    let one = |fact: &Value| {
        let value = fact.get("value").unwrap_or(&Value::Null);
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        format!(
            "{}={value} ({})",
            text(fact, "/name"),
            text(fact, "/source")
        )
    };
    match facts {
        Value::Array(facts) => facts.iter().map(one).collect(),
        Value::Object(facts) => facts.values().map(one).collect(),
        _ => Vec::new(),
    }
}

pub(crate) async fn programs(story: &mut Story, site: &mut Site) -> anyhow::Result<()> {
    let socket = site.workload_api();
    for (name, identity) in [
        ("payments-api", "payments/api"),
        ("reporting-nightly", "reporting/nightly"),
        ("ai-agent", "agents/helper"),
    ] {
        let started = Instant::now();
        let workload = Workload::start(&site.path("bin").join(name), &socket).await?;
        let expected = format!("spiffe://{}/{identity}", crate::demo::site::TRUST_DOMAIN);
        let got = workload.spiffe_id().unwrap_or("none").to_owned();
        story.step(
            &format!("identity-{name}"),
            got == expected,
            &format!("{name} is {got}"),
            &Detail::new()
                .with("pid", workload.pid())
                .with("ms", millis(started)),
        );
        site.workloads.insert(name, workload);
    }

    // The same program with one byte more is another program.
    let altered = site.install("payments-api", "payments-api-altered")?;
    std::fs::OpenOptions::new()
        .append(true)
        .open(&altered)?
        .write_all(b"\n")?;
    let seen = digest(&altered)?;
    let workload = Workload::start(&altered, &socket).await?;
    let refused = workload.spiffe_id().is_none();
    // Alike refusals are gathered for a moment before they are recorded.
    let deadline = Instant::now() + PATIENCE;
    let mut finding = Value::Null;
    while Instant::now() < deadline && finding.is_null() {
        let ran = site
            .trilith
            .run(&[
                "ledger",
                "search",
                "--ledger",
                "server",
                "--type",
                "assume-refused",
            ])
            .await?;
        finding = ran
            .json_lines()?
            .iter()
            .filter_map(|record| record.pointer("/record/body/findings")?.as_array().cloned())
            .flatten()
            .find(|finding| {
                text(finding, "/message").contains("payments/api")
                    && text(finding, "/observed").contains(&seen)
            })
            .unwrap_or(Value::Null);
    }
    story.step(
        "identity-refused",
        refused && !finding.is_null(),
        "an altered payments-api is refused, and the record says what was expected and seen",
        &Detail::new()
            .with("code", text(&finding, "/code"))
            .with("expected", text(&finding, "/expected"))
            .with("seen", text(&finding, "/observed"))
            .with("client_saw", text(&workload.greeting, "/message")),
    );
    Ok(())
}

pub(crate) async fn gateway(story: &mut Story, site: &mut Site, pin: &str) -> anyhow::Result<()> {
    let waited = site.start_gateway(pin).await?;
    story.step(
        "gateway",
        true,
        "the gateway has an identity of its own and follows the server",
        &Detail::new()
            .with("ms", ms(waited))
            .with("port", site.ports.gateway),
    );
    Ok(())
}

fn digest(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(crypto::hex::encode(&crypto::sha256(&bytes)))
}

pub(crate) fn millis(started: Instant) -> f64 {
    ms(started.elapsed())
}

pub(crate) fn ms(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

pub(crate) fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// A number, also one that is written as a string.
pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    match value.pointer(pointer) {
        Some(Value::Number(number)) => number.as_u64().unwrap_or_default(),
        Some(Value::String(text)) => text.parse().unwrap_or_default(),
        _ => 0,
    }
}
