//! Builds the named tests and runs each in a process of its own, so that its exit code is the answer.

use super::catalogue::{Mutant, Test};
use super::checkout::Checkout;
use crate::shell::{Doing as _, Failure, Result};
use crate::workspace::{Package, cargo, evidence, packages, root, target};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Several times what the longest of the tests takes. One that hangs has shown nothing: it needs an end of
/// its own.
const LIMIT: Duration = Duration::from_secs(150);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Caught,
    Survived,
    DoesNotBuild,
    NotJudged,
}

impl Outcome {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::Survived => "SURVIVED",
            Self::DoesNotBuild => "does not build",
            Self::NotJudged => "not judged",
        }
    }
}

/// What became of one mutant.
pub(super) struct Trial {
    pub(super) outcome: Outcome,
    /// Why it is anything but caught, a line each.
    pub(super) why: Vec<String>,
    /// What the failing tests said: whoever adds a mutant reads here that they fail for the right reason.
    pub(super) said: Vec<String>,
}

impl Trial {
    pub(super) fn not_judged(why: String) -> Self {
        Self {
            outcome: Outcome::NotJudged,
            why: vec![why],
            said: Vec::new(),
        }
    }
}

/// One test program of cargo.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Harness {
    package: String,
    /// Relative to the root.
    folder: String,
    /// As cargo selects it: `--lib`, or `--test` and a name.
    target: Vec<String>,
}

/// How one run of one test ended.
enum Ending {
    Passed,
    Failed(String),
    /// Neither: why.
    Nothing(String),
}

/// The named tests on the code as it is.
pub(super) struct Baseline {
    /// The path of each test within its harness, or why it shows nothing.
    tests: BTreeMap<Test, Result<(Harness, String), String>>,
}

impl Baseline {
    pub(super) fn run(mutants: &[&Mutant], checkout: &mut Checkout) -> Result<Self> {
        let packages = packages()?;
        let mut harnesses: BTreeMap<Harness, BTreeSet<Test>> = BTreeMap::new();
        for test in mutants.iter().flat_map(|mutant| &mutant.fails) {
            let harness = Harness::of(test, &packages)
                .ok_or_else(|| Failure::new(format!("{test} is in no test program")))?;
            harnesses.entry(harness).or_default().insert(test.clone());
        }
        let mut tests = BTreeMap::new();
        for (harness, named) in harnesses {
            let started = Instant::now();
            let program = harness.build()?.map_err(|errors| {
                Failure::new(format!(
                    "{} does not build as it is:\n{errors}",
                    harness.package
                ))
            })?;
            let paths = harness.list(&program)?;
            let count = named.len();
            for test in named {
                let found = match path_of(&test, &harness, &paths) {
                    None => Err(format!("there is no test {test}")),
                    Some(path) => match harness.run(&program, path, checkout)? {
                        Ending::Passed => Ok((harness.clone(), path.clone())),
                        Ending::Failed(said) => {
                            Err(format!("{test} fails without the mutant: {said}"))
                        }
                        Ending::Nothing(why) => Err(format!("{test} {why} without the mutant")),
                    },
                };
                tests.insert(test, found);
            }
            eprintln!(
                "{count} tests of {} run on the code as it is, {:.0} s",
                harness.package,
                started.elapsed().as_secs_f64()
            );
        }
        Ok(Self { tests })
    }

    /// Why a mutant cannot be judged by its tests.
    pub(super) fn objection(&self, mutant: &Mutant) -> Option<String> {
        let mut tests = mutant.fails.iter().filter_map(|test| self.tests.get(test));
        tests.find_map(|found| found.as_ref().err().cloned())
    }

