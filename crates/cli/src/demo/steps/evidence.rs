//! Step 9: a pack, checked with nothing but a trust file; then bytes are changed.

use super::machine::{millis, text};
use crate::demo::site::{PATIENCE, Site};
use crate::demo::story::{Detail, Story};
use anyhow::Context as _;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const JSON: &[&str] = &["--json"];

/// Bytes changed in each kind of section.
const CHANGES: usize = 8;

pub(crate) async fn pack(story: &mut Story, site: &mut Site) -> anyhow::Result<()> {
    let empty = site.path("verifier");
    std::fs::create_dir(&empty)?;
    let trust = site.trilith.run(&["trust"]).await?.ok()?;
    std::fs::write(empty.join("trust.json"), &trust.stdout)?;
    let file = empty.join("agent.pack");
    let started = Instant::now();
    let made = make(site, &file).await?;
    let made_ms = millis(started);
    let started = Instant::now();
    let isolation = Isolation::found();
    let verified = verify(isolation, site.trilith.binary(), &empty, "agent.pack", JSON).await?;
    let report: Value = serde_json::from_str(&verified.1).unwrap_or(Value::Null);
    story.step(
        "pack-verified",
        verified.0 == 0
            && ["verified", "complete"]
                .into_iter()
                .all(|field| report.get(field) == Some(&Value::Bool(true))),
        "trilith verify in an empty folder, with an empty environment and nothing but the pack and a trust file",
        &Detail::new()
            .with("records", report.get("records").and_then(Value::as_array).map_or(0, Vec::len))
            .with("answers", report.get("answers").and_then(Value::as_u64).unwrap_or_default())
            .with("sha256", text(&made, "/sha256"))
            .with("network", isolation.told())
            .with("stderr", verified.2.trim())
            .with("made_ms", made_ms)
            .with("verified_ms", millis(started)),
    );

    let account = verify(isolation, site.trilith.binary(), &empty, "agent.pack", &[]).await?;
    let chain = chain(&account.1);
    story.step(
        "pack-told",
        chain.is_some(),
        "the pack alone leads from an access back to policy, identity, code and machine",
        &chain.unwrap_or_default(),
    );

    let bytes = std::fs::read(&file)?;
    for (kind, named_so) in [
        ("tile", ("a tile", "tiles/")),
        ("entries", ("an entry bundle", "/tile/entries/")),
        ("checkpoint", ("a checkpoint", "checkpoint/")),
        ("record", ("a record", ", record ")),
    ] {
        let places = places(&bytes, kind);
        let mut named = Vec::new();
        let mut missed = 0;
        for _ in 0..CHANGES.min(places.len()) {
            let [a, b, c, d, flip] = crypto::random::<5>();
            let random = usize::try_from(u32::from_be_bytes([a, b, c, d]))?;
            let place = places
                .get(random % places.len())
                .copied()
                .unwrap_or_default();
            let mut changed = bytes.clone();
            if let Some(byte) = changed.get_mut(place) {
                *byte ^= flip | 1;
            }
            // Whoever forges a pack writes its table anew, so that only proofs and signatures are left to
            // find it.
            let changed = with_table(&changed).context("the pack has no table")?;
            std::fs::write(empty.join("changed.pack"), &changed)?;
            let (code, _, stderr) = verify(
                isolation,
                site.trilith.binary(),
                &empty,
                "changed.pack",
                JSON,
            )
            .await?;
            // What was changed is named: a tile, an entry bundle, a checkpoint, a record.
            if code == 3 && stderr.contains(named_so.1) && !stderr.contains("PACK-DIGEST") {
                named.push(stderr.trim().to_owned());
            } else {
                missed += 1;
            }
        }
        named.dedup();
        story.step(
            &format!("tampered-{kind}"),
            missed == 0 && !named.is_empty(),
            &format!("bytes changed at random in {} of the pack, and its table of digests written anew: verification fails each time and says where", named_so.0),
            &Detail::new()
                .with("changes", CHANGES.min(places.len()))
                .with("first", named.first().cloned().unwrap_or_default()),
        );
    }
    Ok(())
}

/// Asks until the pack holds what the agent did: the server fetches the gateway's ledger by and by.
async fn make(site: &Site, file: &Path) -> anyhow::Result<Value> {
    let path = file.display().to_string();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ran = site
            .trilith
            .run(&["pack", "--accesses", "agents/helper", "--output", &path])
            .await?;
        if ran.code == 0 {
            return ran.json();
        }
        anyhow::ensure!(Instant::now() < deadline, "no pack: {}", ran.stderr);
    }
}

/// How the verifier is kept from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isolation {
    /// A network namespace of its own, with nothing in it; with a user namespace around it for who is not root.
    Namespace { user: bool },
    /// This machine lets nobody make one.
    NotHere,
}

