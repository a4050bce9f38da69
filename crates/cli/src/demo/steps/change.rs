//! Steps 6 to 8: a bad change, a dead server, a revoked identity.

use super::access::{self, workload};
use super::machine::{ms, number, text};
use crate::demo::site::{PATIENCE, Site};
use crate::demo::story::{Detail, Story};
use ::estate::EstateFiles;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Somebody lets the AI agent read what payments reads, and takes out the policy that forbids it.
pub(crate) async fn refused(
    story: &mut Story,
    site: &mut Site,
    estate: &EstateFiles,
) -> anyhow::Result<()> {
    let mut changed = estate.clone();
    if let Some(policies) = changed.0.get_mut("policies/shop.cedar") {
        if let Some(forbid) = policies.find("@id(\"an AI agent never touches") {
            policies.truncate(forbid);
        }
        policies.push_str(
            "@id(\"the AI agent may see cards, temporarily\")\npermit (principal == Identity::\"agents/helper\", \
             action == Action::\"select\", resource == Table::\"shop/public/cards\");\n",
        );
    }
    changed.0.remove("tests/shop.toml");
    let directory = site.path("estate-temporarily");
    crate::commands::estate::write(&changed, &directory)
        .map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let path = directory.display().to_string();
    let plan = site.trilith.run(&["estate", "plan", &path]).await?;
    let planned = plan.json()?;
    let counterexample = find(&planned, "counterexample").is_some_and(|found| !found.is_null());
    let broken = crate::commands::plan::broken_today(&planned);
    let before = site.trilith.run(&["status"]).await?.ok()?.json()?;
    let applied = site
        .trilith
        .run(&["estate", "apply", &path, "--message", "temporarily"])
        .await?;
    let after = site.trilith.run(&["status"]).await?.ok()?.json()?;
    story.step(
        "estate-refused",
        plan.code == 3
            && applied.code != 0
            && applied.stderr.contains("ESTATE-UNPROVED")
            && counterexample
            && broken.is_some()
            && before.pointer("/estate/version") == after.pointer("/estate/version"),
        "letting the AI agent read cards is refused, with a request that would break the invariant",
        &Detail::new()
            .with("plan_exit_code", plan.code)
            .with("today", broken.unwrap_or_default())
            .with("estate", text(&after, "/estate/version")),
    );
    Ok(())
}

/// Somebody lets whoever runs psql become payments, which reads cards: the invariant spans both halves.
pub(crate) async fn another_way_in(
    story: &mut Story,
    site: &mut Site,
    estate: &EstateFiles,
) -> anyhow::Result<()> {
    let mut changed = estate.clone();
    changed.insert(
        "policies/psql.cedar",
        "@id(\"psql may be payments, temporarily\")\npermit (principal in Pool::\"demo\", \
         action == Action::\"assume\", resource == Identity::\"payments/api\")\n\
         when { principal has uid && principal has code && principal.code.known_as.contains(\"psql\") };\n",
    );
    let directory = site.path("estate-another-way-in");
    crate::commands::estate::write(&changed, &directory)
        .map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let path = directory.display().to_string();
    let plan = site.trilith.run(&["estate", "plan", &path]).await?;
    let planned = plan.json()?;
    let proved = site
        .trilith
        .run(&["ledger", "search", "--ledger", "server", "--type", "proof"]);
    let proved = proved.await?.ok()?.json_lines()?;
    let held = |report: &&Value| text(report, "/id").starts_with("only payments-api");
    let held = proved
        .iter()
        .filter_map(|record| record.pointer("/record/body/invariants")?.as_array())
        .flatten()
        .find(held);
    let any = held
        .map(|report| text(report, "/any_data"))
        .unwrap_or_default();
    let counterexample = find(&planned, "counterexample")
        .cloned()
        .unwrap_or_default();
    let because = text(&counterexample, "/because/0/file");
    story.step(
        "estate-refused-another-way-in",
        plan.code == 3
            && any == "proved"
            && text(&counterexample, "/action") == "assume"
            && because == "policies/psql.cedar"
            && counterexample.pointer("/then").is_some(),
        "only payments-api as it was released ever touches cards: proved across who becomes it and what it may do",
        &Detail::new()
            .with("in_force", any)
            .with("refused", text(&counterexample, "/text")),
    );
    Ok(())
}

