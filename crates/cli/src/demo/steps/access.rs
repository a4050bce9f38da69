//! Steps 4 and 5: what passes, what is denied, and why.

use super::machine::{millis, number, text};
use crate::demo::site::{PATIENCE, Site, TRUST_DOMAIN};
use crate::demo::story::{Detail, Story};
use ::estate::EstateFiles;
use anyhow::Context as _;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Between two tries of what a change on its way decides.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

pub(crate) async fn allowed(story: &mut Story, site: &mut Site) -> anyhow::Result<()> {
    connect_all(site).await?;
    for (name, program, sql) in [
        (
            "read-cards",
            "payments-api",
            "select number from cards where id = 1",
        ),
        (
            "write-order",
            "payments-api",
            "insert into orders (customer, product, amount) values (1, 1, 5)",
        ),
        (
            "read-customers",
            "reporting-nightly",
            "select count(*) from customers",
        ),
        (
            "read-products",
            "ai-agent",
            "select name from products order by id limit 3",
        ),
        ("read-view", "ai-agent", "select * from order_totals"),
    ] {
        let answer = ask(site, program, sql).await?;
        story.step(
            &format!("allowed-{name}"),
            answer.get("ok") == Some(&Value::Bool(true)),
            &format!("{program}: {sql}"),
            &Detail::new()
                .with(
                    "rows",
                    number(&answer, "/rows").max(number(&answer, "/affected")),
                )
                .with("ms", answer.get("ms").cloned().unwrap_or_default())
                .with("error", text(&answer, "/message")),
        );
    }
    psql(story, site).await
}

async fn psql(story: &mut Story, site: &Site) -> anyhow::Result<()> {
    let psql = site
        .database
        .as_ref()
        .context("there is no database")?
        .psql();
    let connection = format!(
        "{} sslmode=verify-ca",
        site.connection_string().replace(" sslmode=require", "")
    );
    let mut command = site.trilith.command();
    command
        .env("SPIFFE_ENDPOINT_SOCKET", site.workload_api())
        .args(["exec", "--"])
        .arg(psql)
        .arg(&connection)
        .args([
            "-X",
            "-A",
            "-t",
            "-c",
            "select count(*) from products",
            "-c",
            "\\d products",
        ]);
    let started = Instant::now();
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    story.step(
        "allowed-psql",
        output.status.success() && printed.starts_with("50\n") && printed.contains("price"),
        "psql, which knows nothing of SPIFFE: select count(*) from products; \\d products",
        &Detail::new()
            .with("printed", printed.lines().collect::<Vec<_>>().join(" / "))
            .with("stderr", String::from_utf8_lossy(&output.stderr).trim())
            .with("ms", millis(started)),
    );
    Ok(())
}

/// Five ways to personal data, all of them closed.
pub(crate) async fn denied(story: &mut Story, site: &mut Site) -> anyhow::Result<()> {
    for (name, sql) in [
        ("directly", "select * from cards"),
        ("view", "select * from card_holders"),
        (
            "cte",
            "with c as (select number from cards) select count(*) from c",
        ),
        ("function", "select first_card()"),
    ] {
        let answer = ask(site, "ai-agent", sql).await?;
        denial(story, &format!("denied-{name}"), sql, &answer);
    }
    let sql = "copy cards to stdout";
    let answer = workload(site, "ai-agent")?
        .ask(json!({ "copy-out": { "sql": sql } }))
        .await?;
    denial(story, "denied-copy", sql, &answer);
    Ok(())
}

fn denial(story: &mut Story, step: &str, sql: &str, answer: &Value) {
    let message = text(answer, "/message");
    story.step(
        step,
        text(answer, "/sqlstate") == "42501" && decision_id(&message).is_some(),
        &format!("ai-agent: {sql}"),
        &Detail::new()
            .with("sqlstate", text(answer, "/sqlstate"))
            .with("decision", decision_id(&message).unwrap_or_default())
            .with("message", message),
    );
}

