//! Real machines join a real server: Debian kernels under OVMF with Secure Boot and a TPM, in QEMU, with the
//! static node agent inside. Each boot takes half a minute; one runs at a time.

mod debian;
mod enforcement;
mod pieces;
mod server;

use debian::Debian;
use enforcement::Programs;
use pieces::{Pieces, WORKLOAD};
use std::time::Duration;
use testkit::guest::report;

/// What only a hung guest uses up.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_kernel_image_of_ones_own_joins_as_predicted_and_its_workload_gets_an_identity() {
    let pieces = match Pieces::new() {
        Ok(pieces) => pieces,
        Err(why) => return testkit::skip("trilith.boots", &why),
    };
    let mut initramfs = pieces.initramfs();
    let program = pieces.workload(&mut initramfs);
    let image = pieces.image("good", initramfs, pieces::CMDLINE);
    // Before it boots anywhere: what its TPM will hold.
    let references = pieces.predict(&image);
    pieces.apply(&references, Some(&program));

    let mut guest = pieces.boot("good", &image);
    let joined = pieces.join(&mut guest);
    let facts = pieces.server.facts(&joined.verdict);
    let fact = |name: &str| facts.get(name).cloned().unwrap_or_default();
    assert_eq!(fact("machine.boot.state"), "approved", "{facts:#?}");
    assert_eq!(
        fact("machine.boot.judged"),
        r#"["4","7","9","11"]"#,
        "{facts:#?}"
    );
    assert_eq!(fact("machine.boot.secure_boot"), "true", "{facts:#?}");
    assert_eq!(fact("machine.name"), "guest-1", "{facts:#?}");
    assert_eq!(fact("machine.tpm.kind"), "emulated", "{facts:#?}");

    let asked =
        format!("SPIFFE_ENDPOINT_SOCKET=unix:///run/trilith/workload.sock {WORKLOAD} < /dev/null");
    let ran = guest.run(&asked, PATIENCE).expect("the guest obeys");
    assert!(
        ran.output.contains("spiffe://boots.example/payments/api"),
        "{ran:?} {}",
        pieces.agent_log(&mut guest)
    );
    // The same program with one byte more is another program.
    let other = format!("cp {WORKLOAD} /tmp/other; echo >> /tmp/other; chmod 755 /tmp/other; ")
        + &asked.replace(WORKLOAD, "/tmp/other");
    let ran = guest.run(&other, PATIENCE).expect("the guest obeys");
    assert!(ran.output.contains("\"event\":\"refused\""), "{ran:?}");
    // What ran after the join stands in the kernel's list.
    let listed = "grep -c ' /tmp/other' /sys/kernel/security/ima/ascii_runtime_measurements";
    let ran = guest.run(listed, PATIENCE).expect("the guest obeys");
    assert_eq!(ran.output.trim(), "1", "{ran:?}");
    report(&format!(
        "own keys: {} booted in {:.1} s, joined {:.2} s later; approved by {}",
        guest.greeting,
        guest.booted_in.as_secs_f64(),
        joined.after.as_secs_f64(),
        fact("machine.boot.labels"),
    ));
}

#[test]
fn a_signed_image_with_another_command_line_is_refused_by_the_name_of_its_section() {
    let pieces = match Pieces::new() {
        Ok(pieces) => pieces,
        Err(why) => return testkit::skip("trilith.boots", &why),
    };
    let image = pieces.image("good", pieces.initramfs(), pieces::CMDLINE);
    pieces.apply(&pieces.predict(&image), None);
    // Whoever holds the key that signs images can make it start; it is still another boot.
    let altered = format!("{} module.sig_enforce=0", pieces::CMDLINE);
    let altered = pieces.image_of("altered", &pieces.path("good.initrd"), &altered);

    let mut guest = pieces.boot("altered", &altered);
    let said = pieces.refused(&mut guest);
    assert!(said.contains("REF-PCR-UNKNOWN"), "{said}");
    assert!(said.contains("PCR 11"), "{said}");
    assert!(said.contains("event 5: .cmdline"), "{said}");
    assert_eq!(pieces.server.joined(), None);
    report(&format!(
        "altered command line: booted in {:.1} s; refused: {}",
        guest.booted_in.as_secs_f64(),
        said.trim(),
    ));
}