/// The first value under `key`, at any depth.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields
            .get(key)
            .filter(|found| !found.is_null())
            .or_else(|| fields.values().find_map(|value| find(value, key))),
        Value::Array(items) => items.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}

pub(crate) async fn server_killed(story: &mut Story, site: &mut Site) -> anyhow::Result<()> {
    let before = site.trilith.run(&["status"]).await?.ok()?.json()?;
    let load = json!({ "load": { "sql": "select name from products where id = 7", "milliseconds": 2_000 } });
    workload(site, "payments-api")?.send(load).await?;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let mut server = site.server.take();
    if let Some(server) = &mut server {
        server.kill()?;
    }
    let answer = workload(site, "payments-api")?.answer().await?;
    let away = site.trilith.run(&["status"]).await?;
    story.step(
        "queries-go-on",
        answer.get("ok") == Some(&Value::Bool(true))
            && number(&answer, "/queries") > 0
            && away.code != 0,
        "kill -9 of the server during load: queries go on",
        &Detail::new()
            .with("queries", number(&answer, "/queries"))
            .with(
                "slowest_ms",
                answer.get("slowest_ms").cloned().unwrap_or_default(),
            )
            .with("server", "down"),
    );

    let waited = site.start_server().await?;
    let after = site.trilith.run(&["status"]).await?.ok()?.json()?;
    let (size, grown) = (
        number(&before, "/ledger/size"),
        number(&after, "/ledger/size"),
    );
    let first = site
        .trilith
        .run(&["ledger", "show", "server:0"])
        .await?
        .json()?;
    story.step(
        "server-restarted",
        grown >= size && text(&first, "/type") == "begin" && text(&after, "/signing") == "allowed",
        "it restarts with the ledger intact",
        &Detail::new()
            .with("ms", ms(waited))
            .with("records_before", size)
            .with("records_after", grown)
            .with("root", text(&after, "/ledger/root")),
    );
    // Agent and gateway find it again by themselves.
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut both = false;
    while std::time::Instant::now() < deadline && !both {
        let list = site
            .trilith
            .run(&["agent", "list"])
            .await?
            .json()
            .unwrap_or(Value::Null);
        both = list.pointer("/agents/0/connected") == Some(&Value::Bool(true))
            && site.gateway_follows().await;
    }
    story.step(
        "server-found-again",
        both,
        "agent and gateway have found it again by themselves",
        &Detail::new(),
    );
    Ok(())
}

pub(crate) async fn revoked(story: &mut Story, site: &mut Site) -> anyhow::Result<()> {
    let answer = access::ask(site, "payments-api", "select 1").await?;
    let open = answer.get("ok") == Some(&Value::Bool(true));
    let wait = json!({ "await-close": { "milliseconds": 10_000 } });
    workload(site, "payments-api")?.send(wait).await?;
    let asked = unix_millis();
    let revoked = site
        .trilith
        .run(&[
            "revoke",
            "identity",
            "payments/api",
            "--reason",
            "the demo says so",
        ])
        .await?
        .ok()?
        .json()?;
    let closed = workload(site, "payments-api")?.answer().await?;
    let at = u128::from(number(&closed, "/closed_at"));
    let elapsed = at.saturating_sub(asked);
    story.step(
        "revoked",
        open && closed.get("ok") == Some(&Value::Bool(true)) && elapsed < 1_000,
        "the open session is cut, measured at the client's socket from before the command was started",
        &Detail::new()
            .with("ms", u64::try_from(elapsed).unwrap_or(u64::MAX))
            .with("record", number(&revoked, "/index"))
            .with("client_saw", text(&closed, "/reason")),
    );
    let config = site.connection_string();
    let again = access::connect(site, "payments-api", &config).await?;
    story.step(
        "revoked-stays-out",
        again.get("ok") == Some(&Value::Bool(false)),
        "it does not come in again",
        &Detail::new().with("client_saw", text(&again, "/message")),
    );
    Ok(())
}

fn unix_millis() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis()
}
