//! `trilith refs`: what it writes, prints and refuses, with real packages.

use references::{At, Digest, Known, ReferenceFile, References};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PACKAGES: &str = "references::debian_packages";

pub(crate) fn trilith(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trilith"))
        .arg("refs")
        .args(arguments)
        .output()
        .expect("the binary starts")
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

/// A folder with these packages in it, or a skip.
fn debs(names: &[(&str, Option<&str>)]) -> Option<tempfile::TempDir> {
    if let Err(why) = testkit::debian::lists() {
        testkit::skip("references::debian_archive", &why);
        return None;
    }
    let folder = testkit::temp_dir().expect("a folder");
    for (name, version) in names {
        match testkit::debian::package(name, *version) {
            Ok(path) => {
                let file = path.file_name().expect("a name");
                std::fs::copy(&path, folder.path().join(file)).expect("a copy");
            }
            Err(why) => {
                testkit::skip(PACKAGES, &why);
                return None;
            }
        }
    }
    Some(folder)
}

pub(crate) fn generation(path: &Path) -> ReferenceFile {
    let text = std::fs::read_to_string(path).expect("it was written");
    ReferenceFile::parse(&text).expect("it is a references file")
}

#[test]
fn a_package_is_imported_found_and_refused_when_it_was_changed() {
    let Some(folder) = debs(&[("busybox-static", None)]) else {
        return;
    };
    let output = folder.path().join("debian-1.json");
    let import = [
        "import",
        "debian",
        "--debs",
        text(folder.path()),
        "--output",
        text(&output),
    ];
    let done = trilith(&[&import[..], &["--ring", "canary", "--json"]].concat());
    assert!(done.status.success(), "{done:?}");
    let summary: Value = serde_json::from_slice(&done.stdout).expect("one JSON document");
    assert_eq!(summary["generation"], "debian-1");
    assert_eq!(summary["rings"], serde_json::json!(["canary"]));
    assert!(
        summary["sources"][0]["signed_by"][0]
            .as_str()
            .is_some_and(|by| by.contains("Debian"))
    );
    let file = generation(&output);
    assert_eq!(
        file.to_json(),
        std::fs::read_to_string(&output).expect("it is there")
    );

    let found = trilith(&[
        "find",
        "/usr/bin/busybox",
        text(&output),
        "--ring",
        "canary",
    ]);
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(
        said.contains("busybox-static") && said.contains("canary"),
        "{said}"
    );
    let elsewhere = trilith(&[
        "find",
        "/usr/bin/busybox",
        text(&output),
        "--ring",
        "production",
    ]);
    assert_eq!(elsewhere.status.code(), Some(1));
    let unknown = Digest::of(b"nothing").to_string();
    let unknown = trilith(&["find", &unknown, text(&output)]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("REF-NOT-FOUND"));

    // One byte of the package, and nothing is written or left behind.
    let deb = std::fs::read_dir(folder.path()).expect("the folder");
    let deb = deb
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"));
    let deb: PathBuf = deb.expect("the package");
    let mut bytes = std::fs::read(&deb).expect("the package");
    let last = bytes.last_mut().expect("it has bytes");
    *last ^= 1;
    std::fs::write(&deb, bytes).expect("it is changed");
    let second = folder.path().join("second.json");
    let refused = trilith(&[
        "import",
        "debian",
        "--debs",
        text(folder.path()),
        "--output",
        text(&second),
    ]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("REF-DEB-UNLISTED"),
        "{refused:?}"
    );
    let left = std::fs::read_dir(folder.path())
        .expect("the folder")
        .count();
    assert_eq!(left, 2, "the package and the first file");
}

#[test]
fn a_boot_chain_is_imported_before_it_boots_and_is_what_a_tpm_quoted() {
    let evidence = testkit::evidence().map(|all| all.join("lab/shim-grub-debian-signed-ms-keys"));
    let Some(lab) = evidence.filter(|folder| folder.is_dir()) else {
        testkit::skip("references::recorded_boots", "no evidence folder");
        return;
    };
    let names = [
        ("shim-signed", Some("1.51~1+deb12u1+16.1-2~deb12u1")),
        ("grub-efi-amd64-signed", Some("1+2.06+13+deb12u2")),
        ("linux-image-6.1.0-56-amd64", Some("6.1.192-2")),
    ];
    let (Some(folder), Some(firmware)) =
        (debs(&names), debs(&[("ovmf", Some("2022.11-6+deb12u2"))]))
    else {
        return;
    };
    let deb = std::fs::read_dir(firmware.path())
        .expect("the folder")
        .flatten()
        .next()
        .expect("a package");
    let unpacked = firmware.path().join("files");
    let status = Command::new("dpkg-deb")
        .arg("-x")
        .arg(deb.path())
        .arg(&unpacked)
        .status();
    assert!(status.is_ok_and(|status| status.success()));
    let variables = unpacked.join("usr/share/OVMF/OVMF_VARS_4M.ms.fd");
    let output = folder.path().join("boot.json");
    let done = trilith(&[
        "import",
        "debian",
        "--debs",
        text(folder.path()),
        "--uefi",
        text(&variables),
        "--output",
        text(&output),
    ]);
    assert!(done.status.success(), "{done:?}");
    let imported = generation(&output);
    // What rules draw from it is what this boot's log shows.
    let mut artefacts = imported.generations[0].artefacts.iter();
    let chain = artefacts.find(|one| one.name == "shim-grub-linux");
    let parts = &chain.expect("the chain").parts;
    for (list, logged) in [
        (&parts.images, &["80a66d53", "a68f6d71", "6b1bf35c"][..]),
        (&parts.files, &["26f2e57c", "78313ff2"]),
        (&parts.authorities, &["07964697", "48e99b99"]),
        (&parts.mok, &["342c88bb", "45e89b4a", "4bf5122f"]),
    ] {
        let digests: Vec<String> = list.iter().map(|part| part.sha256.to_string()).collect();
        assert_eq!(digests.len(), logged.len());
        for (digest, start) in digests.iter().zip(logged) {
            assert!(digest.starts_with(start), "{digest} {start}");
        }
    }
    let from = imported.generations[0].valid_from;
    let references = References::new([imported]).expect("it is consistent");
    let at = At {
        now: from,
        ring: "any",
    };
    let quoted = std::fs::read_to_string(lab.join("pcrs.txt")).expect("the quoted PCRs");
    for index in [4, 7, 14] {
        let line = quoted.lines().find(|line| {
            line.split_once(':')
                .is_some_and(|(number, _)| number.trim() == index.to_string())
        });
        let value = line
            .and_then(|line| line.split_once("0x"))
            .expect("a value")
            .1;
        let value: Digest = value.trim().to_lowercase().parse().expect("a digest");
        assert!(
            matches!(references.look_up_pcr(index, &value, at), Known::Good(_)),
            "PCR {index}"
        );
    }
    // The kernel's modules are known by each of their digests.
    let said = trilith(&[
        "find",
        "/lib/modules/6.1.0-56-amd64/kernel/fs/ext4/ext4.ko",
        text(&output),
        "--json",
    ]);
    let found: Value = serde_json::from_slice(&said.stdout).expect("one module");
    assert!(found["file"]["fsverity"].is_string());
}

#[test]
fn what_openssl_signed_of_a_program_counts_in_the_estate_that_names_its_key() {
    let folder = testkit::temp_dir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let openssl = |arguments: &[&str]| {
        let mut openssl = Command::new(testkit::tool("openssl").expect("openssl is there"));
        let done = openssl.current_dir(&folder).args(arguments).output();
        let done = done.expect("openssl starts");
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    };
    std::fs::write(at("program"), b"\x7fELF and more").expect("a program");
    let curve = "ec_paramgen_curve:P-256";
    openssl(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        curve,
        "-out",
        "key",
    ]);
    openssl(&["pkey", "-in", "key", "-pubout", "-out", "pub"]);
    openssl(&["dgst", "-sha256", "-sign", "key", "-out", "sig", "program"]);

    let (program, signature) = (at("program"), at("sig"));
    let import = |form: &str, output: &Path| {
        let said = [text(&program), form, text(&signature)];
        trilith(
            &[
                &["import", "code"][..],
                &said,
                &["--output", text(output), "--json"],
            ]
            .concat(),
        )
    };
    let output = at("vouching.json");
    let written = import("--signature", &output);
    assert!(written.status.success(), "{written:?}");
    let said: Value = serde_json::from_slice(&written.stdout).expect("JSON");
    let sha256 = said["sha256"].as_str().expect("a digest").to_owned();

    let mut files = estate::EstateFiles::new();
    files.insert("estate.toml", "trust_domain = \"t\"\n");
    let said = std::fs::read_to_string(&output).expect("it was written");
    files.insert("references/said.json", said);
    let key = std::fs::read_to_string(at("pub")).expect("a key");
    let who = format!("[[signer]]\nname = \"openssl\"\nkey = '''\n{key}'''\n");
    files.insert("references/who.toml", who);
    let estate = estate::Estate::compile(&files).expect("it compiles");
    let now = facts::Timestamp::now();
    let mut running = facts::FactSet::new();
    let source = facts::Source::Asserted;
    running.state(facts::names::CODE_SHA256, sha256, source, now);
    let (derived, findings) = estate.code_facts(&running, now);
    assert!(findings.is_empty(), "{findings:?}");
    let approved = derived.text(facts::names::CODE_APPROVED_BY);
    assert_eq!(approved, Some("openssl"));

    // Named as what it is not, it is refused and nothing is written.
    let other = at("other.json");
    let refused = import("--bundle", &other);
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("REF-EVIDENCE"), "{refused:?}");
    assert!(!other.exists());
}

