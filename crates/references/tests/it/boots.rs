//! Predictions against the PCRs that a TPM quoted after real boots.

use crate::evidence::{Boot, digest, folder, packages};
use references::boot::{self, EfiStub, Phase, Shim, Uki};
use references::debian::{Listed, Package};
use references::pcr::{Pcr, replay};
use references::pe::{Authority, Image};
use references::uefi::{GLOBAL, SECURITY_DATABASE, UefiVariables, variable_event, x509_list};
use references::{Digest, PcrEvent, import};
use std::process::Command;

/// The owner that the lab's keys were enrolled under.
const OWNER: [u8; 16] = [
    0x85, 0x0e, 0xfc, 0x4e, 0x83, 0x6c, 0x84, 0x4c, 0x89, 0x78, 0xdd, 0xa4, 0xa2, 0x18, 0x6c, 0x5d,
];

pub(crate) fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    crypto::base64::decode(&lines.collect::<String>()).unwrap()
}

/// Section and digest, as the boot's own log has them.
fn logged_sections(boot: &Boot) -> Vec<(String, Digest)> {
    sections_of(&boot.events)
}

fn sections_of(events: &[crate::log::Event]) -> Vec<(String, Digest)> {
    let pcr11: Vec<_> = events.iter().filter(|event| event.pcr == 11).collect();
    pcr11
        .chunks(2)
        .map(|pair| {
            let units: Vec<u16> = pair[1]
                .data
                .chunks(2)
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                .take_while(|unit| *unit != 0)
                .collect();
            (String::from_utf16(&units).unwrap(), pair[1].sha256)
        })
        .collect()
}

#[test]
fn a_uki_boot_is_predicted_from_its_image() {
    let Some(lab) = Boot::open("references::recorded_boots", "uki-own-keys-secureboot") else {
        return;
    };
    let predicted: serde_json::Value = serde_json::from_str(&lab.text("predicted.json")).unwrap();
    let authenticode = digest(predicted["uki_authenticode_sha256"].as_str().unwrap());
    lab.assert_pcr(&boot::boot_loader(("UKI", authenticode), &[]));
    // In the order in which systemd-stub measures, which is not the order of the file.
    let sections: Vec<(String, Digest)> = [".linux", ".osrel", ".cmdline", ".initrd"]
        .map(|name| {
            let hex = predicted["sections"][name].as_str().unwrap();
            (name.to_owned(), digest(hex))
        })
        .into();
    lab.assert_pcr(&boot::sections_pcr11(&sections, Phase::Stub));
    let cmdline = lab.text("cmdline.txt");
    let stub = EfiStub {
        cmdline: cmdline.trim_end(),
        initrd: Some(sections[3].1),
    };
    lab.assert_pcr(&stub.pcr9());
}

#[test]
fn every_uki_boot_is_predicted_and_an_altered_command_line_shows_where() {
    let names = ["uki-612-ipe-secureboot", "uki-signed-but-tampered-cmdline"];
    for name in names {
        let Some(lab) = Boot::open("references::recorded_boots", name) else {
            return;
        };
        let sections = logged_sections(&lab);
        lab.assert_pcr(&boot::sections_pcr11(&sections, Phase::Stub));
        let application = lab.events.iter().find(|event| event.kind == 0x8000_0003);
        lab.assert_pcr(&boot::boot_loader(
            ("UKI", application.unwrap().sha256),
            &[],
        ));
        let cmdline = lab.text("cmdline.txt");
        let stub = EfiStub {
            cmdline: cmdline.trim_end(),
            initrd: sections
                .iter()
                .find(|(name, _)| name == ".initrd")
                .map(|(_, digest)| *digest),
        };
        lab.assert_pcr(&stub.pcr9());
    }
}

