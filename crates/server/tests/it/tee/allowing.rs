//! What a refusal of a confidential machine says to do next, done: the estate that has the lines lets the same
//! machine in. Chip and hardware are stand-ins, with keys of ours.

use super::{GOOD, SNP, Site, TDX, facts_of, honest_domain, shown};
use crate::harness::finding;
use crate::nitro;
use crate::tee_forged::forge_snp::Machine as Guest;
use crate::tee_forged::{bundle, domain, guest, nitro_tpm, report};
use facts::Finding;
use proto::v1::TeeEvidence;

const FLOOR: &str = "[[tee.floor]]\ngeneration = \"milan\"\n";
const IMAGE: &str = "[[tee.image]]\nname = \"prod\"\nmeasurement = \"3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e\"\n";

/// Of another guest: a list that is empty is no list.
const OTHER: &str = "[[tee.image]]\nname = \"other\"\nmeasurement = \"000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f\"\n";

impl Site {
    async fn finding(&self, show: impl FnOnce(&[u8; 64]) -> Option<TeeEvidence>) -> Finding {
        let refused = self.join(show).await.err().expect("it is refused");
        let found = finding(&refused);
        for (what, said) in [("expected", &found.expected), ("observed", &found.observed)] {
            assert!(said.is_some(), "{}: no {what}", found.code);
        }
        found
    }
}

/// The lines between backticks, as they stand in a file.
fn lines(found: &Finding) -> String {
    let next = found.next.as_deref().unwrap_or_default();
    let lines = next.split('`').skip(1).step_by(2);
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    assert!(!lines.is_empty(), "{found}");
    lines
}

/// A guest that is not as the good one.
fn as_launched(change: fn(&mut Guest)) -> impl Fn(&[u8; 64]) -> Option<TeeEvidence> {
    move |asked| {
        let mut guest = guest();
        change(&mut guest);
        shown("sev-snp", report(&guest, asked))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_that_a_refusal_names_let_the_same_guest_in() {
    let asked = SNP.to_owned() + GOOD;
    let Some(site) = Site::start("server.tee-allow", &asked, "").await else {
        return;
    };
    type Change = fn(&mut Guest);
    let good: Change = |_| {};
    let spoken_for: Change = |it| it.put(0x30, &2_u32.to_le_bytes());
    // By its code: the estate that refuses the guest, and what stands around the lines in one that does not.
    let newer = GOOD.replace("microcode = 217", "microcode = 218");
    let genoa = FLOOR.replace("milan", "genoa") + IMAGE;
    let other = FLOOR.to_owned() + OTHER;
    let cases: [(&str, Change, &str, &str, &str); 5] = [
        ("TEE-SNP-IMAGE", good, &other, &other, ""),
        ("TEE-SNP-TCB", good, &newer, IMAGE, ""),
        ("TEE-SNP-GENERATION", good, &genoa, &genoa, ""),
        ("TEE-SNP-VMPL", spoken_for, GOOD, "[tee.policy]\n", GOOD),
        ("TEE-SNP-CRL", good, GOOD, "", GOOD),
    ];
    for (code, change, asked, before, after) in cases {
        let listed = code != "TEE-SNP-CRL";
        let mut known = guest();
        if !listed {
            known.list = None;
        }
        site.endorse(&bundle(&known, &domain()));
        site.ask(&(SNP.to_owned() + asked)).await;
        let found = site.finding(as_launched(change)).await;
        assert_eq!(found.code, code);
        if !listed {
            let command =
                "trilith attest endorsements fetch --into endorsements.json snp-crl:milan";
            assert!(found.next.as_deref().unwrap().contains(command), "{found}");
        }
        let allowing = format!("{SNP}{before}{}{after}", lines(&found));
        site.ask(&allowing).await;
        let joined = site.join(as_launched(change)).await;
        let facts = facts_of(&joined.unwrap_or_else(|why| panic!("{code}: {why}\n{allowing}")));
        assert_eq!(facts.text("machine.tee.kind"), Some("sev-snp"), "{code}");
    }

    // What a list forbids is named by its word in the list.
    site.endorse(&bundle(&guest(), &domain()));
    let migrates: Change = |it| it.put(0x08, &0x7_0000_u64.to_le_bytes());
    site.ask(&(SNP.to_owned() + GOOD)).await;
    let found = site.finding(as_launched(migrates)).await;
    assert_eq!(found.code, "TEE-SNP-POLICY");
    let next = found.next.unwrap();
    assert!(
        next.contains("take \"migration\" out of `forbidden` of [tee.policy]"),
        "{next}"
    );
    let without = "[tee.policy]\nforbidden = [\"cxl\"]\n";
    site.ask(&format!("{SNP}{without}{GOOD}")).await;
    site.join(as_launched(migrates)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_that_a_refusal_names_let_the_same_domain_and_instance_in() {
    let head = TDX
        .replace("3d3d3d3d", "00010203")
        .replace("\"td\"", "\"other\"");
    let Some(site) = Site::start("server.tee-allow-domain", &head, "").await else {
        return;
    };
    let found = site.finding(honest_domain).await;
    assert_eq!(found.code, "TEE-TDX-IMAGE");
    site.ask(&(head + &lines(&found))).await;
    let facts = facts_of(&site.join(honest_domain).await.unwrap());
    assert_eq!(facts.text("machine.tee.image"), Some("NAME"));

    let mut old = domain();
    for level in old.tcb_info["tcbLevels"].as_array_mut().unwrap() {
        level["tcbStatus"] = "OutOfDate".into();
    }
    site.endorse(&bundle(&guest(), &old));
    let found = site.finding(honest_domain).await;
    assert_eq!(found.code, "TEE-INTEL-TCB");
    let allowing = TDX.replace("[[tee.image]]", &(lines(&found) + "[[tee.image]]"));
    site.ask(&allowing).await;
    site.join(honest_domain).await.unwrap();

    let honest = |asked: &[u8; 64]| shown("nitro-tpm", nitro_tpm(asked).document());
    let asked = nitro::asked();
    let head = asked
        .replace(&"05".repeat(48), &"15".repeat(48))
        .replace("\"prod\"", "\"other\"");
    site.ask(&head).await;
    let found = site.finding(honest).await;
    assert_eq!(found.code, "TEE-NITRO-IMAGE");
    site.ask(&(head + &lines(&found))).await;
    let facts = facts_of(&site.join(honest).await.unwrap());
    assert_eq!(facts.text("machine.tee.image"), Some("NAME"));
}