/// An estate that lists `files` by digests of their trees.
fn estate_of(folder: &Path, files: &[(&str, [u8; 32])]) {
    let plain = serde_json::json!({ "path": "/usr/bin/plain", "sha256": "6".repeat(64) });
    let listed = files.iter();
    let mut listed: Vec<Value> = listed
        .map(|(path, tree)| {
            let tree = crypto::hex::encode(tree);
            let sha256 = crypto::hex::encode(&crypto::sha256(path.as_bytes()));
            serde_json::json!({ "path": path, "sha256": sha256, "fsverity": tree })
        })
        .collect();
    listed.push(plain);
    let pinned = "7".repeat(64);
    let references = serde_json::json!({ "generation": [{
        "name": "g1",
        "rings": ["web"],
        "valid_from": "2024-01-02T03:04:05Z",
        "imported_at": "2024-01-02T03:04:05Z",
        "source": [{ "id": "p", "kind": "pinned", "name": "the test", "sha256": pinned }],
        "artefact": [{ "kind": "deb", "name": "web", "version": "1", "sha256": pinned, "source": "p", "file": listed }],
    }]});
    std::fs::create_dir_all(folder.join("references")).expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("written");
    write("estate.toml", "trust_domain = \"example.org\"\n");
    write("references/web.json", &references.to_string());
    let pools = "[[pool]]\nname = \"web\"\n[[pool]]\nname = \"db\"\n";
    write("references/pools.toml", pools);
}