#[test]
fn a_kernel_that_firmware_starts_measures_its_options_and_initrd() {
    for name in ["direct-kernel-no-secureboot", "fsverity-ima-ngv2"] {
        let Some(lab) = Boot::open("references::recorded_boots", name) else {
            return;
        };
        let cmdline = lab.text("cmdline.txt");
        let stub = EfiStub {
            cmdline: cmdline.trim_end(),
            initrd: lab.digests(9).get(1).copied(),
        };
        lab.assert_pcr(&stub.pcr9());
        // Secure Boot off, no keys: the variables are measured as empty.
        let mut variables = UefiVariables::new();
        variables.set(GLOBAL, "SecureBoot", vec![0]).unwrap();
        lab.assert_pcr(&variables.pcr7().unwrap().finish());
    }
}

/// The lab's variables, from its certificates; dbx as OVMF fills it.
fn lab_variables(lab: &Boot) -> (UefiVariables, Vec<u8>) {
    let certificate = |name: &str| der(&lab.text(&format!("keys/{name}.crt")));
    let mut variables = UefiVariables::new();
    let mut set = |vendor, name: &str, data| variables.set(vendor, name, data).unwrap();
    set(GLOBAL, "SecureBoot", vec![1]);
    set(GLOBAL, "PK", x509_list(&OWNER, &certificate("PK")));
    set(GLOBAL, "KEK", x509_list(&OWNER, &certificate("KEK")));
    let db = certificate("db");
    set(SECURITY_DATABASE, "db", x509_list(&OWNER, &db));
    let dbx = lab
        .events
        .iter()
        .filter(|event| event.pcr == 7)
        .nth(4)
        .unwrap();
    set(SECURITY_DATABASE, "dbx", dbx.data[32 + 6..].to_vec());
    (variables, db)
}

#[test]
fn pcr_7_follows_from_the_enrolled_keys_and_the_authority() {
    for name in [
        "uki-own-keys-secureboot",
        "uki-612-ipe-secureboot",
        "uki-signed-but-tampered-cmdline",
    ] {
        let test = "references::recorded_boots";
        let (Some(keys), Some(lab)) = (
            Boot::open(test, "uki-own-keys-secureboot"),
            Boot::open(test, name),
        ) else {
            return;
        };
        let (variables, db) = lab_variables(&keys);
        let authority = Authority {
            variable: "db",
            vendor: SECURITY_DATABASE,
            data: [OWNER.as_slice(), &db].concat(),
        };
        lab.assert_pcr(&variables.pcr7_under(&authority).unwrap().finish());
    }
}

pub(crate) const SHIM: (&str, Option<&str>) =
    ("shim-signed", Some("1.51~1+deb12u1+16.1-2~deb12u1"));
pub(crate) const GRUB: (&str, Option<&str>) = ("grub-efi-amd64-signed", Some("1+2.06+13+deb12u2"));
pub(crate) const KERNEL: (&str, Option<&str>) = ("linux-image-6.1.0-56-amd64", Some("6.1.192-2"));
pub(crate) const FIRMWARE: (&str, Option<&str>) = ("ovmf", Some("2022.11-6+deb12u2"));
pub(crate) const SHIM_PATH: &str = "/usr/lib/shim/shimx64.efi.signed";
const GRUB_PATH: &str = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed";
const KERNEL_PATH: &str = "/boot/vmlinuz-6.1.0-56-amd64";
pub(crate) const VARIABLES_PATH: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";

/// A file of a package whose digest is taken for granted: the chain to it is tested in `repository`.
pub(crate) fn file_of(deb: &[u8], (name, version): (&str, Option<&str>), path: &str) -> Vec<u8> {
    let architecture = if name == "ovmf" { "all" } else { "amd64" };
    let listed = Listed {
        name: name.to_owned(),
        version: version.unwrap().to_owned(),
        architecture: architecture.to_owned(),
        filename: String::new(),
        size: deb.len() as u64,
        sha256: Digest::of(deb),
    };
    let package = Package::open(deb, &listed).unwrap();
    package.read(path, 1 << 26).unwrap().unwrap()
}