#[test]
fn a_machine_from_a_shop_joins_by_what_debian_signed_alone() {
    let pieces = match Pieces::new() {
        Ok(pieces) => pieces,
        Err(why) => return testkit::skip("trilith.boots", &why),
    };
    let chain = match Debian::chain(&pieces) {
        Ok(chain) => chain,
        Err(why) => return testkit::skip("trilith.boots", &why),
    };
    let references = chain.predict(&pieces);
    pieces.apply(&references, None);

    let mut guest = chain.boot(&pieces);
    let joined = pieces.join(&mut guest);
    let facts = pieces.server.facts(&joined.verdict);
    let fact = |name: &str| facts.get(name).cloned().unwrap_or_default();
    assert_eq!(fact("machine.boot.state"), "approved", "{facts:#?}");
    assert_eq!(
        fact("machine.boot.judged"),
        r#"["4","7","14"]"#,
        "{facts:#?}"
    );
    assert_eq!(fact("machine.boot.secure_boot"), "true", "{facts:#?}");
    report(&format!(
        "Debian's chain: {} booted in {:.1} s, joined {:.2} s later; approved by {}",
        guest.greeting,
        guest.booted_in.as_secs_f64(),
        joined.after.as_secs_f64(),
        fact("machine.boot.labels"),
    ));
}

#[test]
fn a_kernel_that_enforces_runs_what_is_listed_and_nothing_else() {
    let pieces = match Pieces::with_kernel("6.12.") {
        Ok(pieces) => pieces,
        Err(why) => return testkit::skip("trilith.boots", &why),
    };
    let programs = Programs::new(&pieces);
    let mut initramfs = pieces.initramfs();
    programs.prepare(&mut initramfs);
    let image = pieces.image("enforcing", initramfs, pieces::CMDLINE);
    pieces.apply(&pieces.predict(&image), None);

    let esp = pieces.disk("enforcing", &image);
    let mut guest = pieces.boot_from(
        "enforcing",
        &pieces.own_variables(),
        &[&esp, &programs.disk],
    );
    let joined = pieces.join(&mut guest);
    let facts = pieces.server.facts(&joined.verdict);
    assert_eq!(
        facts.get("machine.boot.state").map(String::as_str),
        Some("approved"),
        "{facts:#?}"
    );
    let mut status = |line: &str| {
        let ran = guest.run(line, PATIENCE).expect("the guest obeys");
        (ran.status, ran.output)
    };
    let done = (0, String::new());
    assert_eq!(status("mount -t ext4 /dev/vdb /mnt"), done);
    for name in ["listed", "other"] {
        assert_eq!(
            status(&format!("fsverity enable /mnt/busybox-{name}")),
            done
        );
    }
    // Each of them is a program that works.
    for name in ["listed", "other", "copy"] {
        assert_eq!(status(&format!("/mnt/busybox-{name} true")), done, "{name}");
    }
    // A policy by somebody else's key is none.
    let (refused, _) = status("cat /etc/foreign.p7b > /sys/kernel/security/ipe/new_policy");
    assert_ne!(refused, 0);
    let install = "cat /etc/policy.p7b > /sys/kernel/security/ipe/new_policy";
    assert_eq!(status(install), done);
    let activate = "echo 1 > /sys/kernel/security/ipe/policies/trilith/active";
    assert_eq!(status(activate), done);
    assert_eq!(status("cat /sys/kernel/security/ipe/enforce").1.trim(), "1");
    let active = status("cat /sys/kernel/security/ipe/policies/trilith/active").1;
    assert_eq!(active.trim(), "1");
    // What the kernel holds is, byte for byte, what was signed.
    let held = status("sha256sum < /sys/kernel/security/ipe/policies/trilith/pkcs7").1;
    assert!(held.starts_with(&programs.policy_sha256), "{held}");

    assert_eq!(status("/mnt/busybox-listed true"), done);
    for name in ["other", "copy"] {
        let (refused, said) = status(&format!("/mnt/busybox-{name} true"));
        assert_eq!(refused, 126, "{name}: {said}");
        assert!(said.contains("Permission denied"), "{name}: {said}");
    }
    // The node agent, out of the initramfs that the firmware verified, goes on.
    assert_eq!(pieces.server.joined(), Some(joined.verdict));
    report(&format!(
        "enforcing: {} booted in {:.1} s, joined {:.2} s later; policy {} is active",
        guest.greeting,
        guest.booted_in.as_secs_f64(),
        joined.after.as_secs_f64(),
        programs.policy_sha256,
    ));
}
