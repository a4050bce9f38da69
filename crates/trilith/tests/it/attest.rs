//! `trilith attest`: boots told, compared and tried; of recorded machines, and of one that joins a real server
//! with a software TPM and is evicted.

use crate::boots::server::{DOMAIN, Server};
use crypto::{Hash, hex, sha256};
use references::{
    Artefact, ArtefactKind, Digest, FileValue, Generation, PcrEvent, PcrValue, ReferenceFile,
    Source, SourceKind,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use testkit::swtpm::Swtpm;

const EVIDENCE: &str = "trilith::recorded_boots";
const GOOD: &str = "uki-own-keys-secureboot";
const TAMPERED: &str = "uki-signed-but-tampered-cmdline";

fn lab(boot: &str) -> Option<PathBuf> {
    let folder = testkit::evidence().map(|all| all.join("lab").join(boot));
    if folder.as_ref().is_some_and(|folder| folder.is_dir()) {
        return folder;
    }
    testkit::skip(EVIDENCE, &format!("no evidence folder lab/{boot}"));
    None
}

fn trilith(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with('{'), "{output:?}");
    serde_json::from_str(&text).expect("JSON")
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    let list = list.map_or(&[] as &[Value], Vec::as_slice);
    list.iter().filter_map(Value::as_str).collect()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// Runs a line as a person would paste it, in `folder`.
fn paste(folder: &Path, line: &str) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_trilith"));
    let mut paths = vec![binary.parent().expect("a folder").to_owned()];
    paths.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    Command::new("sh")
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", std::env::join_paths(paths).expect("paths"))
        .stdin(Stdio::null())
        .output()
        .expect("a shell")
}

/// A generation of one artefact, which holds until `until`.
fn generation(name: &str, artefact: Artefact, until: Option<u64>) -> ReferenceFile {
    let at = facts::Timestamp::from_secs(1_700_000_000);
    ReferenceFile {
        generations: vec![Generation {
            name: name.to_owned(),
            rings: vec![references::ALL_RINGS.to_owned()],
            valid_from: at,
            valid_until: until.map(facts::Timestamp::from_secs),
            imported_at: at,
            sources: vec![Source {
                id: "pinned".to_owned(),
                kind: SourceKind::Pinned,
                name: "the lab".to_owned(),
                sha256: Digest([7; 32]),
                signed_by: vec!["the lab's key".to_owned()],
                signed_at: None,
            }],
            artefacts: vec![artefact],
        }],
        boots: Vec::new(),
        withdrawn: Vec::new(),
    }
}

fn artefact(kind: ArtefactKind, name: &str, version: &str) -> Artefact {
    Artefact {
        kind,
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
        sha256: Digest([8; 32]),
        source: "pinned".to_owned(),
        made_of: Vec::new(),
        files: Vec::new(),
        pcrs: Vec::new(),
        unpredicted: Vec::new(),
        parts: references::Parts::default(),
    }
}

fn file(path: &str, digest: [u8; 32]) -> FileValue {
    FileValue {
        path: path.to_owned(),
        sha256: Digest(digest),
        fsverity: None,
        authenticode: None,
    }
}

/// An estate that only says what is good.
fn estate(folder: &Path, references: &ReferenceFile) {
    let write = |name: &str, text: &str| {
        let path = folder.join("estate").join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    };
    write(
        "estate.toml",
        "trust_domain = \"lab.example\"\n[[administrator]]\nuid = 0\ngroups = [\"operators\"]\n",
    );
    write("identities/all.toml", "[[group]]\nname = \"operators\"\n");
    write("references/good.json", &references.to_json());
}

/// PCR 11 of the boot that an account tells.
fn pcr_11(account: &Value) -> PcrValue {
    let events = list(account, "/account/events");
    let events = events.iter().filter(|event| event["pcr"] == 11);
    let events: Vec<PcrEvent> = events
        .map(|event| PcrEvent {
            what: event["name"].as_str().expect("a name").to_owned(),
            sha256: event["digest"]
                .as_str()
                .expect("hex")
                .parse()
                .expect("a digest"),
        })
        .collect();
    PcrValue {
        index: 11,
        sha256: references::pcr::replay(&events),
        events,
    }
}

