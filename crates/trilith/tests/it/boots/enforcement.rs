//! What a guest's kernel enforces: the policy that `trilith refs ipe` makes from the estate's references, one by
//! another key, and what is recorded when it is enforced no more.

use super::measured::{Known, text};
use super::pieces::Pieces;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use testkit::guest::Owner;

/// What is listed, without a Merkle tree.
pub(crate) const COPY: &str = "/mnt/copy";
/// With a tree, and not listed by it.
pub(crate) const OWN_TREE: &str = "/mnt/own-tree";

/// Facts that issuances show.
const VISIBLE: &str = "visible = [\"machine.enforcement\", \"code.enforcement\", \"machine.ipe.sha256\", \
                       \"machine.ipe.rooted_in_hardware\"]\n";
const ENFORCED: &str = "@id(\"payments-api, where nothing else runs\")\n\
    permit (principal in Pool::\"guests\", action == Action::\"assume\", \
    resource == Identity::\"payments/api\")\n\
    when { principal has uid && principal.uid == 0 && principal has code && \
    principal.code.known_as.contains(\"payments-api\") && \
    principal.code has enforcement && principal.code.enforcement == \"enforced\" && \
    principal.machine has enforcement && principal.machine.enforcement == \"enforced\" && \
    principal.machine has ipe && principal.machine.ipe has rooted_in_hardware && \
    principal.machine.ipe.rooted_in_hardware };\n";

impl Pieces {
    /// Applies an estate whose identity is for a program that runs where nothing else does. SHA-256 of its policy.
    pub(crate) fn enforce(&self, references: &str, known: &Known) -> String {
        let mut files = self.estate(references, Some(known));
        let identities = files.0.get("identities/all.toml").expect("identities");
        let identities = format!("{identities}{VISIBLE}");
        files.insert("identities/all.toml", identities);
        let policies = files.0.get("policies/all.cedar").expect("policies");
        let (administer, _) = policies.split_once("@id(\"payments-api").expect("two");
        let policies = format!("{administer}{ENFORCED}");
        files.insert("policies/all.cedar", policies);
        let folder = self.server.put(&files);
        let made = refs_ipe(
            &folder,
            &self.owner,
            &folder.join("references/enforcement.json"),
            None,
        );
        self.server.apply_folder();
        text(&made, "/sha256").to_owned()
    }

    /// The same policy, signed by a key that the guest's firmware does not know.
    pub(crate) fn foreign(&self) -> Vec<u8> {
        let stranger = Owner::new(&self.path("stranger")).expect("keys");
        let p7b = self.path("foreign.p7b");
        let output = self.path("foreign.json");
        refs_ipe(&self.path("estate"), &stranger, &output, Some(&p7b));
        std::fs::read(p7b).expect("a policy")
    }

    /// Waits for the first revocation, and gives its reason.
    pub(crate) fn revoked(&self) -> String {
        let revocation = testkit::found(
            || self.server.records("revocation").pop(),
            || format!("not revoked: {}", self.server.log()),
        );
        text(&revocation, "/body/reason").to_owned()
    }
}

/// What the command says it made.
fn refs_ipe(estate: &Path, owner: &Owner, output: &Path, p7b: Option<&Path>) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
    command.args([
        "refs",
        "ipe",
        "--ring",
        "guests",
        "--boot-verified",
        "--enforce",
        "--json",
    ]);
    command.arg("--certificate").arg(owner.certificate("db"));
    command.arg("--key").arg(owner.key("db"));
    command.arg("--output").arg(output);
    if let Some(p7b) = p7b {
        command.arg("--p7b").arg(p7b);
    }
    let ran = command.arg(estate).output().expect("it runs");
    assert!(ran.status.success(), "{ran:?}");
    serde_json::from_slice(&ran.stdout).expect("JSON")
}
