//! Real machines join a real server: Debian kernels under OVMF with Secure Boot and a TPM, in QEMU, with the
//! static node agent inside. Each boot takes half a minute; one runs at a time.

mod debian;
mod enforcement;
mod measured;
mod pieces;
pub(crate) mod server;
mod shop;

use debian::Debian;
use enforcement::{COPY, OWN_TREE};
use measured::{Known, OTHER, UNLISTED, WITH_TREE};
use pieces::{Pieces, WORKLOAD};
use shop::{Session, Shop};
use std::time::{Duration, Instant};
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
    let known = Known::new(&pieces, &mut initramfs, &program);
    let image = pieces.image("good", initramfs, pieces::CMDLINE);
    // Before it boots anywhere: what its TPM will hold.
    let references = pieces.predict(&image);
    let mut files = pieces.estate(&references, Some(&known));
    shop::declare(&mut files);
    pieces.server.apply(&files);
    let shop = Shop::open(&pieces);

    let disks = [&*pieces.disk("good", &image), &known.disk];
    let mut guest = pieces.boot_from("good", &pieces.own_variables(), &disks);
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

    // Everything that the kernel has measured until then is listed.
    assert_eq!(fact("machine.ima.state"), "approved", "{facts:#?}");

    // Its first start tells the kernel of it, and the server counts it once the kernel's list says so.
    let by_content = pieces.identified(&mut guest, WORKLOAD);
    // The same program with one byte more is another program.
    let copy = format!("cp {WORKLOAD} {OTHER}; echo >> {OTHER}; chmod 755 {OTHER}");
    let ran = guest.run(&copy, PATIENCE).expect("the guest obeys");
    assert_eq!(ran.status, 0, "{ran:?}");
    let ran = guest.run(&pieces::asking(OTHER), PATIENCE);
    let said = ran.expect("the guest obeys").output;
    assert!(said.contains("\"event\":\"refused\""), "{said}");
    // Another one, known by the digest of its Merkle tree alone: the kernel measures its content, and reference
    // values say that the two are one file's.
    let tree = format!("mount -t ext4 /dev/vdb /mnt && fsverity enable {WITH_TREE}");
    let ran = guest.run(&tree, PATIENCE).expect("the guest obeys");
    assert_eq!(ran.status, 0, "{ran:?}");
    let by_tree = pieces.identified(&mut guest, WITH_TREE);
    // By now the server knows that the kernel has measured the other program as well, which is still nobody.
    let ran = guest.run(&pieces::asking(OTHER), PATIENCE);
    let said = ran.expect("the guest obeys").output;
    assert!(said.contains("\"event\":\"refused\""), "{said}");
    assert!(!said.contains("AGENT-OFFLINE"), "{said}");
    // What ran after the join stands in the kernel's list.
    let listed = format!("grep -c ' {OTHER}' /sys/kernel/security/ima/ascii_runtime_measurements");
    let ran = guest.run(&listed, PATIENCE).expect("the guest obeys");
    assert_eq!(ran.output.trim(), "1", "{ran:?}");
    assert_eq!(pieces.server.locked(), None, "{}", pieces.server.log());

    // A program that is not listed.
    let copy = format!("cp /bin/busybox {UNLISTED}; echo >> {UNLISTED}; chmod 755 {UNLISTED}");
    let ran = guest.run(&copy, PATIENCE).expect("the guest obeys");
    assert_eq!(ran.status, 0, "{ran:?}");
    // Its workload holds a session, and reads. What the session sees of the end is by the guest's clock.
    let mut session = Session::begin(&mut guest, &shop);
    let reading = session.keep_reading(&mut guest);
    std::thread::sleep(Duration::from_millis(500));
    let (started, exec) = (Instant::now(), shop::now());
    let ran = guest.run(&format!("{}; {UNLISTED} true", shop::UPTIME), PATIENCE);
    let ran = ran.expect("the guest obeys");
    assert_eq!(ran.status, 0, "it runs: {ran:?}");
    let before = shop::uptime(&ran.output).saturating_sub(reading);
    let evicted = pieces.evicted();
    let cut = evicted.seen.duration_since(started);
    let end = session.answer(&mut guest);
    assert!(!shop::is_ok(&end), "{end}");
    let read_for = end.get("ms").and_then(serde_json::Value::as_f64);
    let read_for = Duration::from_secs_f64(read_for.expect("a time") / 1e3);
    assert!(read_for > before, "it read until then: {end}");
    let seen = read_for.saturating_sub(before);
    let ended = shop::ended(&pieces.server);
    assert_eq!(ended.reason, "revoked", "{ended:?}");
    assert!(ended.detail.contains("IMA-FILE"), "{ended:?}");
    assert!(ended.operations > 1, "{ended:?}");
    assert!(ended.at >= exec, "{ended:?}");
    // Nor does it get another.
    let again = session.ask(&mut guest, &shop::query("select 1"));
    assert!(!shop::is_ok(&again), "{again}");
    assert!(!shop::is_ok(&session.connect(&mut guest, &shop)));
    let finding = evicted.findings.first().expect("a finding");
    assert_eq!(measured::text(finding, "/code"), "IMA-FILE", "{evicted:#?}");
    let names_it = measured::text(finding, "/message").contains(UNLISTED);
    assert!(names_it, "{evicted:#?}");
    assert_eq!(pieces.server.locked().as_deref(), Some("AGENT-EVICTED"));
    // What gateways follow: all that the machine holds.
    let revoked = |field| measured::text(&evicted.revocation, field);
    assert_eq!(revoked("/body/target/value"), "guest-1", "{evicted:#?}");
    assert!(
        revoked("/body/reason").starts_with("IMA-FILE"),
        "{evicted:#?}"
    );
    // The node agent has dropped what it held, and hands out nothing any more.
    let withdrawn = "until grep -q 'withdrawn identity=spiffe://boots.example/payments/api reason=IMA-FILE' \
                     /run/agent.log; do sleep 1; done";
    let ran = guest.run(withdrawn, PATIENCE).expect("the guest obeys");
    assert_eq!(ran.status, 0, "{ran:?}");
    let ran = guest.run(&pieces::asking(WORKLOAD), PATIENCE);
    let said = ran.expect("the guest obeys").output;
    assert!(said.contains("\"event\":\"refused\""), "{said}");
    report(&format!(
        "own keys: {} booted in {:.1} s, joined {:.2} s later; approved by {}; {} IMA entries approved; \
         identity by SHA-256 {:.2} s and by fs-verity {:.2} s after the program's first start; \
         an unlisted program ran after {} statements of an open session: {}; the machine was evicted {:.2} s \
         after it; the session cut {:.2} s after it by the client's clock, and by the gateway's record {:.2} s",
        guest.greeting,
        guest.booted_in.as_secs_f64(),
        joined.after.as_secs_f64(),
        fact("machine.boot.labels"),
        fact("machine.ima.entries"),
        by_content.as_secs_f64(),
        by_tree.as_secs_f64(),
        ended.operations,
        measured::text(finding, "/message"),
        cut.as_secs_f64(),
        seen.as_secs_f64(),
        (ended.at - exec).as_secs_f64(),
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
    // Debian's packages list files, so that every file which runs has to be listed. What is in the initramfs, the
    // command line and GRUB's configuration are the owner's.
    let references = chain.predict(&pieces);
    let references = measured::with_files(&references, &pieces.initramfs());
    Debian::own(&pieces);
    let ruled = |line: &str| pieces.estate(&Debian::ruled(&pieces, &references, line), None);
    let good = ruled(pieces::CMDLINE);
    let with_shell = ruled(&format!("{} init=/bin/sh", pieces::CMDLINE));
    pieces.server.apply(&good);

    let mut guest = chain.boot(&pieces);
    let joined = pieces.join(&mut guest);
    let facts = pieces.server.facts(&joined.verdict);
    let fact = |name: &str| facts.get(name).cloned().unwrap_or_default();
    assert_eq!(fact("machine.boot.state"), "approved", "{facts:#?}");
    assert_eq!(
        fact("machine.boot.judged"),
        r#"["2","4","7","8","9","11","12","13","14"]"#,
        "{facts:#?}"
    );
    assert_eq!(fact("machine.boot.secure_boot"), "true", "{facts:#?}");
    assert!(
        fact("machine.boot.cmdline").ends_with(pieces::CMDLINE),
        "{facts:#?}"
    );
    // The same evidence, where the kernel should have been given one word more.
    let folder = pieces.server.put(&with_shell);
    let folder = folder.to_str().expect("UTF-8");
    let tried = pieces
        .server
        .run(&["attest", "dry-run", "--all", "--estate", folder]);
    let tried = String::from_utf8_lossy(&tried.stdout).into_owned();
    assert!(tried.contains("BOOT-CMDLINE"), "{tried}");
    assert!(tried.contains("init=/bin/sh of rule shop"), "{tried}");
    assert!(tried.contains("refs boot"), "{tried}");
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
    let mut initramfs = pieces.initramfs();
    let program = pieces.workload(&mut initramfs);
    let known = Known::new(&pieces, &mut initramfs, &program);
    let image = pieces.image("enforcing", initramfs, pieces::CMDLINE);
    // What is listed is what the kernel lets run: both are made from the same values.
    let policy = pieces.enforce(&pieces.predict(&image), &known);

    let esp = pieces.disk("enforcing", &image);
    let disks = [&*esp, &known.disk];
    let mut guest = pieces.boot_from("enforcing", &pieces.own_variables(), &disks);
    let mut status = |line: &str| {
        let ran = guest.run(line, PATIENCE).expect("the guest obeys");
        (ran.status, ran.output)
    };
    let done = (0, String::new());
    assert_eq!(status("mount -t ext4 /dev/vdb /mnt"), done);
    // Programs that work, until it is enforced that they are not listed: a copy of one that is, and another
    // with a Merkle tree of its own.
    for (path, make) in [
        (COPY, format!("cp {WITH_TREE} {COPY}")),
        (
            OWN_TREE,
            format!("cp {WORKLOAD} {OWN_TREE} && echo >> {OWN_TREE} && fsverity enable {OWN_TREE}"),
        ),
    ] {
        assert_eq!(status(&make), done);
        // It has nobody to ask, and ends.
        assert_ne!(status(&format!("{path} < /dev/null")).0, 126, "{path} runs");
    }
    // A policy by somebody else's key is none.
    let foreign = crypto::base64::encode(&pieces.foreign());
    for piece in foreign.as_bytes().chunks(2_000) {
        let piece = str::from_utf8(piece).expect("base64");
        assert_eq!(status(&format!("echo {piece} >> /tmp/foreign")), done);
    }
    let decode = "tr -d '\\n' < /tmp/foreign | base64 -d > /tmp/foreign.p7b";
    assert_eq!(status(decode), done);
    let foreign = status("cat /tmp/foreign.p7b > /sys/kernel/security/ipe/new_policy");
    assert_ne!(foreign.0, 0);
    assert!(foreign.1.contains("key"), "{foreign:?}");
    let config = "printf '[enforcement]\\ninstall = true\\n' >> /run/agent.toml";
    assert_eq!(status(config), done);

    let joined = pieces.join(&mut guest);
    let facts = pieces.server.facts(&joined.verdict);
    let fact = |name: &str| facts.get(name).map(String::as_str);
    assert_eq!(fact("machine.boot.state"), Some("approved"), "{facts:#?}");
    assert_eq!(fact("machine.ima.state"), Some("approved"), "{facts:#?}");
    // The agent installs what the server sends, and its listed program becomes what only one may that runs under
    // that policy.
    let identified = pieces.identified(&mut guest, WITH_TREE);
    let issued = pieces
        .server
        .records("issuance")
        .into_iter()
        .rfind(|record| record.to_string().contains("/payments/api"))
        .expect("an issuance");
    for shown in [
        r#""machine.enforcement":"enforced""#,
        r#""code.enforcement":"enforced""#,
        r#""machine.ipe.rooted_in_hardware":true"#,
        &format!("\"machine.ipe.sha256\":\"{policy}\""),
    ] {
        assert!(issued.to_string().contains(shown), "{shown} {issued:#}");
    }
    let mut status = |line: &str| {
        let ran = guest.run(line, PATIENCE).expect("the guest obeys");
        (ran.status, ran.output)
    };
    // What the kernel holds is, byte for byte, what was signed.
    let held = status("sha256sum < /sys/kernel/security/ipe/policies/trilith/pkcs7").1;
    assert!(held.starts_with(&policy), "{held}");
    for path in [COPY, OWN_TREE] {
        let (refused, said) = status(&pieces::asking(path));
        assert_eq!(refused, 126, "{path}: {said}");
        assert!(said.contains("Permission denied"), "{path}: {said}");
    }

    // Whoever has root turns it off: the identity that rests on it ends.
    let off = Instant::now();
    assert_eq!(status("echo 0 > /sys/kernel/security/ipe/enforce"), done);
    let reason = pieces.revoked();
    let off = off.elapsed();
    assert!(reason.starts_with("ENFORCEMENT"), "{reason}");
    let said = status(&pieces::asking(WITH_TREE)).1;
    assert!(said.contains("\"event\":\"refused\""), "{said}");
    assert_eq!(status("echo 1 > /sys/kernel/security/ipe/enforce"), done);
    pieces.identified(&mut guest, WITH_TREE);
    assert_eq!(pieces.server.locked(), None, "{}", pieces.server.log());
    report(&format!(
        "enforcing: {} booted in {:.1} s, joined {:.2} s later; identity of an enforced program {:.2} s after \
         its start; revoked {:.2} s after enforcement was turned off; policy {policy} is active",
        guest.greeting,
        guest.booted_in.as_secs_f64(),
        joined.after.as_secs_f64(),
        identified.as_secs_f64(),
        off.as_secs_f64(),
    ));
}
