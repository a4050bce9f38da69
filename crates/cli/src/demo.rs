//! `trilith demo`: all three pillars on this machine, with a real database and a real protocol at each edge.
//!
//! It writes ordinary configuration, starts ordinary processes of this very binary, and asks what a user
//! would ask with the commands that a user has. Nothing outside this module knows that a demo is running.

mod database;
mod emulated_tpm;
mod estate;
mod process;
mod site;
mod steps;
mod story;
mod trilith;
mod workload;

use crate::Failure;
use crate::arguments::{DemoArguments, Global};
use site::Site;
use std::process::ExitCode;
use story::Story;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) async fn run(arguments: DemoArguments, global: Global) -> Result<ExitCode, Failure> {
    let mut story = Story::new(global.json, arguments.keep);
    let told = tokio::select! {
        told = tell(&mut story, &arguments) => told,
        ended = ended_by_user() => ended,
    };
    // Dropping the site has ended every process and removed every file.
    if let Err(error) = told {
        let why = format!("{error:#}");
        // People have it as the sentence.
        let detail = if global.json {
            story::Detail::new().with("error", why.as_str())
        } else {
            story::Detail::new()
        };
        story.step("demo", false, &why, &detail);
    }
    Ok(if story.end() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Ctrl-C, `kill`, or the terminal that went away.
async fn ended_by_user() -> anyhow::Result<()> {
    let [mut interrupt, mut terminate, mut hangup] = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

async fn tell(story: &mut Story, arguments: &DemoArguments) -> anyhow::Result<()> {
    let mut site = Site::new(arguments)?;
    steps::all(story, &mut site).await?;
    story.told();
    if arguments.hold {
        story.verdict();
        site.print_what_to_look_at();
        std::future::pending::<()>().await;
    }
    site.end().await;
    Ok(())
}
