//! Searching and showing records.

mod erase;
mod export;
mod mirror;
mod new_log;
mod prune;
mod sentence;

use crate::arguments::{Global, LedgerCommand, SearchArguments};
use crate::commands::administer;
use crate::{Failure, admin, output};
use facts::Timestamp;
use proto::v1;
use serde_json::{Value, json};

pub(crate) async fn run(command: LedgerCommand, global: &Global) -> Result<(), Failure> {
    match command {
        LedgerCommand::Search(arguments) => search(*arguments, global).await,
        LedgerCommand::Show { record } => show(&record, global).await,
        LedgerCommand::Accesses(arguments) => match &arguments.at.pdp {
            Some(socket) => super::records::live::accesses(socket, &arguments, global).await,
            None => super::records::accesses(&arguments, global),
        },
        LedgerCommand::Completeness(arguments) => {
            super::records::completeness::completeness(&arguments, global)
        }
        LedgerCommand::Export(arguments) => export::export(&arguments, global).await,
        LedgerCommand::Erase(arguments) => erase::erase(arguments, global).await,
        LedgerCommand::Mirror(arguments) => mirror::mirror(&arguments, global).await,
        LedgerCommand::Prune(arguments) => prune::prune(&arguments, global),
        LedgerCommand::NewLog(arguments) => new_log::new_log(&arguments, global),
    }
}

async fn search(arguments: SearchArguments, global: &Global) -> Result<(), Failure> {
    if let Some(socket) = &arguments.at.pdp {
        return super::records::live::search(socket, &arguments, global).await;
    }
    if !arguments.at.folders.is_empty() {
        return super::records::search(&arguments, global);
    }
    if let Some(option) = arguments.only_of_folders() {
        return Err(Failure::usage(format!(
            "{option} is asked of a folder, not of the server: name its data_dir with --folder"
        )));
    }
    let of_server = matches!(arguments.ledger.as_str(), "" | "*" | "server");
    let gone = of_server && arguments.from == 0;
    let request = v1::RecordsRequest {
        ledger: arguments.ledger,
        from_index: arguments.from,
        limit: arguments.limit,
        types: arguments.types,
        identity: arguments.identity.unwrap_or_default(),
        resource: arguments.resource.unwrap_or_default(),
    };
    let mut found = 0_u64;
    each(request, global, |item, record| {
        found += 1;
        if global.json {
            output::json(&json!({ "ledger": item.ledger, "index": item.index, "record": record }));
        } else {
            output::line(output::value(&summary(&item.ledger, item.index, &record)));
        }
    })
    .await?;
    if !global.json {
        output::note(format_args!("{found} records"));
    }
    if gone && let Some(gone) = pruned(global).await {
        output::note(gone);
    }
    Ok(())
}

/// What is gone of the server's ledger, for people: what was found is then not all that there was.
async fn pruned(global: &Global) -> Option<String> {
    let mut client = admin::connect(global).await.ok()?;
    let answer = client.status(v1::StatusRequest {}).await.ok()?;
    let status = admin::document(answer).ok()?;
    let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64);
    let minimum = number("/ledger/pruned/minimum_index")?;
    let record = number("/ledger/pruned/record")?;
    Some(format!(
        "Records 1 to {} are gone from this server, pruned by record {record}, which says who has them; some are kept.",
        minimum.saturating_sub(1)
    ))
}

async fn show(record: &str, global: &Global) -> Result<(), Failure> {
    let (ledger, index) = reference(record)?;
    let request = v1::RecordsRequest {
        ledger: ledger.to_owned(),
        from_index: index,
        limit: 1,
        ..v1::RecordsRequest::default()
    };
    let (mut shown, mut of_server) = (false, false);
    each(request, global, |item, record| {
        shown = item.index == index;
        of_server = shown && item.ledger == "server";
        if shown {
            administer::print(&record, global);
        }
    })
    .await?;
    if of_server {
        erase::told(index, global).await?;
    }
    if shown {
        return Ok(());
    }
    Err(
        facts::Finding::new("CLI-NO-SUCH-RECORD", format!("there is no record {record}"))
            .next("trilith ledger search")
            .into(),
    )
}

/// `LEDGER:INDEX`.
pub(crate) fn reference(text: &str) -> Result<(&str, u64), Failure> {
    text.rsplit_once(':')
        .and_then(|(ledger, index)| Some((ledger, index.parse().ok()?)))
        .ok_or_else(|| Failure::usage(format!("`{text}` is not LEDGER:INDEX, as in `server:12`")))
}

async fn each(
    request: v1::RecordsRequest,
    global: &Global,
    mut take: impl FnMut(&v1::RecordItem, Value),
) -> Result<(), Failure> {
    let mut stream = admin::connect(global)
        .await?
        .records(request)
        .await
        .map_err(|status| admin::refusal(&status))?
        .into_inner();
    while let Some(item) = stream
        .message()
        .await
        .map_err(|status| admin::refusal(&status))?
    {
        let record = serde_json::from_slice(&item.record)
            .map_err(|error| anyhow::anyhow!("record {} is not JSON: {error}", item.index))?;
        take(&item, record);
    }
    Ok(())
}

pub(in crate::commands) use sentence::path_of;

/// A record that was found in a folder, as one of the server's.
pub(super) fn show_hit(
    ledger: &str,
    index: u64,
    bytes: &[u8],
    receipt: Option<&ledger::Receipt>,
    global: &Global,
) {
    let record: Value = serde_json::from_slice(bytes).unwrap_or_default();
    if !global.json {
        output::line(output::value(&summary(ledger, index, &record)));
        return;
    }
    let mut document = json!({ "ledger": ledger, "index": index, "record": record });
    if let (Value::Object(fields), Some(receipt)) = (&mut document, receipt) {
        fields.insert(
            "receipt".to_owned(),
            json!(super::records::receipt_text(receipt)),
        );
    }
    output::json(&document);
}

pub(super) fn summary(ledger: &str, index: u64, record: &Value) -> String {
    let text = |path: &str| match record.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let time = text("/time/wall").parse().map_or_else(
        |_| "-".to_owned(),
        |millis| Timestamp::from_millis(millis).to_string(),
    );
    let kind = text("/type");
    let body = record.get("body").unwrap_or(&Value::Null);
    format!(
        "{}:{}  {time}  {}  {kind}  {}",
        ledger,
        index,
        sentence::path_of(&text("/actor")),
        sentence::sentence(&kind, body)
    )
}