#[test]
fn debians_chain_is_predicted_from_its_packages_alone() {
    let names = [SHIM, GRUB, KERNEL, FIRMWARE];
    let (Some(lab), Some([shim, grub, kernel, firmware])) = (
        Boot::open(
            "references::recorded_boots",
            "shim-grub-debian-signed-ms-keys",
        ),
        packages("references::debian_packages", names),
    ) else {
        return;
    };
    let shim = file_of(&shim, SHIM, SHIM_PATH);
    let grub = file_of(&grub, GRUB, GRUB_PATH);
    let kernel = file_of(&kernel, KERNEL, KERNEL_PATH);
    let variables =
        UefiVariables::from_varstore(&file_of(&firmware, FIRMWARE, VARIABLES_PATH)).unwrap();
    let images = [&shim, &grub, &kernel].map(|bytes| Image::parse(bytes).unwrap());
    let [shim_image, grub_image, kernel_image] = &images;
    lab.assert_pcr(&boot::shim_grub_linux(
        shim_image.authenticode(),
        grub_image.authenticode(),
        kernel_image.authenticode(),
    ));
    let parsed = Shim::parse(&shim).unwrap();
    lab.assert_pcr(&parsed.pcr14(&variables));
    lab.assert_pcr(
        &variables
            .pcr7_through_shim(shim_image, &parsed, grub_image)
            .unwrap(),
    );
    // GRUB's configuration and the initrd are the lab's own; its log has their digests.
    let files = lab.digests(9);
    lab.assert_pcr(&boot::grub_files(&[
        ("(hd0)/EFI/debian/grub.cfg", files[0]),
        ("(hd0)/EFI/BOOT/grubx64.efi", Digest::of(&grub)),
        ("/vmlinuz", Digest::of(&kernel)),
        ("/initrd.gz", files[3]),
    ]));
    // The kernel is under the same authority, so shim measures none again.
    assert!(
        variables
            .pcr7_through_shim(shim_image, &parsed, kernel_image)
            .is_ok()
    );
    assert_eq!(
        variables.authority(grub_image).unwrap_err().code,
        "REF-IMAGE-AUTHORITY"
    );
}

#[test]
fn secure_boot_refuses_what_dbx_denies_and_what_is_signed_wrongly() {
    let Some([shim, firmware]) = packages("references::debian_packages", [SHIM, FIRMWARE]) else {
        return;
    };
    let shim = file_of(&shim, SHIM, SHIM_PATH);
    let image = Image::parse(&shim).unwrap();
    let mut variables =
        UefiVariables::from_varstore(&file_of(&firmware, FIRMWARE, VARIABLES_PATH)).unwrap();
    assert!(variables.secure_boot());
    let authority = variables.authority(&image).unwrap();
    // By its digest: one EFI_SIGNATURE_LIST of type SHA-256.
    let sha256 = [
        0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43,
        0x28,
    ];
    let by_digest = [
        sha256.as_slice(),
        &76_u32.to_le_bytes(),
        &0_u32.to_le_bytes(),
        &48_u32.to_le_bytes(),
        &OWNER,
        image.authenticode().as_bytes(),
    ]
    .concat();
    variables
        .set(SECURITY_DATABASE, "dbx", by_digest.clone())
        .unwrap();
    assert_eq!(
        variables.authority(&image).unwrap_err().code,
        "REF-IMAGE-REVOKED"
    );
    // By the certificate that it hangs on.
    let denied = x509_list(&OWNER, &authority.data[16..]);
    variables.set(SECURITY_DATABASE, "dbx", denied).unwrap();
    assert_eq!(
        variables.authority(&image).unwrap_err().code,
        "REF-IMAGE-REVOKED"
    );
    // Allowed by digest alone, without a certificate.
    variables.set(SECURITY_DATABASE, "dbx", Vec::new()).unwrap();
    variables.set(SECURITY_DATABASE, "db", by_digest).unwrap();
    assert_eq!(variables.authority(&image).unwrap().data.len(), 48);
    // A byte of code changed under the same signature.
    let mut changed = shim.clone();
    changed[0x30000] ^= 1;
    let changed = Image::parse(&changed).unwrap();
    let variables = UefiVariables::from_varstore(&file_of(
        &packages("references::debian_packages", [FIRMWARE]).unwrap()[0],
        FIRMWARE,
        VARIABLES_PATH,
    ))
    .unwrap();
    assert!(variables.authority(&Image::parse(&shim).unwrap()).is_ok());
    assert_eq!(
        variables.authority(&changed).unwrap_err().code,
        "REF-IMAGE-AUTHORITY"
    );
}