#[test]
fn a_policy_is_made_from_what_is_listed_and_only_a_change_makes_a_new_one() {
    let folder = testkit::temp_dir().expect("a folder");
    let estate = folder.path().join("estate");
    let owner = testkit::guest::Owner::new(&folder.path().join("owner")).expect("keys");
    let output = estate.join("references/enforcement.json");
    let (p7b, manifest) = (
        folder.path().join("p7b"),
        folder.path().join("manifest.json"),
    );
    let run = |ring: &str, certificate: &Path, key: &Path| {
        trilith(&[
            "ipe",
            text(&estate),
            "--ring",
            ring,
            "--certificate",
            text(certificate),
            "--key",
            text(key),
            "--enforce",
            "--output",
            text(&output),
            "--p7b",
            text(&p7b),
            "--manifest",
            text(&manifest),
            "--json",
        ])
    };
    let (db, key) = (owner.certificate("db"), owner.key("db"));
    let made = || {
        let ran = run("web", &db, &key);
        assert!(ran.status.success(), "{ran:?}");
        let said: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
        said
    };
    let refused = |ran: Output, code: &str| {
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(said.contains(code), "{code}: {said}");
    };
    estate_of(&estate, &[]);
    refused(run("web", &db, &key), "IPE-EMPTY");
    // No machine is sent a policy of a ring that nobody is in.
    let nowhere = run("webb", &db, &key);
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(said.contains("did you mean `web`?"), "{said}");
    refused(nowhere, "SEAL-RING");
    assert!(!output.exists(), "nothing half-written");

    estate_of(&estate, &[("/usr/bin/web", [1; 32])]);
    let first = made();
    // The moment since which that is listed.
    assert_eq!(first["version"], "2024.102.304", "{first}");
    assert_eq!(first["programs"], 1);
    assert_eq!(first["unchanged"], false);
    // OpenSSL, which knows nothing of this, finds the same signature and text.
    let verified = Command::new("openssl")
        .args(["cms", "-verify", "-inform", "DER", "-binary", "-CAfile"])
        .arg(&db)
        .args(["-purpose", "any", "-in"])
        .arg(&p7b)
        .output()
        .expect("openssl runs");
    assert!(verified.status.success(), "{verified:?}");
    let policy = String::from_utf8(verified.stdout).expect("text");
    assert!(
        policy.starts_with("policy_name=trilith policy_version=2024.102.304\n"),
        "{policy}"
    );
    assert!(policy.contains(&format!(
        "fsverity_digest=sha256:{} action=ALLOW",
        "01".repeat(32)
    )));
    let listed = std::fs::read_to_string(&manifest).expect("a manifest");
    assert!(listed.contains("/usr/bin/web"), "{listed}");

    let bytes = std::fs::read(&output).expect("a file");
    let again = made();
    assert_eq!(again["unchanged"], true);
    assert_eq!(std::fs::read(&output).expect("a file"), bytes);

    // A program more: a higher version, though nothing else says so.
    estate_of(
        &estate,
        &[("/usr/bin/web", [1; 32]), ("/usr/bin/more", [2; 32])],
    );
    let second = made();
    assert_eq!(second["version"], "2024.102.305", "{second}");
    // And one less: never the version of before.
    estate_of(&estate, &[("/usr/bin/web", [1; 32])]);
    assert_eq!(made()["version"], "2024.102.306");

    refused(run("db", &db, &key), "IPE-EMPTY");
    refused(run("web", &owner.certificate("KEK"), &key), "IPE-SIGNER");
    refused(run("web", &db, &db), "IPE-KEY-FILE");
    // What is no policy is no estate.
    std::fs::write(
        &output,
        "{\"enforcement\":[{\"rings\":[\"web\"],\"policy\":\"AAAA\"}]}",
    )
    .expect("written");
    let ran = run("web", &db, &key);
    assert!(
        String::from_utf8_lossy(&ran.stderr).contains("ESTATE-ENFORCEMENT"),
        "{ran:?}"
    );
}

