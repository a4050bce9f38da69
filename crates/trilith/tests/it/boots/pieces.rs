//! What a boot is made of, and a server that knows of it.

use super::PATIENCE;
use super::measured::Known;
use super::server::{DOMAIN, Server};
use estate::EstateFiles;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::guest::{
    Guest, HOST, Initramfs, Kernel, Lab, Owner, Plan, disk, firmware, report, uki,
};
use testkit::swtpm::Swtpm;

/// Where a program of others stands in the guest.
pub(crate) const WORKLOAD: &str = "/bin/payments-api";
pub(crate) const CMDLINE: &str = "console=ttyS0 quiet loglevel=4 ima_hash=sha256 panic=-1";
/// The newest of its series.
const SERIES: &str = "6.1.0-";
const FLAVOUR: &str = "-cloud-amd64";
/// For an image or a kernel, and what goes with it.
const DISK_MIB: u64 = 64;

pub(crate) struct Pieces {
    pub(crate) server: Server,
    pub(crate) kernel: Kernel,
    pub(crate) owner: Owner,
    pub(crate) lab: Lab,
    tpm: std::cell::RefCell<Option<Swtpm>>,
    folder: tempfile::TempDir,
}

/// A machine that has joined.
pub(crate) struct Joined {
    /// Its index.
    pub(crate) verdict: String,
    /// The agent's start.
    pub(crate) after: Duration,
}

impl Pieces {
    /// The reason to skip, if something is missing here.
    pub(crate) fn new() -> Result<Self, String> {
        Self::with_kernel(SERIES)
    }

