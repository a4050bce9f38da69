//! Writes the seeds of every target, each into a folder of its name: `seeds FOLDER [TARGET]...`.
//! For `cargo xtask fuzz`; prints the names of the targets.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program speaks on its streams"
)]

use std::io;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(folder) = words.next() else {
        eprintln!("usage: seeds FOLDER [TARGET]...");
        return ExitCode::from(2);
    };
    let wanted: Vec<String> = words.collect();
    for target in hostile::TARGETS {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == target.name) {
            continue;
        }
        if let Err(why) = write(&Path::new(&folder).join(target.name), &(target.seeds)()) {
            eprintln!("error: {}: {why}", target.name);
            return ExitCode::FAILURE;
        }
        println!("{}", target.name);
    }
    ExitCode::SUCCESS
}

fn write(folder: &Path, seeds: &[Vec<u8>]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for seed in seeds {
        let name = crypto::hex::encode(&crypto::sha256(seed));
        std::fs::write(folder.join(name), seed)?;
    }
    Ok(())
}
