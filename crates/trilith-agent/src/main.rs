//! The node agent as a program of its own, for machines that should carry nothing else. It takes the
//! configuration file of `trilith agent` and does the same; administration is in `trilith`.

#![forbid(unsafe_code)]

mod arguments;

use anyhow::Context as _;
use arguments::{Action, Arguments};
use std::io::Write as _;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::debug_fn;

fn main() -> ExitCode {
    let outcome = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(Action::Print(text)) => print(&text),
        Ok(Action::Run(arguments)) => run(&arguments),
        Err(problem) => {
            complain(&format!("{problem}\nnext: trilith-agent --help"));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    agent::hide().context("cannot keep this process out of core files")?;
    let filter = tracing_subscriber::EnvFilter::try_new(&arguments.log).context("--log")?;
    // What a peer wrote stays on its line of the log, and does not act on the terminal.
    let fields = debug_fn(|writer, field, value| {
        let value = shown(&format!("{value:?}"));
        match field.name() {
            "message" => writer.write_str(&value),
            name => write!(writer, "{name}={value}"),
        }
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .fmt_fields(fields.delimited(" "))
        .init();
    let mut config =
        agent::AgentConfig::load(&arguments.config).map_err(|error| error.finding())?;
    config.token_given = match &arguments.token {
        Some(token) => Some(agent::Token::new(&token.0)),
        None => std::env::var("TRILITH_JOIN_TOKEN")
            .ok()
            .map(|token| agent::Token::new(&token)),
    };
    agent::runtime()
        .context("cannot start the async runtime")?
        .block_on(async {
            let shutdown = CancellationToken::new();
            tokio::spawn(cancel_at_signal(shutdown.clone())?);
            agent::run(config, shutdown)
                .await
                .map_err(|error| error.finding().into())
        })
}

/// Control characters as `\u{1b}`.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Cancels at the first SIGINT or SIGTERM.
fn cancel_at_signal(
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        shutdown.cancel();
    })
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("stdout")
}

fn complain(problem: &str) {
    // Nobody is left to tell when stderr is closed; the exit code says it too.
    let _closed = std::io::stderr().write_all(format!("error: {problem}\n").as_bytes());
}
