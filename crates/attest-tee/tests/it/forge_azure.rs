//! What a paravisor reports, made by us: a hardware's report in its room, and runtime data after it.

pub(crate) const SNP: u32 = 2;
pub(crate) const TDX: u32 = 4;
/// Room for the hardware's report.
const REPORT: usize = 1184;

/// A report of hardware of `kind` with `report` in it, whose runtime data are `claims`.
pub(crate) fn hcl(kind: u32, report: &[u8], claims: &str) -> Vec<u8> {
    let mut bytes = b"HCLA".to_vec();
    bytes.resize(32, 0);
    bytes.extend(report);
    bytes.resize(32 + REPORT, 0);
    let length = claims.len() as u32;
    for number in [20 + length, 1, kind, 1, length] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(claims.as_bytes());
    bytes
}

/// A modulus that is told from others by its `seed`.
pub(crate) fn modulus(seed: u8) -> String {
    crypto::base64::encode_url(&[&[0xc1][..], &[seed; 254], &[1]].concat())
}

/// An RSA key as runtime data spell it.
pub(crate) fn jwk(kid: &str, kty: &str, n: &str) -> String {
    format!(r#"{{"kid":"{kid}","key_ops":["sign"],"kty":"{kty}","e":"AQAB","n":"{n}"}}"#)
}

/// Runtime data with one attestation key and what the guest wrote.
pub(crate) fn claims(seed: u8, user_data: [u8; 64]) -> String {
    let ak = jwk("HCLAkPub", "RSA", &modulus(seed));
    let data = crypto::hex::encode(&user_data);
    format!(r#"{{"keys":[{ak}],"user-data":"{data}"}}"#)
}

/// What the hardware's report has to carry.
pub(crate) fn report_data(claims: &str) -> [u8; 64] {
    let mut data = [0; 64];
    data[..32].copy_from_slice(&crypto::sha256(claims.as_bytes()));
    data
}