impl Isolation {
    fn found() -> Self {
        let tried = [
            Self::Namespace { user: false },
            Self::Namespace { user: true },
        ];
        let works = |isolation: &Self| {
            let mut command = isolation.command(Path::new("/bin/true"));
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        tried.into_iter().find(works).unwrap_or(Self::NotHere)
    }

    fn command(self, program: &Path) -> Command {
        let Self::Namespace { user } = self else {
            return Command::new(program);
        };
        let mut command = Command::new("/usr/bin/unshare");
        command.arg("--net");
        if user {
            command.arg("--map-root-user");
        }
        command.arg("--").arg(program);
        command
    }

    const fn told(self) -> &'static str {
        match self {
            Self::Namespace { .. } => "none: a network namespace of its own",
            Self::NotHere => "not cut off: this machine lets nobody make a network namespace",
        }
    }
}

/// The first session of an account, and what was first allowed in it.
fn chain(account: &str) -> Option<Detail> {
    let mut lines = account
        .lines()
        .skip_while(|line| !line.contains(" reached "));
    let session = lines.next()?;
    let of_it: Vec<&str> = lines
        .take_while(|line| !line.contains(" reached "))
        .collect();
    let find = |what: &str| of_it.iter().copied().find(|line| line.contains(what));
    let mut detail = Detail::new();
    for (name, line) in [
        ("access", find("allowed by")?),
        ("session", session),
        ("identity", find("its SVID")?),
        ("machine", find("on the machine")?),
        ("estate", find("by the estate")?),
    ] {
        detail = detail.with(name, line.trim());
    }
    Some(detail)
}

/// Exit code, stdout, stderr.
async fn verify(
    isolation: Isolation,
    binary: &Path,
    directory: &Path,
    pack: &str,
    more: &[&str],
) -> anyhow::Result<(i32, String, String)> {
    let mut command = isolation.command(binary);
    command
        .args(["verify", pack, "--trust", "trust.json"])
        .args(more)
        .env_clear()
        .current_dir(directory)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await?
        .context("cannot run `trilith verify`")?;
    Ok((
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

/// The pack with the digests of its table, and that of the table, as they are of its sections now.
fn with_table(pack: &[u8]) -> Option<Vec<u8>> {
    let head_end = pack.iter().position(|byte| *byte == b'\n')? + 1;
    let head = std::str::from_utf8(pack.get(..head_end)?).ok()?;
    let mut words = head.split(' ');
    let (magic, length) = (words.next()?, words.next()?.parse::<usize>().ok()?);
    let table_end = head_end.checked_add(length)?;
    let old = std::str::from_utf8(pack.get(head_end..table_end)?).ok()?;
    let (mut table, mut at) = (String::new(), table_end);
    for line in old.lines() {
        let mut fields = line.splitn(3, ' ');
        let length: usize = fields.next()?.parse().ok()?;
        let name = fields.nth(1)?;
        let end = at.checked_add(length)?;
        let digest = crypto::hex::encode(&crypto::sha256(pack.get(at..end)?));
        table.push_str(&format!("{length} {digest} {name}\n"));
        at = end;
    }
    let digest = crypto::hex::encode(&crypto::sha256(table.as_bytes()));
    let mut made = format!("{magic} {} {digest}\n{table}", table.len()).into_bytes();
    made.extend_from_slice(pack.get(table_end..)?);
    Some(made)
}

/// Offsets of every byte in the sections of one kind. The table of a pack says where they are: one line a
/// section, `bytes sha256 name`, after a first line that gives the table's length.
fn places(pack: &[u8], kind: &str) -> Vec<usize> {
    let read = || -> Option<Vec<usize>> {
        let head_end = pack.iter().position(|byte| *byte == b'\n')? + 1;
        let head = std::str::from_utf8(pack.get(..head_end)?).ok()?;
        let table_length: usize = head.split(' ').nth(1)?.parse().ok()?;
        let table_end = head_end.checked_add(table_length)?;
        let table = std::str::from_utf8(pack.get(head_end..table_end)?).ok()?;
        let mut at = table_end;
        let mut places = Vec::new();
        for line in table.lines() {
            let mut fields = line.splitn(3, ' ');
            let length: usize = fields.next()?.parse().ok()?;
            let name = fields.nth(1)?;
            let is_kind = match kind {
                "entries" => name.contains("/tile/entries/"),
                "tile" => name.contains("/tile/") && !name.contains("/tile/entries/"),
                other => name.starts_with(&format!("{other}/")),
            };
            if is_kind {
                places.extend(at..at.checked_add(length)?);
            }
            at = at.checked_add(length)?;
        }
        Some(places)
    };
    read().unwrap_or_default()
}