    /// Builds and runs the tests of the mutant, which is applied.
    pub(super) fn judge(&self, mutant: &Mutant, checkout: &mut Checkout) -> Result<Trial> {
        let mut trial = Trial {
            outcome: Outcome::Caught,
            why: Vec::new(),
            said: Vec::new(),
        };
        let mut programs: BTreeMap<&Harness, PathBuf> = BTreeMap::new();
        for test in &mutant.fails {
            let Some(Ok((harness, path))) = self.tests.get(test) else {
                continue;
            };
            if !programs.contains_key(harness) {
                match harness.build()? {
                    Ok(program) => programs.insert(harness, program),
                    Err(errors) => {
                        trial.outcome = Outcome::DoesNotBuild;
                        trial.why = errors.lines().map(str::to_owned).collect();
                        return Ok(trial);
                    }
                };
            }
            let Some(program) = programs.get(harness) else {
                continue;
            };
            match harness.run(program, path, checkout)? {
                Ending::Failed(said) => trial.said.push(format!("{}: {said}", test.function)),
                Ending::Passed => {
                    trial.outcome = Outcome::Survived;
                    trial.why.push(format!("{test} passes"));
                }
                Ending::Nothing(why) => {
                    if trial.outcome == Outcome::Caught {
                        trial.outcome = Outcome::NotJudged;
                    }
                    trial.why.push(format!("{test} {why}"));
                }
            }
        }
        Ok(trial)
    }
}

impl Harness {
    fn of(test: &Test, packages: &[Package]) -> Option<Self> {
        let (package, inside) = packages.iter().find_map(|package| {
            let inside = test.file.strip_prefix(&package.folder)?.strip_prefix('/')?;
            Some((package, inside))
        })?;
        let target = match inside.split('/').collect::<Vec<_>>().as_slice() {
            ["src", ..] if root().join(&package.folder).join("src/lib.rs").is_file() => {
                vec!["--lib".to_owned()]
            }
            ["src", ..] => vec!["--bins".to_owned()],
            ["tests", name, ..] => {
                vec!["--test".to_owned(), name.trim_end_matches(".rs").to_owned()]
            }
            _ => return None,
        };
        Some(Self {
            package: package.name.clone(),
            folder: package.folder.clone(),
            target,
        })
    }

    /// The path of the program, or the compiler's errors.
    fn build(&self) -> Result<Result<PathBuf, String>> {
        let mut command = cargo(&["test", "--no-run", "--quiet", "--message-format=json"]);
        command.args(["-p", &self.package]).args(&self.target);
        let output = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .doing("cargo test --no-run")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let messages: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if !output.status.success() {
            let mut errors: String = messages.iter().filter_map(error).collect();
            if errors.is_empty() {
                errors = String::from_utf8_lossy(&output.stderr).into_owned();
            }
            return Ok(Err(errors));
        }
        let program = messages.iter().filter_map(executable).next_back();
        let program = program
            .ok_or_else(|| Failure::new(format!("cargo builds no tests of {}", self.package)))?;
        Ok(Ok(program))
    }

    /// The paths of its tests: `module::function`.
    fn list(&self, program: &Path) -> Result<Vec<String>> {
        let output = self.command(program, &["--list"]).output();
        let output = output.doing(program.display())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let paths = text.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(paths.map(str::to_owned).collect())
    }

    fn run(&self, program: &Path, path: &str, checkout: &mut Checkout) -> Result<Ending> {
        let skips = target().join("mutants/skips.txt");
        let said = target().join("mutants/output.txt");
        std::fs::write(&skips, "").doing(skips.display())?;
        let stdout = File::create(&said).doing(said.display())?;
        let stderr = stdout.try_clone().doing(said.display())?;
        let mut command = self.command(program, &["--exact", path]);
        command
            .env("TRILITH_SKIPS", &skips)
            .stdout(stdout)
            .stderr(stderr);
        let mut child = command.spawn().doing(program.display())?;
        checkout.runs(Some(child.id()))?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().doing(program.display())? {
                break Some(status);
            }
            if started.elapsed() > LIMIT {
                child.kill().doing(program.display())?;
                child.wait().doing(program.display())?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        checkout.runs(None)?;
        let Some(status) = status else {
            return Ok(Ending::Nothing("does not end".to_owned()));
        };
        let output = std::fs::read(&said).doing(said.display())?;
        let output = String::from_utf8_lossy(&output);
        let skipped = std::fs::read_to_string(&skips).doing(skips.display())?;
        Ok(if let Some(skip) = skipped.lines().next() {
            Ending::Nothing(format!("did not run: {skip}"))
        } else if !status.success() {
            Ending::Failed(last_words(&output).unwrap_or_else(|| status.to_string()))
        } else if output.contains("test result: ok. 1 passed;") {
            Ending::Passed
        } else {
            Ending::Nothing("did not run".to_owned())
        })
    }

    /// The program where and as cargo would run it.
    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let folder = root().join(&self.folder);
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&folder)
            .env("CARGO_MANIFEST_DIR", &folder)
            .env("CARGO_PKG_NAME", &self.package)
            .env("RUST_BACKTRACE", "0")
            // What a mutant fails on is no case to be tried again.
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            .stdin(Stdio::null());
        if let Some(folder) = evidence() {
            command.env("TRILITH_EVIDENCE", folder);
        }
        command
    }
}