#[test]
fn a_boot_rule_is_made_added_to_and_refused_where_it_cannot_be_meant() {
    let folder = testkit::temp_dir().expect("a folder");
    let file = folder.path().join("boot.json");
    let [initrd, image] = ["initrd", "image"].map(|what| Digest::of(what.as_bytes()).to_string());
    let boot = |words: &[&str]| trilith(&[&["boot", text(&file)][..], words].concat());
    // A new rule is for somebody.
    let refused = boot(&["--rule", "web", "--command-line", "quiet"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(!file.exists(), "nothing was left behind");
    let initrd = format!("initrd={initrd}");
    let words = [
        "--rule",
        "web",
        "--ring",
        "web",
        "--command-line",
        "root=LABEL=root ro",
        "--file",
        &initrd,
        "--sbat",
        "shim=4",
    ];
    let made = boot(&words);
    assert!(made.status.success(), "{made:?}");
    let image = format!("loader={image}");
    for _ in 0..2 {
        // The same again adds nothing.
        let added = boot(&["--rule", "web", "--image", &image, "--json"]);
        assert!(added.status.success(), "{added:?}");
        let told: Value = serde_json::from_slice(&added.stdout).expect("one JSON document");
        assert_eq!(told["rule"]["image"].as_array().map(Vec::len), Some(1));
    }
    let written = generation(&file).boots;
    let [rule] = written.as_slice() else {
        panic!("one rule: {written:?}");
    };
    assert_eq!(rule.secure_boot, references::SecureBoot::Required);
    assert_eq!(rule.command_lines, ["root=LABEL=root ro"]);
    assert_eq!((rule.files.len(), rule.images.len()), (1, 1));
    assert_eq!(rule.sbat.get("shim"), Some(&4));
    let before = std::fs::read(&file).expect("it is there");
    for (words, code) in [
        (&["--image", "loader=1234"][..], 2),
        (&["--sbat", "shim"], 2),
        (&["--unjudged", "24"], 1),
        (
            &[
                "--valid-from",
                "2026-02-01T00:00:00Z",
                "--valid-until",
                "2026-01-01T00:00:00Z",
            ],
            1,
        ),
    ] {
        let refused = boot(&[&["--rule", "web"][..], words].concat());
        assert_eq!(refused.status.code(), Some(code), "{refused:?}");
        assert_eq!(std::fs::read(&file).expect("it is there"), before);
    }
    let by_hand = folder.path().join("boot.toml");
    std::fs::write(&by_hand, "[[boot]]\nname = \"web\"\nrings = [\"web\"]\n").expect("written");
    let refused = trilith(&[
        "boot",
        text(&by_hand),
        "--rule",
        "web",
        "--command-line",
        "quiet",
    ]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("REF-CHANGE-FORM"), "{said}");
}

/// Written into an estate, a mistyped ring is told; the file is written, as the pool may be declared next.
#[test]
fn a_ring_that_is_no_pool_of_the_estate_is_told() {
    let folder = testkit::temp_dir().expect("a folder");
    let estate = folder.path().join("estate");
    estate_of(&estate, &[]);
    let file = estate.join("references/boot.json");
    let boot = |ring: &str| {
        let words = ["--rule", "web", "--ring", ring, "--command-line", "quiet"];
        let ran = trilith(&[&["boot", text(&file)][..], &words].concat());
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8_lossy(&ran.stderr).into_owned()
    };
    assert_eq!(boot("web"), "");
    let said = boot("wbe");
    assert!(
        said.contains("SEAL-RING") && said.contains("\"wbe\""),
        "{said}"
    );
    assert!(file.exists());
}

#[test]
fn a_key_that_is_none_is_refused_with_a_code() {
    let folder = testkit::temp_dir().expect("a folder");
    let (key, provenance) = (folder.path().join("key.pem"), folder.path().join("p.json"));
    std::fs::write(&provenance, "{}").expect("written");
    for bytes in [
        "",
        "-----BEGIN PUBLIC KEY-----\n?\n-----END PUBLIC KEY-----\n",
    ] {
        std::fs::write(&key, bytes).expect("written");
        let output = folder.path().join("out.json");
        let ran = trilith(&[
            "import",
            "slsa",
            text(&provenance),
            "--key",
            text(&key),
            "--output",
            text(&output),
        ]);
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(
            said.contains("REF-KEY-FILE") && said.contains("openssl"),
            "{said}"
        );
        assert!(!output.exists());
    }
}

const KERNEL: &str = "linux-image-6.1.0-56-amd64";
const LOADER: (&str, &str) = (
    "systemd-boot-efi",
    "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
);

#[test]
fn a_kernel_behind_a_boot_loader_is_imported_and_what_it_measures_is_named() {
    let Some(folder) = debs(&[(KERNEL, Some("6.1.192-2")), (LOADER.0, None)]) else {
        return;
    };
    let unpacked = |name, version| {
        let deb = testkit::debian::package(name, version).expect("it was there before");
        testkit::debian::unpacked(&deb).expect("it unpacks")
    };
    let kernel = unpacked(KERNEL, Some("6.1.192-2")).join("boot/vmlinuz-6.1.0-56-amd64");
    let loader = unpacked(LOADER.0, None).join(LOADER.1);
    let initrd = folder.path().join("initrd.img");
    std::fs::write(&initrd, [7; 9]).expect("written");
    let output = folder.path().join("kernel.json");
    let import = |line: &str| {
        let words = ["import", "kernel", text(&kernel), "--cmdline", line];
        let more = ["--initrd", text(&initrd), "--loader", text(&loader)];
        let output = ["--ring", "web", "--output", text(&output)];
        trilith(&[&words[..], &more, &output].concat())
    };
    let refused = import("quiet\ninit=/bin/sh");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("REF-KERNEL"), "{said}");
    let done = import("initrd=\\initrd.img quiet\n");
    assert!(done.status.success(), "{done:?}");
    let file = generation(&output);
    let artefact = &file.generations[0].artefacts[0];
    let indices: Vec<u8> = artefact.pcrs.iter().map(|pcr| pcr.index).collect();
    assert_eq!(indices, [4, 8, 9, 9, 12]);
    assert_eq!(artefact.parts.command_lines, ["initrd=\\initrd.img quiet"]);
    assert_eq!(artefact.parts.images.len(), 2);
    assert_eq!(artefact.parts.files[0].sha256, Digest::of(&[7; 9]));
    // Under the text of another command line, PCR 9 and 12 are others.
    import("initrd=\\initrd.img quiet init=/bin/sh");
    let other = generation(&output);
    let values = |file: &ReferenceFile, index| -> Vec<Digest> {
        let pcrs = file.generations[0].artefacts[0].pcrs.iter();
        let pcrs = pcrs.filter(|pcr| pcr.index == index);
        pcrs.map(|pcr| pcr.sha256).collect()
    };
    assert_eq!(values(&file, 4), values(&other, 4));
    for index in [9, 12] {
        assert_ne!(values(&file, index), values(&other, index));
    }
}
