//! Which solver, and how much of the machine it may have.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Options {
    /// The cvc5 program: a path, or a name to be found on `PATH`.
    pub solver: PathBuf,
    /// Another one, which has to agree on everything that is proved: a cvc5, or a program whose name begins with
    /// `z3`.
    pub second: Option<PathBuf>,
    /// Where none is named: the folders, as `PATH` has them, in which a solver of another make is looked for. What it
    /// contradicts is not proved; as long as it answers, two vouched.
    pub find_second: Option<OsString>,
    /// Processes of each at once.
    pub processes: usize,
    /// For a process to start, and to answer questions whose answers are known.
    pub start: Duration,
    /// For one question; after it the process is killed.
    pub question: Duration,
    /// For the whole proof; what is not proved by then is unknown.
    pub total: Duration,
    /// Address space of each process, in KiB.
    pub memory_kib: u64,
}

impl Options {
    /// The defaults, with the solver named by `cvc5` (the value of `$CVC5`) if there is one.
    #[must_use]
    pub fn with_solver(cvc5: Option<OsString>) -> Self {
        Self {
            solver: cvc5.map_or_else(|| PathBuf::from("cvc5"), PathBuf::from),
            ..Self::default()
        }
    }
}

impl Options {
    /// The options of each solver, one process of it.
    pub(crate) fn each_alone(&self) -> Vec<Self> {
        let solvers = std::iter::once(&self.solver).chain(&self.second);
        solvers
            .map(|solver| Self {
                solver: solver.clone(),
                second: None,
                find_second: None,
                processes: 1,
                ..self.clone()
            })
            .collect()
    }

    /// Those of a solver of another make, if one is looked for and there. It has a part of the time, so that
    /// the first has enough.
    pub(crate) fn peer(&self) -> Option<Self> {
        let path = self
            .find_second
            .as_ref()
            .filter(|_| self.second.is_none())?;
        let mut programs = std::env::split_paths(path).map(|folder| folder.join("z3"));
        Some(Self {
            solver: programs.find(|program| program.is_file())?,
            second: None,
            find_second: None,
            processes: 1,
            question: self.question / 4,
            total: self.total / 4,
            ..self.clone()
        })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            solver: PathBuf::from("cvc5"),
            second: None,
            find_second: None,
            // One for each core of the smallest machine that we plan for.
            processes: 2,
            // They take milliseconds; one that has not answered by then is none.
            start: Duration::from_secs(5),
            // Ordinary invariants take milliseconds; past this an operator waits for nothing.
            question: Duration::from_secs(10),
            total: Duration::from_secs(60),
            // 1,000 policies were measured to need less than 200 MiB.
            memory_kib: 2 * 1024 * 1024,
        }
    }
}
