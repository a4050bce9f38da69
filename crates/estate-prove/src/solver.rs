//! One solver process: spoken to in SMT-LIB over pipes, bounded in time, memory and what it may say.

use crate::dialect::{Dialect, for_z3};
use crate::options::Options;
use crate::report::Unknown;
use cedar_policy_symcc::SmtLibScript;
use cedar_policy_symcc::solver::{Decision, DecisionWithModel, Solver, SolverError};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter,
};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Longer than any model that a counterexample needs.
const MAX_ANSWER_BYTES: u64 = 4 * 1024 * 1024;
/// `sh` sets the limit on address space and becomes the solver: no code of ours runs between fork
/// and exec.
const LIMITED: &str = "ulimit -v \"$1\" && shift && exec \"$@\"";

/// Of what kinds questions are made: identities by their names, sets of them, texts and integers.
const OF_ANOTHER_MAKE: &str = "(declare-const x Int)\n(declare-datatype R ((R (eid String))))\n\
    (declare-fun f (R) (Set R))\n(declare-const r R)\n(declare-const a (Set R))\n(declare-const i (_ BitVec 64))\n";

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    #[expect(dead_code, reason = "owned so that dropping it kills the process")]
    child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
    dialect: Dialect,
    /// What is still to be said in the words of another make.
    script: Vec<u8>,
}

/// A command that runs the solver within `memory_kib`.
fn limited(options: &Options) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", LIMITED, "sh"])
        .arg(options.memory_kib.to_string())
        .arg(&options.solver)
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A path, and no name to be looked up.
fn has_folder(solver: &Path) -> bool {
    solver.as_os_str().as_encoded_bytes().contains(&b'/')
}

/// Whether there is something for the shell to start, which itself says so on a channel that nobody reads.
fn is_there(solver: &Path) -> bool {
    if has_folder(solver) {
        return solver.exists();
    }
    // Without a PATH the shell has one of its own.
    std::env::var_os("PATH")
        .is_none_or(|path| std::env::split_paths(&path).any(|folder| folder.join(solver).is_file()))
}

impl Process {
    /// Starts a solver and asks it two questions with known answers: one that says `unsat` to
    /// everything, which is what a proof is, does not get further.
    pub(crate) async fn start(options: &Options) -> Result<Self, Unknown> {
        let unusable = |message: String| Unknown::new("PROVE-SOLVER-START", message);
        if !is_there(&options.solver) {
            let solver = options.solver.display();
            return Err(unusable(if has_folder(&options.solver) {
                format!("cannot start `{solver}`: there is no such file")
            } else {
                format!("cannot start `{solver}`: not found on the PATH of the process that proves")
            }));
        }
        let dialect = Dialect::of(&options.solver);
        let bound = options.question.as_millis();
        let arguments = match dialect {
            Dialect::Cvc5 => ["--lang=smt".to_owned(), format!("--tlimit-per={bound}")],
            Dialect::Z3 => ["-in".to_owned(), format!("-t:{bound}")],
        };
        let mut child = limited(options)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| unusable(format!("{}: {error}", options.solver.display())))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unusable("the solver has no pipes".to_owned()));
        };
        let mut process = Self {
            child,
            input: BufWriter::new(input),
            output: BufReader::new(output),
            dialect,
            script: Vec::new(),
        };
        match tokio::time::timeout(options.start, process.rehearse()).await {
            Err(_) => Err(unusable(format!(
                "{} does not answer",
                options.solver.display()
            ))),
            Ok(Err(error)) => Err(unusable(format!(
                "{} is no usable {}: {error}",
                options.solver.display(),
                match dialect {
                    Dialect::Cvc5 => "cvc5",
                    Dialect::Z3 => "Z3",
                }
            ))),
            Ok(Ok(())) => Ok(process),
        }
    }

    async fn rehearse(&mut self) -> Result<(), SolverError> {
        let mut questions = vec![("(= x 1)", Decision::Sat), ("(< x x)", Decision::Unsat)];
        let mut known = "(declare-const x Int)\n";
        if self.dialect == Dialect::Z3 {
            // Whether it understands what is asked at all, in other words than it has.
            known = OF_ANOTHER_MAKE;
            questions.extend([
                ("(set.member r a)", Decision::Sat),
                ("(and (set.subset a (f r)) (set.member r a) (not (set.member r (f r))))", Decision::Unsat),
                ("(and (= (eid r) \"\") (str.in_re (eid r) (re.++ re.allchar (re.* re.allchar))))", Decision::Unsat),
                ("(and (not (bvsaddo i (_ bv1 64))) (= i (_ bv9223372036854775807 64)))", Decision::Unsat),
            ]);
        }
        for (assertion, expected) in questions {
            let script = format!("(reset)\n(set-logic ALL)\n{known}(assert {assertion})\n");
            self.smtlib_input().write_all(script.as_bytes()).await?;
            let answer = self.check_sat().await?;
            if answer != expected {
                let message = format!("it answers {answer:?} where {expected:?} is right");
                return Err(SolverError::Solver(message));
            }
        }
        Ok(())
    }
}

