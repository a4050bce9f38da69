//! A verdict, and what its evidence says: as it was judged then, and as it would be now.

use super::evidence::{Recorded, evidence, newest, verdict_at};
use super::{Version, folder};
use crate::admin::estates::blob;
use crate::admin::questions;
use crate::core::Core;
use crate::refusal::Refusal;
use appraise::{Account, Files, Kept, Naming, View};
use attest_tpm::ima::{self, List};
use crypto::hex;
use estate::EstateFiles;
use facts::{Finding, Timestamp};
use proto::v1;
use proto::v1::Chunk;
use serde_json::{Value, json};
use std::sync::Arc;

const CHUNK: usize = 64 * 1024;

pub(in crate::admin) async fn explain(
    core: &Arc<Core>,
    asked: v1::AttestQuestion,
) -> Result<Vec<Chunk>, Refusal> {
    let core = Arc::clone(core);
    let told = tokio::task::spawn_blocking(move || tell(&core, &asked))
        .await
        .map_err(|error| Refusal::internal("explaining a verdict", &error))??;
    let text = serde_json::to_vec(&told)
        .map_err(|error| Refusal::internal("writing an answer", &error))?;
    let chunks = text.chunks(CHUNK).map(|data| Chunk {
        data: data.to_vec(),
    });
    Ok(chunks.collect())
}

fn tell(core: &Core, asked: &v1::AttestQuestion) -> Result<Value, Refusal> {
    let recorded = if asked.node.is_empty() {
        verdict_at(core, asked.index)?
    } else {
        newest(core, &asked.node)?
    };
    let mut document = questions::verdict(core, recorded.index)?;
    let more = match read(core, &recorded)? {
        None => json!({}),
        Some(Err(findings)) => json!({ "unreadable": findings }),
        Some(Ok(kept)) => judged(core, &recorded, &kept, &folder(&asked.folder))?,
    };
    if let (Value::Object(fields), Value::Object(more)) = (&mut document, more) {
        fields.extend(more);
    }
    Ok(document)
}

/// What is kept, if a quote is.
fn read(core: &Core, recorded: &Recorded) -> Result<Option<Result<Kept, Vec<Finding>>>, Refusal> {
    let blobs = evidence(core, recorded)?;
    Ok(blobs.has_quote().then(|| Kept::read(&blobs)))
}

fn judged(core: &Core, recorded: &Recorded, kept: &Kept, folder: &str) -> Result<Value, Refusal> {
    let findings: Vec<Finding> = {
        let text = json!(recorded.verdict.findings);
        serde_json::from_value(text)
            .map_err(|error| Refusal::internal("reading a verdict", &error))?
    };
    let then = Timestamp::from_millis(recorded.record.stamp().wall);
    let mut version = in_force_before(core, recorded.index)?;
    let (refusals, account) = match &mut version {
        Some(version) => {
            let refusals = version.tell(kept, &findings, then, folder);
            let values = &version.estate.references().values;
            (refusals, account(kept, &Naming::of(values)))
        }
        None => (Vec::new(), account(kept, &Naming::default())),
    };
    let now = core.now();
    let today = match core.current.load_full() {
        None => Value::Null,
        Some(current) => {
            let files = current_files(core)?;
            let mut version = Version::new(Arc::clone(&current.estate), files);
            let findings = version.try_on(kept, &core.endorsements, now)?;
            json!({
                "estate": current.version.to_string(),
                "outcome": if findings.is_empty() { "affirmed" } else { "refused" },
                "refusals": version.tell(kept, &findings, now, folder),
            })
        }
    };
    Ok(json!({
        "estate": version.map(|version| version.estate.version().to_owned()),
        "refusals": refusals,
        "account": account,
        "today": today,
    }))
}

fn account(kept: &Kept, naming: &Naming<'_>) -> Account {
    let (sent, before) = kept.list();
    let files = List::parse_binary(sent.list, sent.first)
        .ok()
        .filter(|list| !list.entries().is_empty())
        .map(|list| {
            let claimed = Files::claimed(&list, naming);
            let measured = ima::verify(list, kept.quoted(), before);
            measured.map_or(claimed, |measured| Files::measured(&measured, naming))
        });
    let account = match kept.booted() {
        Some(boot) => Account::of(&View::from(boot), naming),
        None => Account {
            quoted: true,
            pcrs: kept
                .quoted()
                .pcrs
                .iter()
                .map(|(pcr, value)| (pcr, hex::encode(value)))
                .collect(),
            ..Account::default()
        },
    };
    account.with_files(files)
}

/// The version that was in force when record `index` was made, if it compiles still.
fn in_force_before(core: &Core, index: u64) -> Result<Option<Version>, Refusal> {
    let row = {
        let state = core.state();
        let earlier = state.estates().filter(|row| row.index < index);
        earlier.max_by_key(|row| row.index).cloned()
    };
    let Some(row) = row else { return Ok(None) };
    let blob = blob(core, &row.blob)?;
    let Ok(estate) = questions::compile(&blob) else {
        return Ok(None);
    };
    Ok(Some(Version::new(Arc::new(estate), files(&blob))))
}

fn current_files(core: &Core) -> Result<EstateFiles, Refusal> {
    let row = core.state().estate().cloned();
    row.map_or_else(
        || Ok(EstateFiles::new()),
        |row| Ok(files(&blob(core, &row.blob)?)),
    )
}

fn files(blob: &[u8]) -> EstateFiles {
    EstateFiles::from_blob(blob).unwrap_or_else(|_| EstateFiles::new())
}