#[test]
fn a_uki_on_debians_stub_is_read_as_objcopy_made_it() {
    let test = "references::debian_packages";
    let Some([kernel, stub]) = packages(test, [KERNEL, ("systemd-boot-efi", None)]) else {
        return;
    };
    let Ok([objcopy]) = testkit::tools(["objcopy"]) else {
        testkit::skip("references::objcopy", "objcopy is not installed");
        return;
    };
    let kernel = file_of(&kernel, KERNEL, KERNEL_PATH);
    let path = testkit::debian::package("systemd-boot-efi", None).unwrap();
    let version = path
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .split('_')
        .nth(1)
        .unwrap()
        .to_owned();
    let stub_name = ("systemd-boot-efi", Some(version.as_str()));
    let stub = file_of(
        &stub,
        stub_name,
        "/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
    );
    let folder = testkit::temp_dir().unwrap();
    let parts: [(&str, &[u8], &str); 4] = [
        (".osrel", b"ID=test\nVERSION_ID=1\n", "0x20000"),
        (".cmdline", b"console=ttyS0 quiet", "0x30000"),
        (".linux", &kernel, "0x2000000"),
        (".initrd", b"not much of an initrd", "0x4000000"),
    ];
    let mut command = Command::new(objcopy);
    for (name, content, address) in parts {
        let file = folder.path().join(name.trim_start_matches('.'));
        std::fs::write(&file, content).unwrap();
        command
            .arg("--add-section")
            .arg(format!("{name}={}", file.display()));
        command
            .arg("--change-section-vma")
            .arg(format!("{name}={address}"));
    }
    let (input, output) = (
        folder.path().join("stub.efi"),
        folder.path().join("uki.efi"),
    );
    std::fs::write(&input, stub).unwrap();
    assert!(command.arg(&input).arg(&output).status().unwrap().success());

    let bytes = std::fs::read(&output).unwrap();
    let uki = Uki::parse(&bytes).unwrap();
    assert_eq!(uki.stub, 252);
    // The stub's own .sbat is not measured by version 252.
    let expected: Vec<(String, Digest)> = [2, 0, 1, 3]
        .map(|part: usize| (parts[part].0.to_owned(), Digest::of(parts[part].1)))
        .into();
    assert_eq!(uki.sections, expected);
    let mut pcr11 = Pcr::new(11);
    for (name, digest) in &expected {
        pcr11 = pcr11
            .measure("", format!("{name}\0").as_bytes())
            .extend("", *digest);
    }
    assert_eq!(uki.pcr11(Phase::Stub).sha256, pcr11.clone().finish().sha256);
    let ready = pcr11
        .measure("", b"enter-initrd")
        .measure("", b"leave-initrd")
        .measure("", b"sysinit")
        .measure("", b"ready");
    assert_eq!(uki.pcr11(Phase::Ready).sha256, ready.finish().sha256);
    let pcr9 = EfiStub {
        cmdline: "console=ttyS0 quiet",
        initrd: Some(Digest::of(parts[3].1)),
    };
    assert_eq!(uki.pcr9().unwrap(), pcr9.pcr9());
    // Without a signature no key lets it run; nothing is assumed.
    let mut variables = UefiVariables::new();
    variables.set(GLOBAL, "SecureBoot", vec![1]).unwrap();
    let image = Image::parse(&bytes).unwrap();
    assert_eq!(
        variables.pcr7_of(&image).unwrap_err().code,
        "REF-IMAGE-AUTHORITY"
    );
}

