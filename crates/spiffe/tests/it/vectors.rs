//! Test vectors of the receipt extension, `docs/vectors/svid/receipts.json`: this version accepts and
//! refuses what they say. `check_vectors.py` takes them apart with Python's standard library.

use crate::kit::{Domain, NOW, key, serial};
use crypto::Algorithm;
use facts::{Finding, Timestamp};
use ledger::LedgerKey;
use serde_json::{Value, json};
use spiffe::{Bundle, LeafParams, TrustDomain, VerifiedIssuance, X509Svid, receipt};
use std::path::{Path, PathBuf};
use std::process::Command;

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors/svid")
}

fn b64(bytes: &[u8]) -> String {
    crypto::base64::encode(bytes)
}

fn make() -> Value {
    let domain = Domain::new("example.org");
    let leaf_key = key(Algorithm::EcdsaP256);
    let params = domain.leaf_params("payments/api", leaf_key.as_ref());
    let issuance = domain.issuance(&params);
    let receipt = domain.receipt(&issuance);
    let encode = |chain: Vec<Vec<u8>>| chain.iter().map(|der| b64(der)).collect::<Vec<_>>();
    let thief = LeafParams {
        public_key: key(Algorithm::EcdsaP256).public_key().clone(),
        ..params.clone()
    };
    let other_serial = LeafParams {
        serial: serial(),
        ..params.clone()
    };
    let longer = LeafParams {
        not_after: params.not_after.plus_secs(1),
        ..params.clone()
    };
    let another = Domain::new("example.org");
    let refused = [
        ("no receipt", domain.chain(&params)),
        (
            "a genuine receipt, another key",
            domain.chain_with(&thief, &receipt),
        ),
        (
            "a genuine receipt, another serial",
            domain.chain_with(&other_serial, &receipt),
        ),
        (
            "a genuine receipt, a longer life",
            domain.chain_with(&longer, &receipt),
        ),
        (
            "a receipt of another ledger key",
            domain.chain_with(&params, &another.receipt(&issuance)),
        ),
        (
            "a receipt cut short",
            domain.chain_with(&params, &receipt[..receipt.len() - 1]),
        ),
    ];
    let refused = refused.map(|(name, chain)| {
        let checked = X509Svid::parse(&chain)
            .and_then(|svid| svid.validate(&domain.bundle(), NOW))
            .and_then(|svid| receipt::check(&svid, domain.ledger_key()));
        json!({"name": name, "chain": encode(chain), "code": checked.unwrap_err().code})
    });
    let tbs = domain.issuing.leaf(&params).unwrap();
    json!({
        "trust_domain": "example.org",
        "now": NOW.as_secs(),
        "root": b64(domain.root.certificate()),
        "ledger_key": domain.ledger_key().to_string(),
        "extension": "2.25.184717421808418081849810390846469522735",
        "valid": [{
            "chain": encode(domain.chain_with(&params, &receipt)),
            "spiffe_id": params.spiffe_id.to_string(),
            "serial": params.serial.to_string(),
            "tbs_without_receipt": b64(tbs.without_receipt().bytes()),
            "receipt": b64(&receipt),
        }],
        "refused": refused,
    })
}

struct Vectors {
    value: Value,
    bundle: Bundle,
    ledger: LedgerKey,
    now: Timestamp,
}

impl Vectors {
    fn read() -> Self {
        let path = dir().join("receipts.json");
        if std::env::var_os("BLESS").is_some() && !path.exists() {
            std::fs::write(&path, format!("{:#}\n", make())).unwrap();
        }
        let value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        let mut bundle = Bundle::new(TrustDomain::new(&text("trust_domain")).unwrap());
        let root = crypto::base64::decode(&text("root")).unwrap();
        bundle.add_x509_authority(&root).unwrap();
        Self {
            ledger: text("ledger_key").parse().unwrap(),
            now: Timestamp::from_secs(value["now"].as_u64().unwrap()),
            bundle,
            value,
        }
    }

    fn cases(&self, kind: &str) -> &[Value] {
        self.value[kind].as_array().unwrap()
    }

    fn check(&self, case: &Value) -> Result<(X509Svid, VerifiedIssuance), Finding> {
        let chain = case["chain"].as_array().unwrap().iter();
        let chain: Vec<Vec<u8>> = chain
            .map(|der| crypto::base64::decode(der.as_str().unwrap()).unwrap())
            .collect();
        let svid = X509Svid::parse(&chain)?;
        let valid = svid.validate(&self.bundle, self.now)?;
        let verified = receipt::check(&valid, &self.ledger)?;
        Ok((svid, verified))
    }
}

#[test]
fn the_published_vectors_are_judged_as_they_say() {
    let vectors = Vectors::read();
    for case in vectors.cases("valid") {
        let (_, verified) = vectors.check(case).unwrap();
        let issuance = verified.issuance;
        assert_eq!(issuance.spiffe_id, case["spiffe_id"].as_str().unwrap());
        assert_eq!(issuance.serial, case["serial"].as_str().unwrap());
        let tbs = case["tbs_without_receipt"].as_str().unwrap();
        let tbs = crypto::base64::decode(tbs).unwrap();
        assert_eq!(issuance.tbs.0, crypto::sha256(&tbs));
    }
    assert!(vectors.cases("refused").len() >= 6);
    for case in vectors.cases("refused") {
        let refused = vectors.check(case).unwrap_err();
        assert_eq!(
            refused.code,
            case["code"].as_str().unwrap(),
            "{}",
            case["name"]
        );
    }
}

#[test]
fn python_takes_the_vectors_apart() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check_vectors.py");
    let Ok(output) = Command::new("python3").arg(script).arg(dir()).output() else {
        testkit::skip(
            "spiffe::python_takes_the_vectors_apart",
            "there is no python3",
        );
        return;
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}{complained}");
    assert!(printed.contains("all vectors hold"), "{printed}");
}
