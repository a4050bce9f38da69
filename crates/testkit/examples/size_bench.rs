//! How large the static node agent is that machines carry: built by `cargo xtask agent-static`, started once.

use anyhow::Context as _;
use std::process::{Command, Stdio};
use testkit::bench::{Plan, row};

const ID: &str = "agent.static_size_mib";

fn main() -> anyhow::Result<()> {
    let plan = Plan::from_arguments().map_err(anyhow::Error::msg)?;
    if !plan.wants(ID) {
        return Ok(());
    }
    let built = Command::new("cargo")
        .args(["xtask", "agent-static"])
        .current_dir(testkit::workspace())
        .stdout(Stdio::null())
        .status()
        .context("cargo")?;
    anyhow::ensure!(built.success(), "cargo xtask agent-static: {built}");
    let agent = testkit::static_agent("slim").context("it was built, and is not there")?;
    // Without a library of this machine, as in a guest that has nothing else.
    let version = Command::new(&agent).arg("--version").env_clear().output()?;
    let said = String::from_utf8_lossy(&version.stdout);
    let expected = concat!("trilith-agent ", env!("CARGO_PKG_VERSION"), "\n");
    anyhow::ensure!(said == expected, "it says {said:?}");
    let bytes = u32::try_from(std::fs::metadata(&agent)?.len())?;
    row(ID, f64::from(bytes) / f64::from(1 << 20), "MiB", None)?;
    Ok(())
}
