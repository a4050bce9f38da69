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

pub(crate) async fn run(arguments: DemoArguments, global: Global) -> Result<ExitCode, Failure> {
    let mut story = Story::new(global.json);
    let mut interrupted = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(anyhow::Error::from)?;
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(anyhow::Error::from)?;
    let told = tokio::select! {
        told = tell(&mut story, &arguments) => told,
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
    };
    // Dropping the site has ended every process and removed every file.
    if let Err(error) = told {
        story.step("demo", false, &format!("{error:#}"), &story::Detail::new());
    }
    Ok(if story.end() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn tell(story: &mut Story, arguments: &DemoArguments) -> anyhow::Result<()> {
    let mut site = Site::new(arguments)?;
    steps::all(story, &mut site).await?;
    if arguments.hold {
        site.print_what_to_look_at();
        std::future::pending::<()>().await;
    }
    site.end().await;
    Ok(())
}