/// The path that ends with the function and begins with the module of its file. A file may hold the test
/// in a module of its own.
fn path_of<'p>(test: &Test, harness: &Harness, paths: &'p [String]) -> Option<&'p String> {
    let inside = test.file.strip_prefix(&harness.folder)?.strip_prefix('/')?;
    let inside = inside.trim_end_matches(".rs");
    let module: String = match inside.split_once('/')? {
        ("src", file) => file.replace('/', "::"),
        (_, file) => file.split('/').skip(1).collect::<Vec<_>>().join("::"),
    };
    let prefix = match module.as_str() {
        "lib" | "main" | "" => String::new(),
        module => format!("{module}::"),
    };
    let suffix = format!("::{}", test.function);
    let mut found = paths.iter().filter(|path| {
        let tail = path.strip_prefix(&prefix);
        tail.is_some_and(|tail| tail == test.function || tail.ends_with(&suffix))
    });
    let path = found.next()?;
    found.next().is_none().then_some(path)
}

fn error(message: &Value) -> Option<String> {
    let message = message.get("message")?;
    (message.get("level")?.as_str()? == "error")
        .then(|| message.get("rendered")?.as_str().map(str::to_owned))?
}

fn executable(message: &Value) -> Option<PathBuf> {
    let is_test = message.get("profile")?.get("test")?.as_bool()?;
    is_test.then(|| message.get("executable")?.as_str().map(PathBuf::from))?
}

/// Where a test panicked and what it said, in one line; else that it expected something else.
fn last_words(output: &str) -> Option<String> {
    let mut lines = output
        .lines()
        .skip_while(|line| !line.contains(" panicked at "));
    let Some(panic) = lines.next() else {
        let mut lines = output.lines();
        return lines
            .find(|line| line.contains("expect test failed"))
            .map(str::to_owned);
    };
    let place = panic.split(" panicked at ").nth(1)?;
    let said = lines.take(3).take_while(|line| !line.starts_with("note: "));
    let said = said.map(str::trim).collect::<Vec<_>>().join(" ");
    let said: String = said.chars().take(200).collect();
    Some(format!("{place} {said}"))
}

#[cfg(test)]
mod tests {
    use super::{Harness, last_words, path_of};
    use crate::mutants::catalogue::Test;

    fn path(file: &str, paths: &[&str]) -> Option<String> {
        let harness = Harness {
            package: "x".to_owned(),
            folder: "crates/x".to_owned(),
            target: Vec::new(),
        };
        let test = Test {
            file: format!("crates/x/{file}"),
            function: "attack".to_owned(),
        };
        let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
        path_of(&test, &harness, &paths).cloned()
    }

    #[test]
    fn a_test_is_found_by_its_file_and_only_if_there_is_one() {
        let paths = [
            "a::attack",
            "b::c::tests::attack",
            "b::attack_not",
            "attack",
        ];
        assert_eq!(path("tests/it/a.rs", &paths).unwrap(), "a::attack");
        assert_eq!(path("src/b/c.rs", &paths).unwrap(), "b::c::tests::attack");
        assert_eq!(path("tests/it/d.rs", &paths), None);
        assert_eq!(path("tests/it/main.rs", &["attack"]).unwrap(), "attack");
        assert_eq!(path("src/b.rs", &["b::x::attack", "b::y::attack"]), None);
    }

    #[test]
    fn what_a_test_said_is_its_first_panic() {
        let output = "test a ... FAILED\nthread 'a' (7) panicked at a.rs:1:2:\nleft\nright\n";
        assert_eq!(last_words(output).unwrap(), "a.rs:1:2: left right");
        assert_eq!(last_words("killed"), None);
    }
}