    pub(crate) fn with_kernel(series: &str) -> Result<Self, String> {
        let lab = Lab::find()?;
        let kernel = Kernel::newest(series, FLAVOUR).map_err(|error| error.to_string())?;
        let folder = testkit::temp_dir().expect("a folder");
        let tpm = Swtpm::start().map_err(|error| error.to_string())?;
        let owner = Owner::new(&folder.path().join("owner")).expect("keys");
        let pieces = Self {
            server: Server::start(folder.path()),
            kernel,
            owner,
            lab,
            tpm: std::cell::RefCell::new(Some(tpm)),
            folder,
        };
        firmware::own_variables(&pieces.owner, &pieces.own_variables()).expect("variables");
        Ok(pieces)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn own_variables(&self) -> PathBuf {
        self.path("OVMF_VARS.own.fd")
    }

    pub(crate) fn initramfs(&self) -> Initramfs {
        let mut initramfs = Initramfs::new(&self.lab, &self.kernel).expect("an initramfs");
        let policy = "measure func=BPRM_CHECK mask=MAY_EXEC\nmeasure func=FILE_MMAP mask=MAY_EXEC\n\
                      measure func=MODULE_CHECK\n";
        initramfs.content("/etc/ima-policy", 0o644, policy.as_bytes());
        initramfs
    }

    /// Puts the demo's payments-api into the guest, and gives its content.
    pub(crate) fn workload(&self, initramfs: &mut Initramfs) -> Vec<u8> {
        let built = Path::new(env!("CARGO_BIN_EXE_trilith")).with_file_name("payments-api");
        assert!(
            built.is_file(),
            "payments-api is not built; run `cargo test -p demo-workloads --no-run` first"
        );
        // A guest has no use for its symbols, which are most of it.
        let stripped = self.path("payments-api");
        let status = Command::new("objcopy")
            .arg("--strip-all")
            .args([&built, &stripped])
            .status();
        assert!(status.is_ok_and(|status| status.success()));
        initramfs.program(WORKLOAD, &stripped).expect("a program");
        std::fs::read(&stripped).expect("a program")
    }

    /// A signed kernel image.
    pub(crate) fn image(&self, name: &str, initramfs: Initramfs, cmdline: &str) -> PathBuf {
        let initrd = self.path(&format!("{name}.initrd"));
        initramfs.write(&initrd).expect("an initrd");
        self.image_of(name, &initrd, cmdline)
    }

    pub(crate) fn image_of(&self, name: &str, initrd: &Path, cmdline: &str) -> PathBuf {
        let image = self.path(&format!("{name}.efi"));
        uki::make(&self.kernel, initrd, cmdline, &self.owner, &image).expect("an image");
        image
    }

    /// `trilith refs import`, with these words behind it, to a file of references.
    pub(crate) fn import(&self, words: &[&str]) -> String {
        let output = self.path("boot.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
        command.args(["refs", "import"]).args(words);
        command.args(["--ring", "guests", "--output"]).arg(&output);
        let ran = command.output().expect("it runs");
        assert!(ran.status.success(), "{ran:?}");
        std::fs::read_to_string(output).expect("the references")
    }

    /// What booting `image` under the owner's keys will give.
    pub(crate) fn predict(&self, image: &Path) -> String {
        let variables = self.own_variables();
        let [image, variables] = [image, &variables].map(|path| path.to_str().expect("UTF-8"));
        self.import(&["uki", image, "--uefi", variables, "--phase", "stub"])
    }

    /// An estate in which this guest's TPM is known and boots by `references`, and what runs on it is `known`.
    pub(crate) fn apply(&self, references: &str, known: Option<&Known>) {
        self.server.apply(&self.estate(references, known));
    }

    /// The same, not applied yet.
    pub(crate) fn estate(&self, references: &str, known: Option<&Known>) -> EstateFiles {
        let uid = rustix::process::getuid().as_raw();
        let tpm = self.tpm.borrow();
        let tpm = tpm.as_ref().expect("a chip that is not in a guest yet");
        let ek = self.server.endorsement(&tpm.uri());
        let pem = [tpm.root_pem(), tpm.issuer_pem()]
            .map(|path| std::fs::read_to_string(path).expect("a certificate"));
        let mut files = EstateFiles::new();
        files.insert(
            "estate.toml",
            format!(
                "trust_domain = \"{DOMAIN}\"\n[[administrator]]\nuid = {uid}\ngroups = [\"operators\"]\n"
            ),
        );
        files.insert(
            "identities/all.toml",
            "[[group]]\nname = \"operators\"\n\
             [[identity]]\npath = \"payments/api\"\nkind = \"service\"\nowner = \"payments\"\n",
        );
        files.insert(
            "references/machines.toml",
            format!(
                "[[pool]]\nname = \"guests\"\n\
                 [[machine]]\nname = \"guest-1\"\npool = \"guests\"\nek_sha256 = [\"{ek}\"]\n\
                 [[tpm_root]]\nname = \"test\"\nemulated = true\npem = '''\n{}'''\n",
                pem.concat()
            ),
        );
        files.insert("references/boot.json", references);
        let mut code = "[[code]]\nname = \"payments-api\"\n".to_owned();
        match known {
            Some(known) => {
                files.insert("references/files.json", known.may_run.as_str());
                let (sha256, fsverity) = (known.sha256, known.fsverity);
                code.push_str(&format!(
                    "sha256 = [\"{sha256}\"]\nfsverity = [\"{fsverity}\"]\n"
                ));
            }
            // Of no program.
            None => code.push_str(&format!("sha256 = [\"{}\"]\n", "1".repeat(64))),
        }
        files.insert("references/code.toml", code);
        files.insert(
            "policies/all.cedar",
            "@id(\"operators administer\")\n\
             permit (principal is Admin in Group::\"operators\", action, resource);\n\
             @id(\"payments-api is what was released\")\n\
             permit (principal in Pool::\"guests\", action == Action::\"assume\", \
             resource == Identity::\"payments/api\")\n\
             when { principal has uid && principal.uid == 0 && principal has code && \
             principal.code.known_as.contains(\"payments-api\") && \
             principal.code has rooted_in_hardware && principal.code.rooted_in_hardware };\n",
        );
        files
    }

    /// Boots a kernel image under the owner's keys.
    pub(crate) fn boot(&self, name: &str, image: &Path) -> Guest {
        let esp = self.disk(name, image);
        self.boot_from(name, &self.own_variables(), &[&esp])
    }

    /// The disk that a firmware starts `image` from.
    pub(crate) fn disk(&self, name: &str, image: &Path) -> PathBuf {
        let esp = self.path(&format!("{name}.esp"));
        disk::efi(&esp, DISK_MIB, &[("/EFI/BOOT/BOOTX64.EFI", image)]).expect("a disk");
        esp
    }

    pub(crate) fn boot_from(&self, name: &str, variables: &Path, disks: &[&Path]) -> Guest {
        let folder = self.path(&format!("{name}.guest"));
        std::fs::create_dir(&folder).expect("a folder");
        let plan = Plan {
            tpm: self.tpm.take().expect("a chip that is not in a guest yet"),
            variables,
            disks,
            folder: &folder,
        };
        let booted = Guest::boot(plan);
        if let Err(error) = &booted {
            // With the end of its console, as it stands there.
            report(&error.to_string());
        }
        let mut guest = booted.expect("the guest comes up");
        let config = [
            format!("trust_domain = \"{DOMAIN}\""),
            format!("server = \"{HOST}:{}\"", self.server.port),
            format!("pin = \"{}\"", self.server.pin()),
            "[join]".to_owned(),
            "method = \"tpm\"".to_owned(),
            "tpm = \"device:/dev/tpmrm0\"".to_owned(),
        ]
        .map(|line| format!("'{line}'"));
        let write = format!("printf '%s\\n' {} > /run/agent.toml", config.join(" "));
        assert_eq!(guest.run(&write, PATIENCE).expect("it obeys").status, 0);
        guest
    }

    /// Starts the node agent, and waits until the server knows the machine.
    pub(crate) fn join(&self, guest: &mut Guest) -> Joined {
        let started = Instant::now();
        let agent = "trilith-agent --config /run/agent.toml > /run/agent.log 2>&1 &";
        guest.run(agent, PATIENCE).expect("it obeys");
        loop {
            if let Some(verdict) = self.server.joined() {
                let after = started.elapsed();
                return Joined { verdict, after };
            }
            assert!(
                started.elapsed() < PATIENCE,
                "not joined: {}{}",
                self.agent_log(guest),
                self.server.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts `program` until it has its identity: how long that takes from its first start, of which the
    /// kernel tells the server.
    pub(crate) fn identified(&self, guest: &mut Guest, program: &str) -> Duration {
        let started = Instant::now();
        loop {
            let ran = guest.run(&asking(program), PATIENCE).expect("it obeys");
            if ran.output.contains("spiffe://boots.example/payments/api") {
                return started.elapsed();
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{ran:?} {}{}",
                self.agent_log(guest),
                self.server.log()
            );
        }
    }

    /// Has the node agent try to join, and gives what it ends with.
    pub(crate) fn refused(&self, guest: &mut Guest) -> String {
        let agent = "trilith-agent --config /run/agent.toml";
        let ran = guest.run(agent, PATIENCE).expect("it ends");
        assert_eq!(ran.status, 1, "{ran:?}");
        ran.output
    }

    pub(crate) fn agent_log(&self, guest: &mut Guest) -> String {
        let log = guest.run("cat /run/agent.log", PATIENCE);
        log.map_or_else(|error| error.to_string(), |ran| ran.output)
    }
}

/// Runs `program` of the demo, which asks for its identity, prints it and ends.
pub(crate) fn asking(program: &str) -> String {
    format!("SPIFFE_ENDPOINT_SOCKET=unix:///run/trilith/workload.sock {program} < /dev/null")
}
