//! Step 10: somebody has the issuing CA's key. The attack tool is a program of its own, not part of `trilith`.

use super::machine::text;
use crate::demo::site::{Site, TRUST_DOMAIN};
use crate::demo::story::{Detail, Story};
use anyhow::Context as _;
use serde_json::Value;
use std::process::{Command, Stdio};

pub(crate) async fn refused(story: &mut Story, site: &mut Site) -> anyhow::Result<()> {
    let tool = ["attack", "examples/attack"]
        .iter()
        .map(|name| site.programs.join(name))
        .find(|path| path.exists());
    let Some(tool) = tool else {
        story.step(
            "theft",
            false,
            "the attack tool is not built: cargo build --example attack",
            &Detail::new(),
        );
        return Ok(());
    };
    let mut command = Command::new(tool);
    command
        .arg("--ca-keys")
        .arg(site.path("server/keys-ca"))
        .arg("--ledger-keys")
        .arg(site.path("server/keys-ledger"))
        .arg("--workload-api")
        .arg(site.workload_api())
        .args([
            "--server-http",
            &format!("127.0.0.1:{}", site.ports.server_http),
        ])
        .args(["--gateway", &format!("127.0.0.1:{}", site.ports.gateway)])
        .args(["--trust-domain", TRUST_DOMAIN, "--as", "reporting/nightly"])
        .arg("--genuine")
        .arg(site.path("bin/reporting-nightly"))
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await?
        .context("cannot run the attack tool")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    for (attack, told) in [
        ("unrecorded", "a certificate that was never recorded"),
        (
            "transplanted",
            "a genuine receipt on a certificate of the same ID and serial, with another key",
        ),
        (
            "forked",
            "a receipt under a forked checkpoint, with the ledger key stolen as well",
        ),
    ] {
        let line = printed
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| text(line, "/attack") == attack)
            .unwrap_or(Value::Null);
        story.step(
            &format!("theft-{attack}"),
            line.get("refused") == Some(&Value::Bool(true)),
            &format!("{told}: refused by the gateway"),
            &Detail::new().with("seen", text(&line, "/seen")).with(
                "stderr",
                if line.is_null() {
                    String::from_utf8_lossy(&output.stderr).into_owned()
                } else {
                    String::new()
                },
            ),
        );
    }
    Ok(())
}
