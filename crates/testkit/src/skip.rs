//! A test that cannot run here says so, loudly. Not a way to turn off a failing test.

use std::io::Write as _;

/// Says that the test `name` did not run, and why; the caller returns after it.
///
/// Prints `SKIPPED name: why` on stderr past the capture of the test harness, and appends the same to
/// the file named by `TRILITH_SKIPS`, which `cargo xtask test` compares with `tests/skips.toml`.
pub fn skip(name: &str, why: &str) {
    let line = format!("SKIPPED {name}: {}\n", why.replace('\n', " "));
    // Written straight to the stream: the harness hides what `eprintln!` prints in a passing test.
    let mut stderr = std::io::stderr();
    let printed = stderr.write_all(line.as_bytes());
    let recorded = std::env::var_os("TRILITH_SKIPS").map(|path| {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?
            .write_all(line.as_bytes())
    });
    // A skip that nobody can see would look like a pass.
    if printed.is_err() && !matches!(recorded, Some(Ok(()))) {
        std::process::abort();
    }
    if let Some(Err(_)) = recorded {
        std::process::abort();
    }
}
