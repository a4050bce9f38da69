//! The async runtime, the log and the signals of this process.

use crate::{Failure, output};
use anyhow::Context as _;
use std::future::Future;
use tokio_util::sync::CancellationToken;

/// Runs `work` on a runtime with `threads` worker threads.
pub(crate) fn block_on<T>(
    threads: usize,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?
        .block_on(work)
}

/// Logs to stderr; JSON lines where stderr is not a terminal and `json` is asked for.
pub(crate) fn log_to_stderr(filter: &str, json: bool) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    use tracing_subscriber::field::MakeExt as _;
    use tracing_subscriber::fmt::format::debug_fn;
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| Failure::usage(format!("--log: {error}")))?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    let installed = if json {
        builder.json().try_init()
    } else {
        // What a peer wrote stays on its line of the log, and does not act on the terminal.
        let fields = debug_fn(|writer, field, value| {
            let value = output::value(&format!("{value:?}"));
            match field.name() {
                "message" => writer.write_str(&value),
                name => write!(writer, "{name}={value}"),
            }
        });
        builder.fmt_fields(fields.delimited(" ")).try_init()
    };
    installed.map_err(|error| anyhow::anyhow!("cannot start logging: {error}").into())
}

/// Cancelled at the first SIGINT or SIGTERM; a second one ends the process at once.
pub(crate) fn cancelled_by_signal() -> Result<CancellationToken, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.is_cancelled() {
                std::process::exit(130);
            }
            cancel.cancel();
        }
    });
    Ok(token)
}
