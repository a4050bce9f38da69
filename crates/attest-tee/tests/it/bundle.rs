//! Offline bundles of endorsements.

use crate::der::pem;
use crate::evidence::outcome;
use crate::forge_intel::{Platform, now};
use crate::forge_snp::{AUTHORITY, Machine, ROOT};
use attest_tee::Bundle;
use attest_tee::intel::{Ca, Collateral, platform};
use attest_tee::snp::{Evidence, Generation, References, Report, Roots, verify};
use crypto::base64;
use serde_json::{Value, json};

pub(crate) fn file(machines: &[Machine], platforms: &[Platform]) -> Value {
    let encoded = |der: Vec<u8>| base64::encode(&der);
    let intel: Vec<_> = platforms
        .iter()
        .map(|platform| {
            let bytes = platform.collateral();
            json!({
                "tee": if platform.tee == 0 { "sgx" } else { "tdx" },
                "fmspc": "f0f0f0f0f0f0",
                "ca": "platform",
                "tcb_info": bytes.tcb_info,
                "qe_identity": bytes.qe_identity,
                "signing_chain": bytes.signing_chain,
                "pck_crl": encoded(bytes.pck_crl),
                "pck_crl_chain": bytes.pck_crl_chain,
                "root_crl": encoded(bytes.root_crl),
            })
        })
        .collect();
    let keys: Vec<_> = machines
        .iter()
        .map(|it| encoded(it.key_certificate()))
        .collect();
    let crls: Vec<_> = machines
        .iter()
        .filter_map(|it| it.crl().map(encoded))
        .collect();
    let chains: Vec<_> = machines
        .iter()
        .map(|it| pem(&it.authority.sign(&AUTHORITY, &ROOT)))
        .collect();
    json!({
        "version": 1,
        "snp": {"keys": keys, "crls": crls, "chains": chains},
        "intel": intel,
    })
}

pub(crate) fn parse(file: &Value) -> Bundle {
    Bundle::parse(file.to_string().as_bytes()).unwrap()
}

#[test]
fn a_report_finds_its_certificate_and_its_list() {
    let machines: Vec<_> = Generation::ALL
        .into_iter()
        .flat_map(|generation| {
            let machine = Machine::new(generation);
            [machine.clone().with_vlek(), machine]
        })
        .collect();
    let bundle = parse(&file(&machines, &[]));
    for machine in &machines {
        let bytes = machine.signed_report();
        let report = Report::parse(&bytes).unwrap();
        // The bundle's own chains, below a root of the references.
        let mut roots = Roots::default();
        for one in &machines {
            if roots_has(&roots, one) {
                continue;
            }
            roots
                .add(one.generation, &pem(&one.root.sign(&ROOT, &ROOT)))
                .unwrap();
        }
        bundle.extend(&mut roots).unwrap();
        let references = References {
            roots: roots.clone(),
            ..machine.references.clone()
        };
        let affirmed = bundle.snp_keys(&report).iter().filter(|key| {
            let evidence = Evidence {
                report: &bytes,
                key,
                crl: bundle.snp_crl(&roots, machine.generation),
            };
            verify(&evidence, &machine.expectation, &references)
                .findings
                .is_empty()
        });
        assert_eq!(affirmed.count(), 1, "{:?}", machine.generation);
    }
    let mut stranger = Machine::new(Generation::Milan);
    stranger.put(0x1a0, &[0xdd; 64]);
    let report = Report::parse(&stranger.signed_report()).unwrap();
    assert!(bundle.snp_keys(&report).is_empty());
    assert!(
        bundle
            .snp_crl(&Roots::default(), Generation::Milan)
            .is_none()
    );
}

fn roots_has(roots: &Roots, machine: &Machine) -> bool {
    // A root that is there already takes its own chain.
    roots
        .clone()
        .extend(&pem(&machine.root.sign(&ROOT, &ROOT)))
        .is_ok()
}

#[test]
fn chains_of_a_bundle_count_only_below_a_root_of_the_references() {
    let bundle = parse(&file(&[Machine::new(Generation::Milan)], &[]));
    let refused = bundle.extend(&mut Roots::default()).unwrap_err();
    assert_eq!(refused.code, "TEE-ROOT-STRUCTURE");
}

#[test]
fn a_platform_finds_its_collateral() {
    let platforms = [Platform::tdx(4), Platform::sgx(3)];
    let bundle = parse(&file(&[], &platforms));
    for one in &platforms {
        let pck = platform(&one.quote(), &one.roots(), now()).unwrap();
        let bytes = bundle.collateral(one.tee != 0, pck.fmspc, pck.ca).unwrap();
        let collateral = Collateral::open(bytes, &one.roots()).unwrap();
        assert_eq!(collateral.fmspc(), pck.fmspc);
        assert_eq!(outcome(&one.judge()), [""; 0]);
    }
    assert!(bundle.collateral(true, [0; 6], Ca::Platform).is_none());
    assert!(bundle.collateral(true, [0xf0; 6], Ca::Processor).is_none());
}

#[test]
fn what_is_no_bundle_is_refused() {
    let good = file(&[Machine::new(Generation::Milan)], &[Platform::tdx(4)]);
    parse(&good);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut file = good.clone();
        change(&mut file);
        Bundle::parse(file.to_string().as_bytes()).map(drop)
    };
    for change in [
        &(|it: &mut Value| it["version"] = json!(2)) as &dyn Fn(&mut Value),
        &|it| it["extra"] = json!(1),
        &|it| it["snp"]["keys"][0] = json!("?"),
        &|it| it["snp"]["keys"][0] = json!("AAAA"),
        &|it| it["snp"]["keys"][0] = it["snp"]["crls"][0].clone(),
        &|it| it["snp"]["crls"][0] = it["snp"]["keys"][0].clone(),
        &|it| it["intel"][0]["tee"] = json!("sev"),
        &|it| it["intel"][0]["ca"] = json!("Platform"),
        &|it| it["intel"][0]["fmspc"] = json!("f0"),
        &|it| it["intel"][0]["pck_crl"] = json!("?"),
        &|it| {
            it["intel"][0].as_object_mut().unwrap().remove("tcb_info");
        },
        &|it| it["snp"]["chains"] = json!(vec![""; 100_001]),
    ] {
        assert_eq!(changed(change).unwrap_err().code, "TEE-BUNDLE-STRUCTURE");
    }
    for bytes in [&b""[..], b"[]", b"{}", &vec![b' '; (64 << 20) + 1]] {
        assert_eq!(
            Bundle::parse(bytes).unwrap_err().code,
            "TEE-BUNDLE-STRUCTURE"
        );
    }
}