fn explain(folder: &Path, boot: &Path, more: &[&str]) -> Output {
    let (log, pcrs) = (path(boot, "eventlog.bin"), path(boot, "pcrs.txt"));
    let words = ["attest", "explain", "--event-log", &log, "--pcrs", &pcrs];
    Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(words)
        .args(more)
        .arg("--json")
        .current_dir(folder)
        .output()
        .expect("the binary starts")
}

#[test]
fn a_boot_is_told_and_an_altered_command_line_is_named() {
    let (Some(good), Some(tampered)) = (lab(GOOD), lab(TAMPERED)) else {
        return;
    };
    let folder = testkit::temp_dir().expect("a folder");
    let folder = folder.path();
    let told = explain(folder, &good, &[]);
    assert!(told.status.success(), "{told:?}");
    let told = json(&told);
    let outline = &told["account"]["outline"];
    assert_eq!(outline["secure_boot"], true, "{outline}");
    assert_eq!(outline["loader"], "uki", "{outline}");
    assert_eq!(told["account"]["quoted"], false);

    // Values of another boot are not what this log amounts to.
    let log = path(&tampered, "eventlog.bin");
    let pcrs = path(&good, "pcrs.txt");
    let other = trilith(&["attest", "explain", "--event-log", &log, "--pcrs", &pcrs]);
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(said.contains("EVENTLOG-REPLAY"), "{said}");

    let mut uki = artefact(ArtefactKind::Uki, "lab-uki", "1");
    uki.pcrs = vec![pcr_11(&told)];
    estate(folder, &generation("lab-1", uki.clone(), None));
    let judged = explain(folder, &good, &["--estate", "estate"]);
    assert_eq!(judged.status.code(), Some(0), "{judged:?}");
    let section = list(&told, "/account/events");
    let section = section
        .iter()
        .find(|event| event["name"] == ".cmdline" && event["what"] == "section");
    let section = section.expect("a command line")["event"].clone();

    let judged = explain(folder, &tampered, &["--estate", "estate"]);
    assert_eq!(judged.status.code(), Some(3), "{judged:?}");
    let judged = json(&judged);
    let refusal = &judged["refusals"][0];
    assert_eq!(refusal["finding"]["code"], "REF-PCR-UNKNOWN", "{refusal}");
    assert_eq!(refusal["subject"]["pcr"]["index"], 11, "{refusal}");
    assert_eq!(refusal["subject"]["pcr"]["name"], ".cmdline", "{refusal}");
    assert_eq!(refusal["subject"]["pcr"]["event"], section, "{refusal}");
    assert_eq!(refusal["would_match"]["name"], "lab-uki", "{refusal}");
    // The image is on the machine and not here: the command is one, and says what it misses.
    let command = texts(refusal, "/allow")[0];
    assert!(command.starts_with("trilith refs import uki "), "{command}");
    let ran = paste(folder, command);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{command}: {said}");
    assert!(said.contains("CLI-FILE"), "{command}: {said}");

    // What has ended is good again by the command that is printed, and by no other change.
    estate(folder, &generation("lab-1", uki, Some(1_700_000_001)));
    let judged = explain(folder, &good, &["--estate", "estate"]);
    assert_eq!(judged.status.code(), Some(3), "{judged:?}");
    let judged = json(&judged);
    let refusal = &judged["refusals"][0];
    assert_eq!(refusal["finding"]["code"], "REF-OVER", "{refusal}");
    let lapsed = refusal["would_match"]["lapsed"].as_str();
    assert!(
        lapsed.is_some_and(|why| why.starts_with("it ended at")),
        "{refusal}"
    );
    let command = texts(refusal, "/allow")[0];
    let ran = paste(folder, command);
    assert!(ran.status.success(), "{command}: {ran:?}");
    let judged = explain(folder, &good, &["--estate", "estate"]);
    assert_eq!(judged.status.code(), Some(0), "{judged:?}");
}

