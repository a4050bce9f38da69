//! The kernel's side: its files under `/sys/kernel/security/ipe` (Linux, Documentation/admin-guide/LSM/ipe.rst).

use attest_code::{PolicyVersion, SignedPolicy};
use facts::Finding;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const ROOT: &str = "/sys/kernel/security/ipe";
/// More are not looked at.
const MOST_POLICIES: usize = 64;
const LARGEST: u64 = 4 << 20;
/// Of <errno.h>.
const EPERM: i32 = 1;
const EINVAL: i32 = 22;
const ESTALE: i32 = 116;
const ENOKEY: i32 = 126;
const EKEYREJECTED: i32 = 129;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Active {
    pub(super) name: String,
    pub(super) version: String,
    /// Of the signed policy; absent for one that was built into the kernel.
    pub(super) sha256: Option<[u8; 32]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct State {
    /// The kernel has IPE, and it may be read.
    pub(super) supported: bool,
    pub(super) enforce: bool,
    pub(super) active: Option<Active>,
}

#[derive(Debug)]
pub(super) struct Kernel {
    root: PathBuf,
    /// The policy that was hashed last: its folder's number, name and version. A policy of the same name is
    /// replaced by a higher version or in another folder.
    hashed: Mutex<Option<(u64, Active)>>,
}

impl Kernel {
    pub(super) fn new() -> Self {
        Self::at(Path::new(ROOT))
    }

    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            hashed: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.try_state().unwrap_or_default()
    }

    fn try_state(&self) -> io::Result<State> {
        let enforce = read(&self.root.join("enforce"))?.starts_with(b"1");
        let mut active = None;
        for entry in fs::read_dir(self.root.join("policies"))?.take(MOST_POLICIES) {
            let folder = entry?.path();
            if read(&folder.join("active")).is_ok_and(|flag| flag.starts_with(b"1")) {
                active = Some(self.active(&folder)?);
            }
        }
        Ok(State {
            supported: true,
            enforce,
            active,
        })
    }

    fn active(&self, folder: &Path) -> io::Result<Active> {
        let text = |file| read(&folder.join(file)).map(|bytes| lossy(&bytes));
        let (number, name, version) =
            (fs::metadata(folder)?.ino(), text("name")?, text("version")?);
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, active)) = &*hashed
            && *last == number
            && (&active.name, &active.version) == (&name, &version)
        {
            return Ok(active.clone());
        }
        let sha256 = read(&folder.join("pkcs7")).ok();
        let active = Active {
            name,
            version,
            sha256: sha256.map(|bytes| crypto::sha256(&bytes)),
        };
        *hashed = Some((number, active.clone()));
        Ok(active)
    }

    /// Makes `policy` the active one, and the kernel enforce it or not. Does nothing that is done already.
    /// A policy that is active and of none of the names in `ours` is left as it is.
    pub(super) fn install(
        &self,
        policy: &SignedPolicy,
        enforce: bool,
        ours: &BTreeSet<String>,
    ) -> Result<(), Finding> {
        let state = self.try_state().map_err(|error| {
            Finding::new("IPE-UNSUPPORTED", "this kernel enforces no policies")
                .expected(format!("IPE, Linux 6.12 or later, readable at {ROOT}"))
                .observed(error.to_string())
                .next("boot a kernel with CONFIG_SECURITY_IPE and `ipe` among its LSMs; run the agent as root")
        })?;
        let active = state.active.as_ref().map(|active| active.name.as_str());
        if let Some(other) = active.filter(|name| *name != policy.name() && !ours.contains(*name)) {
            return Err(Finding::new(
                "IPE-FOREIGN",
                "another policy is active, which this agent did not install: it is left as it is",
            )
            .expected(policy.name())
            .observed(other)
            .next("give the estate's policy this name and a higher version"));
        }
        let folder = self.root.join("policies").join(policy.name());
        let refused = |error: &io::Error| refused(policy, &folder, error);
        match read(&folder.join("pkcs7")) {
            Ok(held) if held == policy.der() => {}
            Ok(_) => write(&folder.join("update"), policy.der()).map_err(|e| refused(&e))?,
            Err(_) => {
                write(&self.root.join("new_policy"), policy.der()).map_err(|e| refused(&e))?;
            }
        }
        let switch = self.root.join("enforce");
        // INVARIANT: what is only to be observed refuses nothing for a moment.
        if !enforce && state.enforce {
            write(&switch, b"0").map_err(|e| refused(&e))?;
        }
        if active != Some(policy.name()) {
            write(&folder.join("active"), b"1").map_err(|e| refused(&e))?;
        }
        if enforce && !state.enforce {
            write(&switch, b"1").map_err(|e| refused(&e))?;
        }
        Ok(())
    }
}

