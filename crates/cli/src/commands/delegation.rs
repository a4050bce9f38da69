//! Delegating, for people who have logged in and for workloads that act for somebody; and what administrators do
//! with delegations.

use crate::arguments::{DelegateArguments, DelegationCommand, Global};
use crate::commands::administer;
use crate::{Failure, admin, output};
use agent::delegate::{DelegateOptions, Delegated, delegate as ask};
use facts::{Finding, Timestamp};
use proto::v1;
use proto::v1::people_client::PeopleClient;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

/// Longest token that is read.
const MOST: u64 = 64 * 1024;

pub(crate) async fn delegate(arguments: DelegateArguments, global: &Global) -> Result<(), Failure> {
    let (Some(path), Some(server)) = (&arguments.token, arguments.server.clone()) else {
        return first(arguments, global).await;
    };
    let options = DelegateOptions {
        socket: arguments.socket.socket,
        server,
        token: read(path)?,
        to: arguments.to,
        actions: arguments.actions,
        resources: arguments.resources,
        ttl_s: arguments.ttl,
        wait: arguments.wait.map(Duration::from_secs),
    };
    show(&ask(options).await?, global);
    Ok(())
}

/// The first link: the person who has logged in lets somebody act.
async fn first(arguments: DelegateArguments, global: &Global) -> Result<(), Failure> {
    let Some(server) = global.admin_server.as_deref() else {
        return Err(Finding::new(
            "DELEGATE-FIRST",
            "a delegation rests on another, or on a person who has logged in",
        )
        .expected("--admin-server HOST:PORT of a person, or --token FILE and --server of a workload")
        .next("log in (trilith login) and name the server; or ask whom this workload acts for to delegate to it")
        .into());
    };
    let channel = crate::session::enter(server, global).await?;
    let request = v1::DelegateRequest {
        token: String::new(),
        to: arguments.to,
        actions: arguments.actions,
        resources: arguments.resources,
        ttl_s: arguments.ttl,
    };
    let made = PeopleClient::new(channel).delegate(request).await;
    let made = made.map_err(|status| admin::refusal(&status))?.into_inner();
    let made = Delegated {
        token: made.token,
        jti: made.jti,
        expires_at: Timestamp::from_millis(made.expires),
        index: made.index,
    };
    show(&made, global);
    Ok(())
}

fn show(made: &Delegated, global: &Global) {
    if global.json {
        output::json(&json!({
            "token": made.token, "jti": made.jti,
            "expires": made.expires_at.as_millis(), "index": made.index,
        }));
        return;
    }
    output::line(format_args!("{}", made.token));
    output::note(format_args!(
        "{} until {}, record {} of the server's ledger; it counts with the delegate's own SVID and with no other",
        made.jti, made.expires_at, made.index
    ));
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MOST).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text))
    };
    read.map_err(|error| {
        Finding::new("DELEGATE-TOKEN", "the token cannot be read")
            .observed(format!("{}: {error}", path.display()))
            .next("name the file that it is in, or - for standard input")
    })?;
    Ok(text.trim().to_owned())
}

pub(crate) async fn run(command: DelegationCommand, global: &Global) -> Result<(), Failure> {
    match command {
        DelegationCommand::List { identity, own } => {
            let document = if own {
                own_delegations(global).await?
            } else {
                let request = v1::DelegationsRequest {
                    identity: identity.unwrap_or_default(),
                };
                let mut client = admin::connect(global).await?;
                let answer = client.delegations(request).await;
                admin::document(answer.map_err(|status| admin::refusal(&status))?)?
            };
            if global.json {
                output::json(&document);
                return Ok(());
            }
            let all = document.get("delegations").and_then(Value::as_array);
            for one in all.into_iter().flatten() {
                output::line(format_args!("{}", line(one)));
            }
        }
        DelegationCommand::Revoke { jti, reason } => {
            if take_back(&jti, &reason, global).await? {
                return Ok(());
            }
            let mut client = admin::connect(global).await?;
            let request = v1::RevokeRequest {
                kind: "delegation".to_owned(),
                value: jti,
                reason,
            };
            let answer = client.revoke(request).await;
            let document = admin::document(answer.map_err(|status| admin::refusal(&status))?)?;
            administer::print(&document, global);
        }
    }
    Ok(())
}

