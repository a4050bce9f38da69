//! Tokens, revocation, node agents and the state of the server.

use crate::arguments::{
    AgentCommand, Global, RecoverArguments, RestoreArguments, RevocationKind, RevokeArguments,
    TokenCommand,
};
use crate::{Failure, admin, output};
use facts::Timestamp;
use proto::v1;
use serde_json::{Value, json};

pub(crate) async fn token(command: TokenCommand, global: &Global) -> Result<(), Failure> {
    let TokenCommand::Create { node, pool, ttl } = command;
    let created = admin::connect(global)
        .await?
        .token_create(v1::TokenCreateRequest {
            node: node.clone(),
            pool,
            ttl_s: ttl,
        })
        .await
        .map_err(|status| admin::refusal(&status))?
        .into_inner();
    if global.json {
        output::json(&json!({
            "token": created.token, "pin": created.pin,
            "expires": created.expires, "index": created.index,
        }));
        return Ok(());
    }
    output::line(format_args!("token  {}", created.token));
    output::line(format_args!("pin    {}", created.pin));
    output::note(format_args!(
        "The token lets `{node}` join once, until {}. Put the token into a file of mode 0600, and this into agent.toml:\n\n  pin = \"{}\"\n\n  [join]\n  method = \"token\"\n  token_file = \"/etc/trilith/token\"",
        Timestamp::from_millis(created.expires),
        created.pin
    ));
    Ok(())
}

pub(crate) async fn revoke(arguments: RevokeArguments, global: &Global) -> Result<(), Failure> {
    let kind = match arguments.kind {
        RevocationKind::Identity => "identity",
        RevocationKind::Serial => "serial",
        RevocationKind::Machine => "machine",
    };
    let answer = admin::connect(global)
        .await?
        .revoke(v1::RevokeRequest {
            kind: kind.to_owned(),
            value: arguments.value,
            reason: arguments.reason,
        })
        .await
        .map_err(|status| admin::refusal(&status))?;
    print(&admin::document(answer)?, global);
    Ok(())
}

pub(crate) async fn restore(arguments: RestoreArguments, global: &Global) -> Result<(), Failure> {
    let answer = admin::connect(global)
        .await?
        .restore(v1::RestoreRequest {
            identity: arguments.identity,
            reason: arguments.reason,
        })
        .await
        .map_err(|status| admin::refusal(&status))?;
    print(&admin::document(answer)?, global);
    Ok(())
}

pub(crate) async fn recover(arguments: RecoverArguments, global: &Global) -> Result<(), Failure> {
    let answer = admin::connect(global)
        .await?
        .recover(v1::RecoverRequest {
            reason: arguments.reason,
        })
        .await
        .map_err(|status| admin::refusal(&status))?;
    print(&admin::document(answer)?, global);
    Ok(())
}

pub(crate) async fn agents(command: AgentCommand, global: &Global) -> Result<(), Failure> {
    let mut client = admin::connect(global).await?;
    let answer = match command {
        AgentCommand::List => client.agents(v1::StatusRequest {}).await,
        AgentCommand::Evict { node, reason } => {
            let request = v1::RevokeRequest {
                kind: "eviction".to_owned(),
                value: node,
                reason,
            };
            client.revoke(request).await
        }
        AgentCommand::Readmit { node, reason } => {
            client.readmit(v1::ReadmitRequest { node, reason }).await
        }
    }
    .map_err(|status| admin::refusal(&status))?;
    print(&admin::document(answer)?, global);
    Ok(())
}

pub(crate) async fn status(global: &Global) -> Result<(), Failure> {
    let answer = admin::connect(global)
        .await?
        .status(v1::StatusRequest {})
        .await
        .map_err(|status| admin::refusal(&status))?;
    let mut status = admin::document(answer)?;
    if !global.json {
        with_fingerprints(&mut status);
    }
    print(&status, global);
    Ok(())
}

/// Nobody reads a certificate in Base64; `trilith trust` prints them whole.
fn with_fingerprints(status: &mut Value) {
    let Some(roots) = status
        .get_mut("x509_authorities")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    for root in roots {
        let der = root
            .as_str()
            .and_then(|text| crypto::base64::decode(text).ok());
        if let Some(der) = der {
            *root = json!(format!(
                "sha256:{}",
                crypto::hex::encode(&crypto::sha256(&der))
            ));
        }
    }
}

/// A document: as it is with `--json`, else as indented `name  value` lines.
pub(crate) fn print(document: &Value, global: &Global) {
    if global.json {
        output::json(document);
    } else {
        tree(document, 0);
    }
}

fn tree(value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            let width = fields
                .keys()
                .map(|name| name.chars().count())
                .max()
                .unwrap_or(0);
            for (name, value) in fields {
                if let Some(lines) = value.as_str().filter(|text| text.contains('\n')) {
                    output::line(format_args!("{indent}{name}"));
                    for line in lines.lines() {
                        output::line(format_args!("{indent}  {}", output::value(line)));
                    }
                } else if is_leaf(value) {
                    output::line(format_args!("{indent}{name:width$}  {}", leaf(value)));
                } else {
                    output::line(format_args!("{indent}{name}"));
                    tree(value, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                if is_leaf(item) {
                    output::line(format_args!("{indent}{}", leaf(item)));
                } else {
                    tree(item, depth);
                    output::line("");
                }
            }
        }
        other => output::line(format_args!("{indent}{}", leaf(other))),
    }
}

fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items
            .iter()
            .all(|item| !item.is_object() && !item.is_array()),
        _ => true,
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => output::value(text),
        Value::Object(_) => "-".to_owned(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(leaf).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_a_root_by_its_fingerprint() {
        let mut status = json!({ "x509_authorities": [crypto::base64::encode(b"abc"), "?"] });
        with_fingerprints(&mut status);
        assert_eq!(
            status["x509_authorities"][0],
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(status["x509_authorities"][1], "?");
    }
}