fn refused(policy: &SignedPolicy, folder: &Path, error: &io::Error) -> Finding {
    let observed = error.to_string();
    match error.raw_os_error() {
        Some(ENOKEY | EKEYREJECTED) => {
            Finding::new("IPE-KEY", "the kernel trusts no key that signed the policy")
                .expected("a key of its platform keyring, which with Secure Boot is the firmware's db, or of its secondary one")
                .observed(observed)
                .next("sign by such a key: trilith refs ipe DIR --ring RING --certificate FILE --key FILE \
                     --output FILE")
        }
        Some(ESTALE | EINVAL) => {
            let held = read(&folder.join("version")).map(|bytes| lossy(&bytes));
            let held = held.ok().and_then(|text| PolicyVersion::parse(&text));
            let held = held.map_or_else(|| "another policy".to_owned(), |held| held.to_string());
            Finding::new("IPE-OLDER", "the kernel takes no policy that is not newer than its own")
                .expected(format!("a version above {held}"))
                .observed(policy.version().to_string())
                .next("make the policy again: trilith refs ipe DIR --ring RING --certificate FILE --key FILE \
                     --output FILE; or boot the machine again")
        }
        Some(EPERM) => Finding::new("IPE-PERMISSION", "the agent may not change what is enforced")
            .expected("CAP_MAC_ADMIN")
            .observed(observed)
            .next("run the agent as root"),
        _ => Finding::new("IPE-INSTALL", "the kernel does not take the policy")
            .expected(format!("{} {}", policy.name(), policy.version()))
            .observed(observed)
            .next("look at the kernel's log and its audit records"),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// In one piece: the kernel takes each write for a whole policy.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = File::options().write(true).open(path)?.write(bytes)?;
    if written == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_active_is_read_and_hashed_again_when_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let kernel = Kernel::at(root);
        assert_eq!(kernel.state(), State::default(), "no IPE");
        fs::write(root.join("enforce"), "1").unwrap();
        let put = |policy: &str, file: &str, text: &str| {
            let folder = root.join("policies").join(policy);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), text).unwrap();
        };
        for (policy, version, active) in [("one", "0.0.1", "0"), ("two", "0.0.2", "1")] {
            put(policy, "name", policy);
            put(policy, "version", version);
            put(policy, "active", active);
            put(policy, "pkcs7", policy);
        }
        let state = kernel.state();
        assert!(state.supported && state.enforce);
        let active = state.active.unwrap();
        assert_eq!(
            (active.name.as_str(), active.version.as_str()),
            ("two", "0.0.2")
        );
        assert_eq!(active.sha256, Some(crypto::sha256(b"two")));
        put("two", "version", "0.0.3");
        put("two", "pkcs7", "three");
        fs::write(root.join("enforce"), "0").unwrap();
        let state = kernel.state();
        assert!(!state.enforce);
        assert_eq!(state.active.unwrap().sha256, Some(crypto::sha256(b"three")));
        put("two", "active", "0");
        assert_eq!(kernel.state().active, None);
    }

    #[test]
    fn what_the_kernel_refuses_is_named_by_its_cause() {
        let folder = tempfile::tempdir().unwrap();
        let policy = super::super::kept::tests::policy();
        let code = |error| {
            let error = io::Error::from_raw_os_error(error);
            refused(&policy, folder.path(), &error).code.to_string()
        };
        assert_eq!(code(ENOKEY), "IPE-KEY");
        assert_eq!(code(EKEYREJECTED), "IPE-KEY");
        assert_eq!(code(ESTALE), "IPE-OLDER");
        assert_eq!(code(EPERM), "IPE-PERMISSION");
        assert_eq!(code(74), "IPE-INSTALL");
    }

    #[test]
    fn a_policy_that_somebody_else_installed_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("policies/theirs")).unwrap();
        for (file, text) in [("enforce", "1"), ("new_policy", "")] {
            fs::write(root.join(file), text).unwrap();
        }
        for (file, text) in [("name", "theirs"), ("version", "0.0.1"), ("active", "1")] {
            fs::write(root.join("policies/theirs").join(file), text).unwrap();
        }
        let policy = super::super::kept::tests::policy();
        let kernel = Kernel::at(root);
        let refused = kernel.install(&policy, true, &BTreeSet::new());
        assert_eq!(refused.unwrap_err().code, "IPE-FOREIGN");
        assert!(fs::read(root.join("new_policy")).unwrap().is_empty());
        assert_eq!(fs::read(root.join("enforce")).unwrap(), b"1");
    }
}