#[test]
fn a_later_stub_measures_more_sections_in_the_canonical_order() {
    let Some(folder) = folder("references::recorded_boots", "eventlog") else {
        return;
    };
    // A TDX guest on a newer systemd-stub, with .uname and .sbat.
    let log = std::fs::read(folder.join("dstack-tpm_eventlog.bin")).unwrap();
    let events = crate::log::events(&log);
    let sections = sections_of(&events);
    let names: Vec<&str> = sections.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"]
    );
    let extended: Vec<PcrEvent> = events
        .iter()
        .filter(|event| event.pcr == 11)
        .map(|event| PcrEvent {
            what: String::new(),
            sha256: event.sha256,
        })
        .collect();
    let predicted = boot::sections_pcr11(&sections, Phase::Stub);
    assert_eq!(predicted.sha256, replay(&extended));
}

#[test]
fn a_command_line_from_outside_is_measured_into_pcr_12() {
    let Some(folder) = folder("references::recorded_boots", "eventlog") else {
        return;
    };
    let log = std::fs::read(folder.join("tpm2tools-sd-boot-fedora37.bin")).unwrap();
    let events = crate::log::events(&log);
    let measured: Vec<_> = events.iter().filter(|event| event.pcr == 12).collect();
    let cmdline = " console=ttyS0 console=tty0 efi=debug ";
    let predicted = boot::kernel_parameters(&[cmdline, cmdline]);
    let logged: Vec<Digest> = measured.iter().map(|event| event.sha256).collect();
    let digests: Vec<Digest> = predicted.events.iter().map(|event| event.sha256).collect();
    assert_eq!(digests, logged);
}

const SYSTEMD_BOOT: (&str, Option<&str>) = ("systemd-boot-efi", Some("252.39-1~deb12u2"));
const SYSTEMD_BOOT_PATH: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// As `refs import kernel` predicts it, against what Linux and systemd-boot logged.
#[test]
fn a_kernel_is_predicted_as_firmware_or_systemd_boot_starts_it() {
    let test = "references::recorded_boots";
    let names = [KERNEL, SYSTEMD_BOOT];
    let (Some(lab), Some(logs), Some([deb, loader_deb])) = (
        Boot::open(test, "direct-kernel-no-secureboot"),
        folder(test, "eventlog"),
        packages("references::debian_packages", names),
    ) else {
        return;
    };
    let vmlinuz = file_of(&deb, KERNEL, KERNEL_PATH);
    let loader = file_of(&loader_deb, SYSTEMD_BOOT, SYSTEMD_BOOT_PATH);
    let mut variables = UefiVariables::new();
    variables.set(GLOBAL, "SecureBoot", vec![0]).unwrap();
    let import = |cmdline: &str, initrds: &[(&str, Vec<u8>)], loader| {
        let kernel = import::Kernel {
            name: "vmlinuz",
            image: &vmlinuz,
            cmdline,
            initrds,
            loader,
        };
        import::kernel(&kernel, Some(&variables)).unwrap().1
    };
    let values = |artefact: &references::Artefact, index| -> Vec<references::PcrValue> {
        let pcrs = artefact.pcrs.iter().filter(|pcr| pcr.index == index);
        pcrs.cloned().collect()
    };

    // By the firmware: options alone here, as the recorded initrd is known by its digest only.
    let direct = import(&lab.text("cmdline.txt"), &[], None);
    let nine = values(&direct, 9);
    assert_eq!(nine[0].events[0].sha256, lab.digests(9)[0]);
    lab.assert_pcr(&values(&direct, 8)[0]);
    lab.assert_pcr(&values(&direct, 7)[0]);
    let events = &values(&direct, 4)[0].events;
    let authenticode = Image::parse(&vmlinuz).unwrap().authenticode();
    assert_eq!(events.last().unwrap().sha256, authenticode);
    assert_eq!(values(&direct, 12), []);

    // By systemd-boot: what it logged of its options on a real machine, and both forms of an initrd.
    let line = " console=ttyS0 console=tty0 efi=debug ";
    let log = std::fs::read(logs.join("tpm2tools-sd-boot-fedora37.bin")).unwrap();
    let logged = crate::log::events(&log);
    let logged = logged.iter().find(|event| event.pcr == 12).unwrap();
    let initrds = [("initrd.img", vec![7; 9]), ("microcode.img", vec![8; 4])];
    let booted = import(line, &initrds, Some(("systemd-boot", &loader)));
    assert_eq!(values(&booted, 12)[0].events[0].sha256, logged.sha256);
    let images: Vec<Digest> = values(&booted, 4)[0].events[2..]
        .iter()
        .map(|event| event.sha256)
        .collect();
    let loader_digest = Image::parse(&loader).unwrap().authenticode();
    assert_eq!(images, [loader_digest, authenticode]);
    let plain = [vec![7; 9], vec![8; 4]].concat();
    let filled = [vec![7; 9], vec![0; 3], vec![8; 4]].concat();
    let initrds: Vec<Digest> = values(&booted, 9)
        .iter()
        .map(|pcr| pcr.events[1].sha256)
        .collect();
    assert_eq!(initrds, [Digest::of(&plain), Digest::of(&filled)]);

    // Machines that boot so can be told from others, and sealed to.
    let generation = references::Generation {
        name: "kernel".to_owned(),
        rings: vec!["web".to_owned()],
        valid_from: facts::Timestamp::EPOCH,
        valid_until: None,
        imported_at: facts::Timestamp::EPOCH,
        sources: vec![references::Source {
            id: booted.source.clone(),
            kind: references::SourceKind::Pinned,
            name: "kernel".to_owned(),
            sha256: booted.sha256,
            signed_by: Vec::new(),
            signed_at: None,
        }],
        artefacts: vec![booted],
    };
    let file = references::ReferenceFile {
        generations: vec![generation],
        ..references::ReferenceFile::default()
    };
    let values = references::References::new([file]).unwrap();
    let at = references::At {
        now: facts::Timestamp::from_secs(1),
        ring: "web",
    };
    let boots = values.boots(at, 8);
    assert_eq!(boots.unpinned, None);
    assert_eq!(boots.boots.len(), 2);
}

