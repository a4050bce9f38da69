//! Which programs run other code, so that their own digest says nothing of what runs.
//!
//! Judged by name, to keep an honest estate honest: somebody who renames an interpreter gets the digest
//! of that interpreter stated, which no estate should list as anybody's code.

/// Names, without version: `python` stands for `python3` and `python3.11` too.
pub const INTERPRETERS: &[&str] = &[
    // shells and their tools
    "ash",
    "bash",
    "busybox",
    "csh",
    "dash",
    "fish",
    "ksh",
    "mksh",
    "nu",
    "pwsh",
    "rbash",
    "sh",
    "tcsh",
    "toybox",
    "zsh",
    "awk",
    "gawk",
    "mawk",
    "nawk",
    "expect",
    "make",
    "tclsh",
    "wish",
    // languages
    "python",
    "pypy",
    "node",
    "nodejs",
    "deno",
    "bun",
    "qjs",
    "perl",
    "ruby",
    "jruby",
    "truffleruby",
    "php",
    "php-cgi",
    "php-fpm",
    "lua",
    "luajit",
    "texlua",
    "R",
    "Rscript",
    "julia",
    "guile",
    "racket",
    "gosh",
    "scheme",
    "clisp",
    "sbcl",
    "ecl",
    "emacs",
    "gst",
    "octave",
    "octave-cli",
    "swipl",
    "gforth",
    "irb",
    "raku",
    "ocaml",
    "runghc",
    "ghci",
    "scala",
    "groovy",
    "elixir",
    "iex",
    "erl",
    "erlexec",
    "escript",
    "beam.smp",
    // virtual machines and emulators
    "java",
    "javaw",
    "dotnet",
    "mono",
    "mono-sgen",
    "wasmtime",
    "wasmer",
    "wasmedge",
    "wine",
    "wine-preloader",
    "wine64",
    "wine64-preloader",
    "valgrind",
    // debuggers that run what they are given, and the loader itself
    "gdb",
    "lldb",
    "ld.so",
    "ld-musl-x86_64.so",
    "ld-musl-aarch64.so",
];

/// Families whose names go on after the prefix: `qemu-x86_64-static`, `ld-linux-x86-64.so.2`.
const PREFIXES: &[&str] = &["qemu-", "ld-linux", "ld-musl", "ld-2.", "ld64.so"];

/// Whether a program of this name interprets other code.
#[must_use]
pub fn is_interpreter(name: &str) -> bool {
    let unversioned =
        name.trim_end_matches(|last: char| last.is_ascii_digit() || matches!(last, '.' | '-'));
    [name, unversioned]
        .iter()
        .any(|name| INTERPRETERS.contains(name))
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_do_not_hide_an_interpreter() {
        for name in [
            "python",
            "python3",
            "python3.11",
            "node",
            "node-22",
            "bash",
            "perl5.36.0",
            "java",
            "ruby3.1",
            "lua5.4",
            "php8.2",
            "beam.smp",
            "ld-linux-x86-64.so.2",
            "qemu-aarch64-static",
            "wine64",
        ] {
            assert!(is_interpreter(name), "{name}");
        }
        for name in [
            "payments",
            "nodejs-exporter",
            "shred",
            "pythonista",
            "psql",
            "trilith",
            "",
        ] {
            assert!(!is_interpreter(name), "{name}");
        }
    }
}
