//! Looking again and again, or once, and what it comes to.

use crate::{Alert, Config, Failure, Monitor, Seen};
use facts::{Finding, Timestamp};
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Attempts to send what waits before a monitor that looks once ends.
const TRIES: u32 = 3;

/// What is told on the way.
pub enum Told<'a> {
    Seen(&'a Seen),
    Alert(&'a Alert),
    Note(&'a Finding),
    Misbehaviour(&'a PathBuf),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// There was nothing to tell, or a webhook has taken it.
    Quiet,
    /// So many things that nobody expected were told.
    Unexpected(usize),
}

/// Watches until `cancel`, or once. Without a webhook it ends with the first thing that is to be told.
///
/// # Errors
/// The failure that it ends with.
pub async fn watch(
    config: Config,
    once: bool,
    cancel: CancellationToken,
    mut tell: impl FnMut(Told<'_>),
) -> Result<Ended, Failure> {
    let interval = Duration::from_secs(config.monitor.interval_s.into());
    let mut monitor = Monitor::open(config)?;
    loop {
        let looked = tokio::select! {
            looked = monitor.round(Timestamp::now()) => looked,
            () = cancel.cancelled() => return Ok(Ended::Quiet),
        };
        if let Ok(seen) = &looked {
            seen.notes.iter().for_each(|note| tell(Told::Note(note)));
            tell(Told::Seen(seen));
        }
        let kept = monitor.trouble(looked.as_ref().err(), Timestamp::now())?;
        if let Some(path) = &kept {
            tell(Told::Misbehaviour(path));
        }
        let handed = hand_over(&mut monitor, once, &cancel, &mut tell).await;
        let told = match (handed, &looked) {
            (Ok(told), _) => told,
            (Err(failure), Ok(_)) => return Err(failure),
            // What is wrong with the log comes before what is wrong with a webhook.
            (Err(failure), Err(_)) => {
                tell(Told::Note(failure.finding()));
                0
            }
        };
        match looked {
            // These end it: what the key says is worth nothing any more, or this machine cannot go on.
            Err(failure @ (Failure::Misbehaved(..) | Failure::Local(_))) => return Err(failure),
            Err(failure @ Failure::Broken(_)) if once || !monitor.has_webhook() => {
                return Err(failure);
            }
            Err(failure) if once || told > 0 => return Err(failure),
            Err(failure) => tell(Told::Note(failure.finding())),
            Ok(_) if told > 0 => return Ok(Ended::Unexpected(told)),
            Ok(_) if once => return Ok(Ended::Quiet),
            Ok(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = cancel.cancelled() => return Ok(Ended::Quiet),
        }
    }
}

/// What waits, to the webhook or to whoever called; how many the caller was told.
async fn hand_over(
    monitor: &mut Monitor,
    once: bool,
    cancel: &CancellationToken,
    tell: &mut impl FnMut(Told<'_>),
) -> Result<usize, Failure> {
    if !monitor.has_webhook() {
        let count = monitor.waiting().len();
        monitor
            .waiting()
            .iter()
            .for_each(|alert| tell(Told::Alert(alert)));
        if count > 0 {
            monitor.taken(count)?;
        }
        return Ok(count);
    }
    let mut tries = 1;
    loop {
        let sent = tokio::select! {
            sent = monitor.send(Timestamp::now()) => sent,
            () = cancel.cancelled() => return Ok(0),
        };
        match sent {
            // The pause after a failure is not over yet.
            Ok(_) if once && !monitor.waiting().is_empty() => {}
            Ok(_) => return Ok(0),
            Err(failure) => {
                tell(Told::Note(failure.finding()));
                if !once {
                    return Ok(0);
                }
                if tries >= TRIES {
                    return Err(failure);
                }
                tries += 1;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(250)) => {}
            () = cancel.cancelled() => return Ok(0),
        }
    }
}