#[test]
fn an_outside_tool_computes_the_same_authenticode_digest() {
    let Some([grub, kernel]) = packages("references::debian_packages", [GRUB, KERNEL]) else {
        return;
    };
    let Ok([tool]) = testkit::tools(["osslsigncode"]) else {
        testkit::skip("references::osslsigncode", "osslsigncode is not installed");
        return;
    };
    let folder = testkit::temp_dir().unwrap();
    for bytes in [
        file_of(&grub, GRUB, GRUB_PATH),
        file_of(&kernel, KERNEL, KERNEL_PATH),
    ] {
        let file = folder.path().join("image.efi");
        std::fs::write(&file, &bytes).unwrap();
        let output = Command::new(&tool)
            .arg("verify")
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
        let ours = Image::parse(&bytes).unwrap().authenticode().to_string();
        let calculated = said
            .lines()
            .find(|line| line.starts_with("calculated message digest"));
        assert!(calculated.unwrap().trim_end().ends_with(&ours), "{said}");
    }
}

#[test]
fn an_event_of_a_variable_is_what_firmware_logged() {
    let Some(lab) = Boot::open("references::recorded_boots", "uki-own-keys-secureboot") else {
        return;
    };
    let (variables, _) = lab_variables(&lab);
    let events: Vec<_> = lab.events.iter().filter(|event| event.pcr == 7).collect();
    for (event, (vendor, name)) in events.iter().zip([
        (GLOBAL, "SecureBoot"),
        (GLOBAL, "PK"),
        (GLOBAL, "KEK"),
        (SECURITY_DATABASE, "db"),
        (SECURITY_DATABASE, "dbx"),
    ]) {
        let ours = variable_event(&vendor, name, variables.data(&vendor, name));
        assert_eq!(ours, event.data, "{name}");
    }
    assert!(lab.path().is_dir());
}
