//! Warm solver processes, handed out one at a time. A process that failed is never handed out again.

use crate::options::Options;
use crate::report::Unknown;
use crate::solver::Process;
use cedar_policy_symcc::CedarSymCompiler;
use cedar_policy_symcc::err::Error;
use std::sync::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(crate) type Compiler = CedarSymCompiler<Process>;

/// `idle` is only ever pushed to by [`Pool::ask`], with a process that answered well.
#[derive(Debug)]
pub(crate) struct Pool {
    options: Options,
    permits: Semaphore,
    idle: Mutex<Vec<Compiler>>,
    deadline: Instant,
}

impl Pool {
    /// The time for the whole proof runs from here.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            permits: Semaphore::new(options.processes.max(1)),
            idle: Mutex::new(Vec::new()),
            deadline: Instant::now() + options.total,
        }
    }

    /// Runs one question within its bound and the whole proof's.
    pub(crate) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut Compiler) -> Result<T, Error>,
    ) -> Result<T, Unknown> {
        let late = || {
            let message = format!(
                "no answer within {} s in all",
                self.options.total.as_secs_f32()
            );
            Unknown::new("PROVE-TIMEOUT", message)
        };
        let permit = tokio::time::timeout_at(self.deadline, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(late());
        };
        let mut compiler = match self.take() {
            Some(compiler) => compiler,
            None => tokio::time::timeout_at(self.deadline, self.start())
                .await
                .map_err(|_| late())??,
        };
        let until = self.deadline.min(Instant::now() + self.options.question);
        match tokio::time::timeout_at(until, question(&mut compiler)).await {
            Ok(Ok(answer)) => {
                self.put(compiler);
                Ok(answer)
            }
            // The process is dropped and so killed.
            Ok(Err(error)) => Err(unknown(&error)),
            Err(_) if until == self.deadline => Err(late()),
            Err(_) => {
                let seconds = self.options.question.as_secs_f32();
                Err(Unknown::new(
                    "PROVE-TIMEOUT",
                    format!("no answer within {seconds} s"),
                ))
            }
        }
    }

    async fn start(&self) -> Result<Compiler, Unknown> {
        let process = Process::start(&self.options).await?;
        CedarSymCompiler::new(process).map_err(|error| unknown(&error))
    }

    fn take(&self) -> Option<Compiler> {
        self.idle.lock().ok()?.pop()
    }

    fn put(&self, compiler: Compiler) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(compiler);
        }
    }
}

/// With every cause, since symcc's messages name only the outermost.
pub(crate) fn unknown(error: &Error) -> Unknown {
    let code = match error {
        Error::SolverUnknown => "PROVE-SOLVER-UNKNOWN",
        Error::SolverError(_) => "PROVE-SOLVER-FAILED",
        Error::ModelInvalid { .. } | Error::DecodeModel(_) | Error::ConcretizeError(_) => {
            "PROVE-SOLVER-MODEL"
        }
        _ => "PROVE-UNSUPPORTED",
    };
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    Unknown::new(code, message.chars().take(500).collect::<String>())
}