#[test]
fn two_recorded_boots_differ_by_what_was_changed() {
    let (Some(good), Some(tampered)) = (lab(GOOD), lab(TAMPERED)) else {
        return;
    };
    let (a, b) = (path(&good, "eventlog.bin"), path(&tampered, "eventlog.bin"));
    let same = json(&trilith(&["attest", "diff", &a, &a, "--json"]));
    assert_eq!(same["same"], true, "{same}");
    let said = trilith(&["attest", "diff", &a, &a]);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "nothing differs\n");

    let differs = trilith(&["attest", "diff", &a, &b, "--json"]);
    assert!(differs.status.success(), "{differs:?}");
    let differs = json(&differs);
    let pcrs: Vec<u64> = list(&differs, "/difference/pcrs")
        .iter()
        .filter_map(|one| one["pcr"].as_u64())
        .collect();
    assert_eq!(pcrs, [4, 9, 11], "{differs}");
    let changed: Vec<String> = list(&differs, "/difference/events")
        .iter()
        .map(|one| {
            let word = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            format!(
                "{} {} {} {}",
                word("change"),
                one["pcr"],
                word("what"),
                word("name")
            )
        })
        .collect();
    assert_eq!(changed.len(), 3, "{changed:?}");
    assert!(changed[0].starts_with("changed 4 image"), "{changed:?}");
    assert!(
        changed[1].starts_with("changed 9 command-line"),
        "{changed:?}"
    );
    assert_eq!(changed[2], "changed 11 section .cmdline");
}

/// A line of `ascii_runtime_measurements`.
fn line(path: &str, digest: &[u8; 32]) -> String {
    let (bytes, _) = entry(path, digest);
    let template = hex::encode(bytes.get(4..24).expect("it is long enough"));
    format!(
        "10 {template} ima-ng sha256:{} {path}\n",
        hex::encode(digest)
    )
}

#[test]
fn a_file_that_ran_is_allowed_by_the_commands_that_are_printed() {
    let Some(good) = lab(GOOD) else { return };
    if let Err(why) = testkit::debian::lists() {
        return testkit::skip("references::debian_archive", &why);
    }
    let deb = match testkit::debian::package("busybox-static", None) {
        Ok(deb) => deb,
        Err(why) => return testkit::skip("references::debian_packages", &why),
    };
    let unpacked = testkit::debian::unpacked(&deb).expect("it unpacks");
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|name| unpacked.join(name));
    let busybox = busybox.iter().find(|path| path.exists()).expect("busybox");
    let digest = sha256(&std::fs::read(busybox).expect("it is read"));
    let folder = testkit::temp_dir().expect("a folder");
    let folder = folder.path();
    std::fs::write(folder.join("ima.txt"), line("/usr/bin/busybox", &digest)).expect("written");
    // The estate knows an older one.
    let mut older = artefact(ArtefactKind::Deb, "busybox-static", "0");
    older.files = vec![file("/bin/busybox", [1; 32])];
    estate(folder, &generation("debian-0", older, None));
    let more = ["--ima", "ima.txt", "--estate", "estate"];
    let judged = explain(folder, &good, &more);
    assert_eq!(judged.status.code(), Some(3), "{judged:?}");
    let judged = json(&judged);
    let refusal = &judged["refusals"][0];
    assert_eq!(refusal["finding"]["code"], "IMA-FILE", "{refusal}");
    assert_eq!(refusal["subject"]["file"]["path"], "/usr/bin/busybox");
    assert_eq!(refusal["would_match"]["version"], "0", "{refusal}");

    let commands = texts(refusal, "/allow");
    let [download, import, apply] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    assert!(
        download.contains("apt-get download busybox-static"),
        "{download}"
    );
    assert_eq!(*apply, "trilith estate apply estate");
    // The archive may be out of reach: the package that was downloaded before stands in for it.
    let debs = download.split(' ').nth(2).expect("a folder");
    std::fs::create_dir(folder.join(debs)).expect("a folder");
    let name = deb.file_name().expect("a name");
    std::fs::copy(&deb, folder.join(debs).join(name)).expect("a copy");
    let ran = paste(folder, import);
    assert!(ran.status.success(), "{import}: {ran:?}");
    let judged = explain(folder, &good, &more);
    assert_eq!(judged.status.code(), Some(0), "{judged:?}");
    let judged = json(&judged);
    let known = judged.pointer("/account/files/listed/0/known").cloned();
    let known = known.unwrap_or_default().to_string();
    assert!(known.contains("busybox-static"), "{known}");
}

