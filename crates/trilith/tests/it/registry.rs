//! `trilith refs import oci` of an image in a registry: other people's registries, filled by other people's client
//! (`tests/peers/registry`, built where Go is there).

use crate::images::{Built, PROGRAM};
use crate::refs::{text, trilith};
use facts::names;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

struct Running {
    program: PathBuf,
    child: Child,
    /// Host and port.
    address: String,
}

impl Running {
    fn start(program: &Path, kind: &str) -> Self {
        let mut child = Command::new(program)
            .args(["serve", kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry starts");
        let mut address = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut address)
            .expect("its address");
        Self {
            program: program.to_owned(),
            child,
            address: address.trim().to_owned(),
        }
    }

    /// Pushes everything of the layout, by their client.
    fn fill(&self, built: &Built, login: &[&str]) {
        let layout = built.at("layout");
        let repository = format!("{}/team/app", self.address);
        let ran = Command::new(&self.program)
            .args(["push", text(&layout), &repository])
            .args(login)
            .output()
            .expect("the client starts");
        assert!(ran.status.success(), "{ran:?}");
    }

    fn import(&self, built: &Built, digest: &str) -> Output {
        let image = format!("{}/team/app@{digest}", self.address);
        let [output, attached, registries] =
            ["image.json", "attached.json", "registries.toml"].map(|name| built.at(name));
        trilith(&[
            "import",
            "oci",
            &image,
            "--registries",
            text(&registries),
            "--name",
            "payments",
            "--output",
            text(&output),
            "--attached",
            text(&attached),
        ])
    }

    /// Which registry may be asked, with these more lines.
    fn list(&self, built: &Built, more: &str) {
        let address = &self.address;
        let said = format!(
            "cache = \"images\"\n[[registry]]\nhost = \"{address}\"\nurl = \"http://{address}\"\n{more}"
        );
        std::fs::write(built.at("registries.toml"), said).expect("written");
    }

    fn refused(&self, built: &Built, digest: &str, code: &str) {
        let ran = self.import(built, digest);
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{said}");
        assert!(said.contains(code), "{code}: {said}");
        assert!(!built.at("image.json").exists(), "nothing half-written");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn login(built: &Built, word: &str, mode: u32) {
    let file = built.at("login");
    std::fs::write(&file, format!("reader:{word}\n")).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode");
}

/// The image of `built` is known by who signed it, and not by where it came from.
fn is_known(built: &Built) {
    let known = built.known(PROGRAM);
    for (name, expected) in [
        (names::CODE_REFERENCE, "payments /usr/bin/payments"),
        (names::CODE_IMAGE_DIGEST, built.digest.as_str()),
        (names::CODE_IMAGE_APPROVED_BY, "release key"),
    ] {
        assert_eq!(known.text(name), Some(expected), "{name}");
    }
    for name in ["image.json", "attached.json"] {
        std::fs::remove_file(built.at(name)).expect("it was written");
    }
}

#[test]
fn an_image_of_other_peoples_registries_is_imported_with_what_is_attached() {
    let program = match testkit::go_peer("registry") {
        Ok(program) => program,
        Err(why) => return testkit::skip("trilith::go_registry", &why),
    };
    // One that lists what refers to an image, one that does not and whose clients keep the list under a tag; and
    // cosign's own tag in the latter.
    for (kind, by_tag) in [
        ("google", false),
        ("distribution", false),
        ("distribution", true),
    ] {
        let Some(built) = Built::new() else {
            return;
        };
        if by_tag {
            built.sign(&built.digest, &built.digest);
        } else {
            built.refer();
        }
        let registry = Running::start(&program, kind);
        let asks = kind == "distribution";
        let (who, more): (&[&str], &str) = match asks {
            true => (&["reader:secret"], "credentials = \"login\"\n"),
            false => (&[], ""),
        };
        registry.fill(&built, who);
        registry.list(&built, more);
        login(&built, "secret", 0o600);
        let done = registry.import(&built, &built.digest);
        assert!(
            done.status.success(),
            "{kind}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        is_known(&built);

        let absent = format!("sha256:{}", "5".repeat(64));
        registry.refused(&built, &absent, "REGISTRY-MISSING");
        if asks {
            login(&built, "guess", 0o600);
            registry.refused(&built, &built.digest, "REGISTRY-LOGIN");
            login(&built, "secret", 0o644);
            registry.refused(&built, &built.digest, "REGISTRY-CREDENTIALS");
            registry.list(&built, "");
            registry.refused(&built, &built.digest, "REGISTRY-LOGIN");
        }
        std::fs::write(built.at("registries.toml"), "").expect("written");
        registry.refused(&built, &built.digest, "REGISTRY-UNLISTED");
    }
}
