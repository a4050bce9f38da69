//! Programs with fs-verity digests, and the policy under which a kernel runs one of them.

use super::pieces::Pieces;
use attest_code::{CodeDigest, CodeReferences, DigestReference, Window};
use attest_code::{
    FsVerityAlgorithm, FsVerityDigest, IpePolicy, Operation, PolicyPlan, PolicyVersion,
    SignedPolicy,
};
use crypto::KeyPair;
use facts::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use testkit::guest::{Initramfs, Owner, disk};

/// Three programs on a disk: the one that is listed, another one, and a copy of the one that is listed.
pub(crate) struct Programs {
    pub(crate) disk: PathBuf,
    pub(crate) policy_sha256: String,
    policy: SignedPolicy,
    foreign: SignedPolicy,
}

impl Programs {
    pub(crate) fn new(pieces: &Pieces) -> Self {
        let folder = pieces.path("programs");
        std::fs::create_dir(&folder).expect("a folder");
        let listed = std::fs::read(&pieces.lab.busybox).expect("a program");
        let other = [listed.as_slice(), b"\n"].concat();
        for (name, bytes) in [("listed", &listed), ("other", &other), ("copy", &listed)] {
            let path = folder.join(format!("busybox-{name}"));
            std::fs::write(&path, bytes).expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("a mode");
        }
        let disk = pieces.path("programs.ext4");
        disk::ext4(&disk, 32, &folder).expect("a disk");
        let digest = FsVerityDigest::of_bytes(FsVerityAlgorithm::Sha256, &listed);
        let stranger = Owner::new(&pieces.path("stranger")).expect("keys");
        let policy = policy(digest, &pieces.owner);
        Self {
            disk,
            policy_sha256: crypto::hex::encode(&policy.sha256()),
            policy,
            foreign: self::policy(digest, &stranger),
        }
    }

    /// Puts the policies, and what turns fs-verity on, into the guest.
    pub(crate) fn prepare(&self, initramfs: &mut Initramfs) {
        initramfs.content("/etc/policy.p7b", 0o644, self.policy.der());
        initramfs.content("/etc/foreign.p7b", 0o644, self.foreign.der());
        let fsverity = testkit::tool("fsverity").expect("the lab has looked for it");
        initramfs
            .program("/bin/fsverity", &fsverity)
            .expect("a program");
    }
}

/// Only `digest` and what the firmware verified may run, says `owner`.
fn policy(digest: FsVerityDigest, owner: &Owner) -> SignedPolicy {
    let listed = DigestReference {
        digest: CodeDigest::FsVerity(digest),
        label: "busybox".to_owned(),
        source: "the test".to_owned(),
        window: Window::default(),
    };
    let references = CodeReferences::new(BTreeMap::new(), vec![listed], Vec::new(), Vec::new());
    let plan = PolicyPlan {
        name: "trilith".to_owned(),
        version: PolicyVersion {
            major: 1,
            minor: 0,
            revision: 0,
        },
        after: None,
        deny: BTreeSet::from([Operation::Execute]),
        boot_verified: true,
    };
    let references = references.expect("they are consistent");
    let policy = IpePolicy::new(plan, &references, Timestamp::now()).expect("a policy");
    let key = KeyPair::from_pkcs8(&private_key(&owner.key("db"))).expect("a key");
    let certificate = std::fs::read(owner.certificate("db")).expect("a certificate");
    policy.sign(&certificate, &key).expect("a signature")
}

fn private_key(pem: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(pem).expect("a key");
    let body = text.lines().filter(|line| !line.starts_with("-----"));
    crypto::base64::decode(&body.collect::<String>()).expect("base64")
}