/// Those of the chains that the person began who has logged in.
async fn own_delegations(global: &Global) -> Result<Value, Failure> {
    let Some(server) = global.admin_server.as_deref() else {
        return Err(
            Finding::new("DELEGATION-LOGIN", "whose they are is said by a login")
                .expected("--admin-server HOST:PORT")
                .next("log in (trilith login) and name the server")
                .into(),
        );
    };
    let channel = crate::session::enter(server, global).await?;
    let shown = PeopleClient::new(channel)
        .delegations(v1::OwnDelegations {})
        .await
        .map_err(|status| admin::refusal(&status))?;
    serde_json::from_str(&shown.into_inner().json).map_err(|error| {
        Finding::new("DELEGATION-ANSWER", "what the server answered is no JSON")
            .observed(error.to_string())
            .next("look whether the server has the version of this program")
            .into()
    })
}

/// By the session of whoever has logged in: what it began itself. False where that is for an administrator.
async fn take_back(jti: &str, reason: &str, global: &Global) -> Result<bool, Failure> {
    let Some(server) = global.admin_server.as_deref() else {
        return Ok(false);
    };
    let channel = crate::session::enter(server, global).await?;
    let request = v1::TakeBackRequest {
        jti: jti.to_owned(),
        reason: reason.to_owned(),
    };
    let taken = match PeopleClient::new(channel).take_back(request).await {
        Ok(taken) => taken.into_inner(),
        // A server of an earlier version has no such call.
        Err(status) if status.code() == tonic::Code::Unimplemented => return Ok(false),
        Err(status) => {
            let failure = admin::refusal(&status);
            let not_own = |finding: &Finding| finding.code == "DELEGATION-NOT-OWN";
            return if failure.findings().iter().any(not_own) {
                Ok(false)
            } else {
                Err(failure)
            };
        }
    };
    let document = json!({
        "kind": "delegation",
        "value": jti,
        "reason": reason,
        "index": taken.recorded.then_some(taken.index),
        "recorded": taken.recorded,
    });
    administer::print(&document, global);
    Ok(true)
}

/// `4f2d…  people/ada > agents/helper  select on anything  until 2026-…`
pub(super) fn line(one: &Value) -> String {
    let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
    let list = |name: &str, any: &str| {
        let words = one.get(name).and_then(Value::as_array);
        words.map_or_else(
            || any.to_owned(),
            |words| {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                words.join(", ")
            },
        )
    };
    let path = |id: &str| {
        let rest = id
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.split_once('/'));
        rest.map_or(id, |(_, path)| path).to_owned()
    };
    let chain = one.get("chain").and_then(Value::as_array);
    let chain: Vec<String> = chain
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(path)
        .collect();
    let ends = one.get("ends").and_then(Value::as_u64).unwrap_or_default();
    let stands = one.get("stands").and_then(Value::as_bool) == Some(true);
    format!(
        "{}  {}  {} on {}  {}",
        text("jti"),
        chain.join(" > "),
        list("actions", "any action"),
        list("resources", "anything"),
        if stands {
            format!("until {}", Timestamp::from_millis(ends))
        } else {
            "revoked".to_owned()
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delegation_is_one_line() {
        let mut one = json!({
            "jti": "4f", "chain": ["spiffe://example.org/people/ada", "spiffe://example.org/agents/helper"],
            "actions": ["select"], "resources": null, "ends": 1_800_000_000_000_u64, "stands": true,
        });
        assert_eq!(
            line(&one),
            "4f  people/ada > agents/helper  select on anything  until 2027-01-15T08:00:00.000Z"
        );
        one["stands"] = json!(false);
        assert!(line(&one).ends_with("  revoked"));
    }
}