/// One line without its end, at most [`MAX_ANSWER_BYTES`] long; an error at the end of the stream.
async fn line(
    output: &mut (impl AsyncBufRead + Unpin),
    budget: &mut u64,
) -> Result<String, SolverError> {
    let mut bytes = Vec::new();
    let read = output.take(*budget).read_until(b'\n', &mut bytes).await?;
    *budget = budget.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
    if bytes.pop() != Some(b'\n') {
        let message = if *budget == 0 {
            "its answer is too long"
        } else {
            "it ended"
        };
        return Err(SolverError::Solver(message.to_owned()));
    }
    String::from_utf8(bytes)
        .map_err(|_| SolverError::UnrecognizedSolverOutput("no UTF-8".to_owned()))
}

fn unrecognized(answer: &str) -> SolverError {
    SolverError::UnrecognizedSolverOutput(answer.chars().take(200).collect())
}

impl Solver for Process {
    fn smtlib_input(&mut self) -> &mut (dyn AsyncWrite + Unpin + Send) {
        match self.dialect {
            Dialect::Cvc5 => &mut self.input,
            Dialect::Z3 => &mut self.script,
        }
    }

    async fn enable_models(&mut self) -> Result<(), SolverError> {
        self.smtlib_input()
            .set_option("produce-models", "true")
            .await
            .map_err(Into::into)
    }

    async fn check_sat(&mut self) -> Result<Decision, SolverError> {
        if self.dialect == Dialect::Z3 {
            let script = std::mem::take(&mut self.script);
            let translated = std::str::from_utf8(&script).ok().and_then(for_z3);
            let translated = translated.ok_or_else(|| unrecognized("what is to be asked of it"))?;
            self.input.write_all(translated.as_bytes()).await?;
        }
        self.input.check_sat().await?;
        self.input.flush().await?;
        let mut budget = MAX_ANSWER_BYTES;
        let answer = line(&mut self.output, &mut budget).await?;
        match answer.trim() {
            "sat" => Ok(Decision::Sat),
            "unsat" => Ok(Decision::Unsat),
            "unknown" | "timeout" => Ok(Decision::Unknown),
            other => Err(unrecognized(other)),
        }
    }

    async fn check_sat_with_model(&mut self) -> Result<DecisionWithModel, SolverError> {
        match self.check_sat().await? {
            Decision::Unsat => return Ok(DecisionWithModel::Unsat),
            Decision::Unknown => return Ok(DecisionWithModel::Unknown),
            Decision::Sat => {}
        }
        self.input.get_model().await?;
        self.input.flush().await?;
        let mut budget = MAX_ANSWER_BYTES;
        let mut model = line(&mut self.output, &mut budget).await?;
        if model.trim() != "(" {
            return Err(unrecognized(&model));
        }
        loop {
            let next = line(&mut self.output, &mut budget).await?;
            model.push('\n');
            model.push_str(&next);
            if next.trim() == ")" {
                model.push('\n');
                return Ok(DecisionWithModel::Sat { model });
            }
        }
    }
}

/// The first line of `--version`, if the program says anything in time.
pub(crate) async fn version(options: &Options) -> Option<String> {
    let mut child = limited(options)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut output = BufReader::new(child.stdout.take()?);
    let mut budget = 4096;
    let first = tokio::time::timeout(options.start, line(&mut output, &mut budget))
        .await
        .ok()?
        .ok()?;
    Some(first.trim().to_owned()).filter(|text| !text.is_empty())
}