/// One entry of `binary_runtime_measurements`, and what the kernel extends for it.
fn entry(path: &str, digest: &[u8; 32]) -> (Vec<u8>, [u8; 32]) {
    let mut data = Vec::new();
    for field in [
        [b"sha256:\0".as_slice(), digest].concat(),
        format!("{path}\0").into_bytes(),
    ] {
        data.extend(u32::try_from(field.len()).expect("short").to_le_bytes());
        data.extend(field);
    }
    let mut bytes = 10_u32.to_le_bytes().to_vec();
    bytes.extend(Hash::Sha1.digest(&[&data]));
    bytes.extend(6_u32.to_le_bytes());
    bytes.extend(b"ima-ng");
    bytes.extend(u32::try_from(data.len()).expect("short").to_le_bytes());
    bytes.extend(&data);
    (bytes, sha256(&data))
}

/// A machine with a software TPM and a kernel's list, whose agent is the real one.
struct Machine<'a> {
    folder: &'a Path,
    chip: Swtpm,
    extend: PathBuf,
    agent: Option<Child>,
}

impl Machine<'_> {
    fn measure(&self, path: &str, digest: [u8; 32]) {
        let (bytes, extended) = entry(path, &digest);
        let status = Command::new(&self.extend)
            .env("TPM2TOOLS_TCTI", self.chip.tcti())
            .arg(format!("10:sha256={}", hex::encode(&extended)))
            .status()
            .expect("it runs");
        assert!(status.success());
        let list = self.folder.join("list");
        let mut whole = std::fs::read(&list).unwrap_or_default();
        whole.extend(bytes);
        std::fs::write(list, whole).expect("written");
    }

    /// Its agent, from now on.
    fn run(&mut self, server: &Server) {
        let config = self.folder.join("agent.toml");
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\nserver = \"127.0.0.1:{port}\"\npin = \"{pin}\"\n\
             data_dir = \"{folder}/agent\"\nworkload_socket = \"{folder}/workload.sock\"\n\n\
             [join]\nmethod = \"tpm\"\ntpm = \"{tpm}\"\nima_list = \"{folder}/list\"\n",
            port = server.port,
            pin = server.pin(),
            folder = self.folder.display(),
            tpm = self.chip.uri(),
        );
        std::fs::write(&config, text).expect("written");
        let log = std::fs::File::create(self.folder.join("agent.log")).expect("a log");
        let agent = Command::new(env!("CARGO_BIN_EXE_trilith"))
            .args(["agent", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it starts");
        self.agent = Some(agent);
    }

    fn stop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _gone = agent.kill();
            let _gone = agent.wait();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default()
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

fn until<T>(machine: &Machine<'_>, what: impl Fn() -> Option<T>) -> T {
    testkit::found(what, || machine.log())
}

const LISTED: &str = "/usr/bin/listed";
const EVIL: &str = "/tmp/evil";

/// What may run on the machine, as one package.
fn may_run(version: &str, files: &[&str]) -> String {
    let mut package = artefact(ArtefactKind::Deb, "listed", version);
    let files = files.iter();
    package.files = files
        .map(|path| file(path, sha256(path.as_bytes())))
        .collect();
    generation(&format!("files-{version}"), package, None).to_json()
}

#[test]
fn an_evicted_machine_is_explained_compared_and_allowed_by_an_estate_that_was_tried() {
    let extend = match testkit::tools(["tpm2_pcrextend"]) {
        Ok([extend]) => extend,
        Err(why) => return testkit::skip("trilith.attest", &why),
    };
    let chip = match Swtpm::start() {
        Ok(chip) => chip,
        Err(why) => return testkit::skip("trilith.attest", &why.to_string()),
    };
    let folder = testkit::temp_dir().expect("a folder");
    let folder = folder.path();
    let server = Server::start(folder);
    let mut files = server.estate(&chip, "m1");
    files.insert("references/files.json", may_run("1", &[LISTED]));
    server.apply(&files);
    let mut machine = Machine {
        folder,
        chip,
        extend,
        agent: None,
    };
    machine.measure("boot_aggregate", sha256(&[0; 320]));
    machine.measure(LISTED, sha256(LISTED.as_bytes()));
    machine.run(&server);
    let first = until(&machine, || server.joined());

    let told = server.ask(&["attest", "explain", "m1"]);
    assert_eq!(told["index"].to_string(), first);
    assert_eq!(told["outcome"], "affirmed", "{told}");
    assert_eq!(told["today"]["outcome"], "affirmed", "{told}");
    let listed = list(&told, "/account/files/listed");
    assert_eq!(listed.len(), 2, "{told}");
    assert_eq!(listed[1]["known"], format!("listed 1 {LISTED}"));
    assert_eq!(told["account"]["files"]["verified"], true);

    // An estate that does not list what runs: who would be evicted, before anybody is.
    let other = folder.join("other");
    let mut less = files.clone();
    less.insert("references/files.json", may_run("2", &["/usr/bin/other"]));
    write(&other, &less);
    let tried = server.run(&[
        "attest",
        "dry-run",
        "--estate",
        &path(folder, "other"),
        "--all",
    ]);
    assert_eq!(tried.status.code(), Some(3), "{tried:?}");
    let lines = lines(&tried);
    assert_eq!(lines[0]["node"], "m1");
    assert_eq!(lines[0]["outcome"], "evicted", "{tried:?}");
    let refusal = &lines[0]["refusals"][0];
    assert_eq!(refusal["subject"]["file"]["path"], LISTED, "{refusal}");
    assert_eq!(lines[1]["counts"]["evicted"], 1, "{tried:?}");
    assert_eq!(server.locked(), None, "nothing was decided");

    // It runs what is not listed, while its agent is away; the agent then sends what is new.
    machine.stop();
    machine.measure(EVIL, sha256(EVIL.as_bytes()));
    machine.run(&server);
    until(&machine, || server.locked());
    let told = server.ask(&["attest", "explain", "m1"]);
    assert_eq!(told["outcome"], "refused", "{told}");
    let refusal = &told["refusals"][0];
    assert_eq!(refusal["finding"]["code"], "IMA-FILE", "{refusal}");
    assert_eq!(refusal["subject"]["file"]["path"], EVIL, "{refusal}");
    assert_eq!(refusal["subject"]["file"]["entry"], 2, "{refusal}");
    let download = texts(refusal, "/allow")[0];
    assert!(
        download.contains(&format!("dpkg-query --search -- {EVIL} ")),
        "{download}"
    );
    let refused = told["index"].to_string();
    let differs = server.ask(&["attest", "diff", &format!("server:{first}"), "m1"]);
    let changes = list(&differs, "/difference/files");
    assert_eq!(changes.len(), 1, "{differs}");
    assert_eq!(changes[0]["change"], "new", "{differs}");
    assert_eq!(changes[0]["path"], EVIL, "{differs}");
    let said = server.text(&["attest", "explain", "m1"]);
    assert!(said.contains("to allow it"), "{said}");

    // An estate that lists it would take the machine back, and does; so it says of the refusal itself.
    let mut more = files.clone();
    more.insert("references/files.json", may_run("2", &[LISTED, EVIL]));
    let allowed = folder.join("allowed");
    write(&allowed, &more);
    let dry = ["attest", "dry-run", "--estate", &path(folder, "allowed")];
    let tried = server.run(&[&dry[..], &["--node", "m1", "--since", &refused]].concat());
    assert_eq!(tried.status.code(), Some(0), "{tried:?}");
    let tried = self::lines(&tried);
    assert_eq!(tried[0]["outcome"], "accepted", "{tried:?}");
    assert_eq!(tried[1]["past"].to_string(), refused, "{tried:?}");
    assert_eq!(tried[1]["outcome"], "accepted", "{tried:?}");
    let estate = path(folder, "estate");
    let tried = server.run(&["attest", "dry-run", "--estate", &estate, "--node", "m1"]);
    assert_eq!(self::lines(&tried)[0]["outcome"], "refused", "{tried:?}");
    machine.stop();
    server.ask(&["estate", "apply", &path(folder, "allowed")]);
    machine.run(&server);
    until(&machine, || server.locked().is_none().then_some(()));
    let second = until(&machine, || server.joined().filter(|index| *index != first));
    let (a, b) = (format!("server:{refused}"), format!("server:{second}"));
    let differs = server.ask(&["attest", "diff", &a, &b]);
    assert_eq!(
        differs["difference"]["files"],
        serde_json::json!([]),
        "{differs}"
    );
}

fn write(folder: &Path, files: &estate::EstateFiles) {
    for (name, text) in &files.0 {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}