/// The id in `… (decision pg-1:42)`.
fn decision_id(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("(decision ")?;
    let (id, _) = rest.split_once(')')?;
    Some(id.to_owned())
}

/// A statement that was prepared while it was allowed, executed after the estate has changed.
pub(crate) async fn prepared(
    story: &mut Story,
    site: &mut Site,
    estate: &EstateFiles,
) -> anyhow::Result<()> {
    let sql = "select amount from orders limit 1";
    let agent = workload(site, "ai-agent")?;
    agent
        .ask(json!({ "prepare": { "name": "p", "sql": sql } }))
        .await?;
    let before = agent.ask(json!({ "execute": { "name": "p" } })).await?;

    let mut narrowed = estate.clone();
    let resources = narrowed
        .0
        .get_mut("resources/shop.toml")
        .context("the estate has resources")?;
    *resources = resources.replacen(
        "name = \"orders\"\nclassification = \"internal\"",
        "name = \"orders\"\nclassification = \"pii\"",
        1,
    );
    narrowed.0.remove("tests/shop.toml");
    let applied = apply(
        site,
        "estate-orders-are-personal",
        &narrowed,
        "orders are personal",
    )
    .await?;
    let deadline = Instant::now() + PATIENCE;
    let mut after = Value::Null;
    while Instant::now() < deadline {
        after = workload(site, "ai-agent")?
            .ask(json!({ "execute": { "name": "p" } }))
            .await?;
        if after.get("ok") == Some(&Value::Bool(false)) {
            break;
        }
        // The estate is on its way; each try is a record.
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    let message = text(&after, "/message");
    story.step(
        "denied-prepared",
        before.get("ok") == Some(&Value::Bool(true))
            && text(&after, "/sqlstate") == "42501"
            && decision_id(&message).is_some(),
        &format!(
            "ai-agent: prepared while allowed, executed after `orders` became personal: {sql}"
        ),
        &Detail::new()
            .with("estate", number(&applied, "/index"))
            .with("sqlstate", text(&after, "/sqlstate"))
            .with("decision", decision_id(&message).unwrap_or_default()),
    );
    let restored = apply(
        site,
        "estate-again",
        estate,
        "orders are not personal after all",
    )
    .await?;
    let deadline = Instant::now() + PATIENCE;
    let mut again = Value::Null;
    while Instant::now() < deadline && again.get("ok") != Some(&Value::Bool(true)) {
        if !again.is_null() {
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        again = workload(site, "ai-agent")?
            .ask(json!({ "execute": { "name": "p" } }))
            .await?;
    }
    story.step(
        "allowed-again",
        again.get("ok") == Some(&Value::Bool(true)),
        "the estate as it was: the same statement passes again",
        &Detail::new().with("estate", number(&restored, "/index")),
    );
    Ok(())
}

pub(crate) async fn questions(story: &mut Story, site: &mut Site) -> anyhow::Result<()> {
    let allow = site
        .trilith
        .run(&["why", "payments/api", "select", "shop/public/cards"])
        .await?
        .json()?;
    story.step(
        "why-allowed",
        allow.pointer("/explanation/decision/allow") == Some(&Value::Bool(true)),
        "trilith why payments/api select shop/public/cards",
        &Detail::new().with(
            "because",
            format!(
                "{}:{} {}",
                text(&allow, "/explanation/decision/policies/0/file"),
                text(&allow, "/explanation/decision/policies/0/line"),
                text(&allow, "/explanation/decision/policies/0/id")
            ),
        ),
    );
    let refused = ask(site, "ai-agent", "select number from cards").await?;
    let id = decision_id(&text(&refused, "/message")).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    let mut deny = Value::Null;
    // The server has the record once it has fetched the gateway's ledger.
    while Instant::now() < deadline && deny.get("explanation").is_none() {
        deny = site
            .trilith
            .run(&["why", &id])
            .await?
            .json()
            .unwrap_or(Value::Null);
    }
    story.step(
        "why-denied",
        deny.pointer("/explanation/decision/allow") == Some(&Value::Bool(false)),
        &format!("trilith why {id}"),
        &Detail::new().with(
            "because",
            format!(
                "{}:{} {}",
                text(&deny, "/explanation/decision/policies/0/file"),
                text(&deny, "/explanation/decision/policies/0/line"),
                text(&deny, "/explanation/decision/policies/0/id")
            ),
        ),
    );
    for (step, arguments, expected) in [
        (
            "who-can",
            vec!["who-can", "select", "shop/public/cards"],
            "payments/api",
        ),
        (
            "what-can",
            vec!["what-can", "agents/helper"],
            "shop/public/products",
        ),
    ] {
        let ran = site.trilith.run(&arguments).await?;
        let answer = ran.json()?;
        let accesses = answer
            .get("accesses")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        story.step(
            step,
            ran.code == 0 && answer.to_string().contains(expected),
            &format!("trilith {}", arguments.join(" ")),
            &Detail::new().with("accesses", accesses),
        );
    }
    let agent = format!("spiffe://{TRUST_DOMAIN}/agents/helper");
    let deadline = Instant::now() + PATIENCE;
    let mut read: Vec<String> = Vec::new();
    while Instant::now() < deadline && read.len() < 3 {
        let records = site
            .trilith
            .run(&["ledger", "search", "--type", "intent", "--identity", &agent])
            .await?
            .json_lines()?;
        read = records
            .iter()
            .filter_map(|record| {
                record
                    .pointer("/record/body/actions")
                    .and_then(Value::as_array)
                    .cloned()
            })
            .flatten()
            .flat_map(|action| {
                action
                    .get("resources")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default()
            })
            .filter_map(|resource| resource.as_str().map(str::to_owned))
            .filter(|resource| resource.contains("/public/"))
            .collect();
        read.sort();
        read.dedup();
    }
    story.step(
        "what-did-it-read",
        read.iter().any(|resource| resource.contains("products"))
            && !read.iter().any(|resource| resource.contains("cards")),
        "what did the AI agent read? trilith ledger search --type intent --identity agents/helper",
        &Detail::new().with("read", read),
    );
    Ok(())
}

/// Every program opens a session.
async fn connect_all(site: &mut Site) -> anyhow::Result<()> {
    let config = site.connection_string();
    for program in ["payments-api", "reporting-nightly", "ai-agent"] {
        let answer = connect(site, program, &config).await?;
        anyhow::ensure!(
            answer.get("ok") == Some(&Value::Bool(true)),
            "{program} cannot connect: {answer}"
        );
    }
    Ok(())
}

pub(crate) async fn connect(site: &mut Site, program: &str, config: &str) -> anyhow::Result<Value> {
    let server = format!("spiffe://{TRUST_DOMAIN}/gateway/pg");
    let command = json!({ "connect": { "config": config, "server": server } });
    workload(site, program)?.ask(command).await
}

pub(crate) async fn ask(site: &mut Site, program: &str, sql: &str) -> anyhow::Result<Value> {
    workload(site, program)?.query(sql).await
}

pub(crate) fn workload<'a>(
    site: &'a mut Site,
    program: &str,
) -> anyhow::Result<&'a mut crate::demo::workload::Workload> {
    site.workloads
        .get_mut(program)
        .with_context(|| format!("{program} does not run"))
}

/// Writes `files` to a folder of the demo and applies it.
pub(crate) async fn apply(
    site: &Site,
    folder: &str,
    files: &EstateFiles,
    message: &str,
) -> anyhow::Result<Value> {
    let directory = site.path(folder);
    crate::commands::estate::write(files, &directory)
        .map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let path = directory.display().to_string();
    site.trilith
        .run(&["estate", "apply", &path, "--message", message])
        .await?
        .ok()?
        .json()
}
