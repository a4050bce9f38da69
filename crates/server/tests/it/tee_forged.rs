//! Confidential machines whose every part is ours, made as the verifiers' own tests make them: no recorded report
//! answers a question of today.

#![allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::string_slice,
    reason = "shared with the tests of attest-tee, which use more of it"
)]

use crypto::base64;
use facts::Timestamp;
use serde_json::json;

#[path = "../../../attest-tee/tests/it/der.rs"]
pub(crate) mod der;
#[path = "../../../attest-tee/tests/it/forge_azure.rs"]
pub(crate) mod forge_azure;
#[path = "../../../attest-tee/tests/it/forge_intel.rs"]
pub(crate) mod forge_intel;
#[path = "../../../attest-tee/tests/it/forge_nitro.rs"]
pub(crate) mod forge_nitro;
#[path = "../../../attest-tee/tests/it/forge_snp.rs"]
pub(crate) mod forge_snp;

pub(crate) use attest_tee::snp::Generation;
use der::{List, pem};
use forge_intel::{Platform, ROOT_NAME};
use forge_nitro::Enclave;
use forge_snp::{AUTHORITY, Machine, ROOT};

/// What the forgers need of their own tests' helpers.
pub(crate) mod evidence {
    use facts::Timestamp;

    /// Midnight, UTC, for the few dates that they name.
    pub(crate) fn day(year: u64, month: u64, day: u64) -> Timestamp {
        assert_eq!((year, month, day), (2026, 6, 1));
        Timestamp::from_secs(1_780_272_000)
    }
}

/// A good guest of today.
pub(crate) fn guest() -> Machine {
    let mut guest = Machine::new(Generation::Milan);
    guest.list = Some(List::new("ARK-Milan", Timestamp::now()));
    guest
}

/// The report of `guest` for what was asked.
pub(crate) fn report(guest: &Machine, asked: &[u8; 64]) -> Vec<u8> {
    let mut guest = guest.clone();
    guest.put(0x50, asked);
    guest.signed_report()
}

pub(crate) fn snp_root() -> String {
    let guest = guest();
    pem(&guest.authority.sign(&AUTHORITY, &ROOT)) + &pem(&guest.root.sign(&ROOT, &ROOT))
}

/// A good trust domain of today.
pub(crate) fn domain() -> Platform {
    current(Platform::tdx(4))
}

/// With collateral of today.
fn current(mut domain: Platform) -> Platform {
    let now = Timestamp::now();
    let text = |at: Timestamp| format!("{}T00:00:00Z", &at.to_string()[..10]);
    let (from, to) = (
        text(now.minus_secs(5 * 86_400)),
        text(now.plus_secs(25 * 86_400)),
    );
    for part in [&mut domain.tcb_info, &mut domain.identity] {
        part["issueDate"] = json!(from);
        part["nextUpdate"] = json!(to);
    }
    domain.pck_list = List::new(forge_intel::CA_NAME, now);
    domain.root_list = List::new(ROOT_NAME, now);
    domain
}

pub(crate) fn tdx_root() -> String {
    let domain = Platform::tdx(4);
    pem(&domain.root.sign(&forge_intel::ROOT, &forge_intel::ROOT))
}

/// A good NitroTPM of today, asked for this.
pub(crate) fn nitro_tpm(asked: &[u8; 64]) -> Enclave {
    let mut instance = Enclave::tpm();
    instance.set(
        "timestamp",
        forge_nitro::number(Timestamp::now().as_millis()),
    );
    instance.set("user_data", forge_nitro::bytes(asked));
    instance.set("nonce", vec![forge_nitro::NULL]);
    instance.set("public_key", vec![forge_nitro::NULL]);
    instance
}

/// A good enclave of Nitro of today, asked for this: user data, nonce and public key.
pub(crate) fn nitro_enclave(asked: [&[u8]; 3]) -> Enclave {
    let mut enclave = Enclave::new();
    enclave.set(
        "timestamp",
        forge_nitro::number(Timestamp::now().as_millis()),
    );
    for (name, value) in ["user_data", "nonce", "public_key"].into_iter().zip(asked) {
        enclave.set(name, forge_nitro::bytes(value));
    }
    enclave
}

/// A good enclave of SGX of today, asked for this.
pub(crate) fn sgx_enclave(asked: &[u8; 64]) -> Platform {
    let mut enclave = current(Platform::sgx(3));
    enclave.put(320, asked);
    enclave
}

pub(crate) fn nitro_root() -> String {
    let instance = Enclave::tpm();
    pem(&instance.root.sign(&forge_nitro::ROOT, &forge_nitro::ROOT))
}

/// What endorses them.
pub(crate) fn bundle(guest: &Machine, domain: &Platform) -> String {
    let keys = json!({
        "keys": [base64::encode(&guest.key_certificate())],
        "crls": guest.crl().iter().map(|crl| base64::encode(crl)).collect::<Vec<_>>(),
    });
    json!({"version": 1, "snp": keys, "intel": [collateral("tdx", domain)]}).to_string()
}

/// What endorses an enclave of SGX.
pub(crate) fn sgx_bundle(enclave: &Platform) -> String {
    json!({"version": 1, "intel": [collateral("sgx", enclave)]}).to_string()
}

fn collateral(tee: &str, domain: &Platform) -> serde_json::Value {
    let bytes = domain.collateral();
    json!({
        "tee": tee,
        "fmspc": "f0f0f0f0f0f0",
        "ca": "platform",
        "tcb_info": bytes.tcb_info,
        "qe_identity": bytes.qe_identity,
        "signing_chain": bytes.signing_chain,
        "pck_crl": base64::encode(&bytes.pck_crl),
        "pck_crl_chain": bytes.pck_crl_chain,
        "root_crl": base64::encode(&bytes.root_crl),
    })
}
