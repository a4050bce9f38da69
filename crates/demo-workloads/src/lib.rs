//! A workload that takes its identity from the SPIFFE Workload API with the `spiffe` crate, checks its peer
//! with `spiffe-rustls`, and speaks to PostgreSQL with `tokio-postgres`: no line of Trilith is linked.
//!
//! It reads one JSON command a line and answers with one JSON object a line; the demo and the tests drive it.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "standard output is this program's interface"
)]

mod command;
mod database;

use command::{Command, Request};
use database::Database;
use serde_json::{Value, json};
use spiffe_client::{WorkloadApiClient, X509Source};
use std::process::ExitCode;
use tokio::sync::mpsc;

/// Runs until standard input ends. `name` is only printed.
#[must_use]
pub fn run(name: &'static str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(serve(name)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&json!({ "event": "error", "message": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

async fn serve(name: &'static str) -> Result<(), Failure> {
    let client = WorkloadApiClient::connect_env().await?;
    let context = match client.fetch_x509_context().await {
        Ok(context) => context,
        Err(error) => {
            print(&json!({ "event": "refused", "program": name, "message": chain(&error) }));
            return Ok(());
        }
    };
    let svid = context
        .default_svid()
        .ok_or("the Workload API sent no SVID")?;
    print(
        &json!({ "event": "identity", "program": name, "spiffe_id": svid.spiffe_id().to_string() }),
    );

    let source = X509Source::new().await?;
    let mut database = Database::new(source);
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        let request: Request = serde_json::from_str(&line)?;
        let mut answer = match request.command {
            Command::Identity => database.identity(),
            Command::Chain => database.certificates(),
            command => database.run(command).await,
        };
        if let Value::Object(fields) = &mut answer {
            fields.insert("id".to_owned(), json!(request.id));
        }
        print(&answer);
    }
    Ok(())
}

/// Standard input, read on a thread of its own; ends when it ends.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The whole chain of causes, outermost first.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(crate) fn print(value: &Value) {
    println!("{value}");
}
