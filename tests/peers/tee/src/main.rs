//! Judges evidence with other people's libraries: a request as JSON on stdin, an answer as JSON on
//! stdout. `{"ok": …}` says what the library found, `{"refused": …}` why it did not.

use serde_json::{Value, json};
use std::io::Read as _;

type Outcome = Result<Value, String>;

fn main() {
    let mut text = String::new();
    let answer = match std::io::stdin().read_to_string(&mut text) {
        Ok(_) => judge(&text),
        Err(error) => Err(error.to_string()),
    };
    let answer = match answer {
        Ok(found) => json!({ "ok": found }),
        Err(why) => json!({ "refused": why }),
    };
    println!("{answer}");
}

fn judge(text: &str) -> Outcome {
    let request: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match request["judge"].as_str() {
        Some("sev") => sev(&request),
        Some("dcap-qvl") => dcap_qvl(&request),
        Some("coset") => coset(&request),
        Some("jsonwebtoken") => jsonwebtoken(&request),
        other => Err(format!("there is no judge {other:?}")),
    }
}

fn bytes(request: &Value, name: &str) -> Result<Vec<u8>, String> {
    let text = request[name].as_str().ok_or(format!("no {name}"))?;
    hex::decode(text).map_err(|error| format!("{name}: {error}"))
}

fn said<T>(result: Result<T, impl std::fmt::Debug>) -> Result<T, String> {
    result.map_err(|error| format!("{error:?}"))
}

/// Chain and signature of an SEV-SNP report, and what it says.
fn sev(request: &Value) -> Outcome {
    use sev::certs::snp::{Certificate, Chain, Verifiable as _, ca};
    use sev::firmware::guest::AttestationReport;
    use sev::parser::ByteParser as _;

    let chain = Chain {
        ca: said(ca::Chain::from_der(
            &bytes(request, "ark")?,
            &bytes(request, "ask")?,
        ))?,
        vek: said(Certificate::from_der(&bytes(request, "key")?))?,
    };
    let report = said(AttestationReport::from_bytes(&bytes(request, "report")?))?;
    said((&chain, &report).verify())?;
    let tcb = report.reported_tcb;
    Ok(json!({
        "version": report.version,
        "svn": report.guest_svn,
        "vmpl": report.vmpl,
        "debug": report.policy.debug_allowed(),
        "measurement": hex::encode(report.measurement),
        "host_data": hex::encode(report.host_data),
        "report_data": hex::encode(report.report_data),
        "chip": hex::encode(report.chip_id),
        "bootloader": tcb.bootloader,
        "tee": tcb.tee,
        "snp": tcb.snp,
        "microcode": tcb.microcode,
    }))
}

/// A TDX or SGX quote with its collateral.
fn dcap_qvl(request: &Value) -> Outcome {
    let collateral = said(serde_json::from_value(request["collateral"].clone()))?;
    let now = request["now"].as_u64().ok_or("no time")?;
    let verified = said(dcap_qvl::verify::rustcrypto::verify(
        &bytes(request, "quote")?,
        &collateral,
        now,
    ))?;
    let mut advisories = verified.advisory_ids.clone();
    advisories.sort();
    Ok(json!({
        "status": verified.status,
        "advisories": advisories,
        "ppid": hex::encode(verified.ppid),
    }))
}

/// COSE_Sign1 of a Nitro document under the key given: its chain is not looked at.
fn coset(request: &Value) -> Outcome {
    use ciborium::Value as Cbor;
    use coset::{CborSerializable as _, CoseSign1, TaggedCborSerializable as _};
    use p384::ecdsa::signature::Verifier as _;
    use p384::ecdsa::{Signature, VerifyingKey};

    let document = bytes(request, "document")?;
    let sign1 =
        CoseSign1::from_slice(&document).or_else(|_| CoseSign1::from_tagged_slice(&document));
    let sign1 = said(sign1)?;
    let key = said(VerifyingKey::from_sec1_bytes(&bytes(request, "point")?))?;
    said(sign1.verify_signature(&[], |signature, message| {
        key.verify(message, &Signature::from_slice(signature)?)
    }))?;
    let payload = sign1.payload.ok_or("no payload")?;
    let fields: Cbor = said(ciborium::from_reader(payload.as_slice()))?;
    let fields = fields.into_map().map_err(|_| "not a map")?;
    let field = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| key.as_text() == Some(name))
            .map(|(_, value)| value)
    };
    let optional = |name: &str| field(name).and_then(Cbor::as_bytes).map(hex::encode);
    let pcrs: serde_json::Map<String, Value> = field("pcrs")
        .and_then(Cbor::as_map)
        .into_iter()
        .flatten()
        .filter_map(|(index, value)| {
            let index: u8 = index.as_integer()?.try_into().ok()?;
            Some((index.to_string(), hex::encode(value.as_bytes()?).into()))
        })
        .collect();
    let time: Option<u64> = field("timestamp")
        .and_then(Cbor::as_integer)
        .and_then(|time| time.try_into().ok());
    Ok(json!({
        "module_id": field("module_id").and_then(Cbor::as_text),
        "timestamp": time,
        "nonce": optional("nonce"),
        "user_data": optional("user_data"),
        "public_key": optional("public_key"),
        "pcrs": pcrs,
    }))
}

/// The claims of a token that holds now, under a public key as JWK.
fn jsonwebtoken(request: &Value) -> Outcome {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    let token = request["token"].as_str().ok_or("no token")?;
    let algorithm = match request["algorithm"].as_str() {
        Some("ES256") => Algorithm::ES256,
        _ => Algorithm::EdDSA,
    };
    let key = said(serde_json::from_value(request["jwk"].clone()))?;
    let key = said(DecodingKey::from_jwk(&key))?;
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp"]);
    said(decode::<Value>(token, &key, &validation)).map(|token| token.claims)
}
