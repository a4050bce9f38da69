//! Structures of TPM 2.0 Library, Part 2: what a chip signs, its keys and its signatures.

use crate::seeds;
use attest_tpm::structure::{verify_certify, verify_quote};
use attest_tpm::{
    Attested, Body, EndorsementKey, Key, PcrSelection, Public, Quoted, Signature, SigningKey,
};
use crypto::{PublicKey, base64, hex};
use std::sync::LazyLock;
use testkit::chip::{Chip, pcr_values, sized};

const QUOTED: [u32; 17] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 23];
const NONCE: &str = "00112233445566778899aabbccddeeff";
/// What `tpm2_certify` qualifies with when it is not told.
const QUALIFYING: [u8; 4] = [0, 0xff, 0x55, 0xaa];

/// A recorded boot that ended in a quote.
pub(crate) struct Boot {
    pub(crate) log: Vec<u8>,
    pub(crate) list: Vec<u8>,
    pub(crate) quoted: Quoted,
    quote: Vec<u8>,
    signature: Vec<u8>,
    values: Vec<Vec<u8>>,
    ak: PublicKey,
}

impl Boot {
    fn recorded(name: &str) -> Option<Self> {
        let file = |one: &str| seeds::file(&format!("lab/{name}/{one}"));
        let (quote, signature) = (file("quote.msg")?, file("quote.sig")?);
        let values = pcr_values(&file("quote.pcrs")?);
        let ak = public_key(&file("ak.pem")?);
        let quoted = judge(&quote, &signature, &ak, &values).expect("a recorded quote is good");
        Some(Self {
            log: file("eventlog.bin")?,
            list: file("ima.bin").unwrap_or_default(),
            quoted,
            quote,
            signature,
            values,
            ak,
        })
    }
}

/// What was recorded; empty without evidence.
pub(crate) static RECORDED: LazyLock<Vec<Boot>> = LazyLock::new(|| {
    seeds::BOOTS
        .iter()
        .filter_map(|name| Boot::recorded(name))
        .collect()
});

fn judge(
    quote: &[u8],
    signature: &[u8],
    ak: &PublicKey,
    values: &[Vec<u8>],
) -> Result<Quoted, Vec<facts::Finding>> {
    let nonce = hex::decode(NONCE).unwrap();
    let pcrs = PcrSelection::new(&QUOTED).unwrap();
    verify_quote(quote, signature, ak, &nonce, &pcrs, values)
}

fn public_key(pem: &[u8]) -> PublicKey {
    let text = str::from_utf8(pem).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    PublicKey::from_spki_der(&base64::decode(&body).unwrap()).unwrap()
}

/// `TPMS_ATTEST`: one spelling of what was read, and no quote but the chip's under its signature.
pub(crate) fn attest(bytes: &[u8]) {
    let Ok(attested) = Attested::parse(bytes) else {
        return;
    };
    if let Some(written) = written(&attested) {
        assert_eq!(written, bytes, "another spelling");
    }
    if let Some(boot) = RECORDED.first()
        && judge(bytes, &boot.signature, &boot.ak, &boot.values).is_ok()
    {
        assert!(bytes == boot.quote, "a quote that no chip made");
    }
    if let Some(good) = &*CERTIFIED
        && good.judge(bytes).is_ok()
    {
        assert!(bytes == good.attested, "a certification that no chip made");
    }
}

/// A recorded `TPM2_Certify`.
struct Certified {
    attested: Vec<u8>,
    signature: Vec<u8>,
    ak: PublicKey,
    name: attest_tpm::Name,
}

static CERTIFIED: LazyLock<Option<Certified>> = LazyLock::new(|| {
    let file = |name: &str| seeds::file(&format!("lab/swtpm-join/{name}"));
    let key = SigningKey::identity(file("tls.pub")?.get(2..)?).ok()?;
    let one = Certified {
        attested: file("tls.attest")?,
        signature: file("tls.attest.sig")?,
        ak: public_key(&file("ak.pem")?),
        name: key.name,
    };
    one.judge(&one.attested).expect("a recorded one is good");
    Some(one)
});

impl Certified {
    fn judge(&self, attested: &[u8]) -> Result<(), Vec<facts::Finding>> {
        let name = &self.name;
        verify_certify(attested, &self.signature, &self.ak, name, &QUALIFYING).map(drop)
    }
}

/// What was parsed, written again; absent where the parser keeps only the type.
fn written(attested: &Attested) -> Option<Vec<u8>> {
    let (kind, body) = match &attested.body {
        Body::Other(_) => return None,
        Body::Certify {
            name,
            qualified_name,
        } => (0x8017_u16, [sized(name), sized(qualified_name)].concat()),
        Body::Quote { selections, digest } => {
            let count = u32::try_from(selections.len()).unwrap();
            let mut body = count.to_be_bytes().to_vec();
            for one in selections {
                body.extend(one.hash.to_be_bytes());
                body.push(u8::try_from(one.bits.len()).unwrap());
                body.extend(&one.bits);
                assert!(one.indices().iter().all(|pcr| *pcr < 8 * 256));
            }
            body.extend(sized(digest));
            (0x8018, body)
        }
    };
    let clock = &attested.clock;
    let head = [
        &attested.magic.to_be_bytes()[..],
        &kind.to_be_bytes(),
        &sized(&attested.qualified_signer),
        &sized(&attested.extra_data),
        &clock.clock.to_be_bytes(),
        &clock.reset_count.to_be_bytes(),
        &clock.restart_count.to_be_bytes(),
        &[u8::from(clock.safe)],
        &attested.firmware.to_be_bytes(),
    ];
    Some([head.concat(), body].concat())
}

pub(crate) fn attest_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::of_boots("quote.msg");
    all.extend(seeds::files(&[
        "lab/swtpm-join/q.msg",
        "lab/swtpm-join/tls.attest",
        "tpm/dstack-tpm_quote_sample.bin",
        "tpm/keylime-quote.out",
        "azure/snp-vtpm/tpm-quote.msg",
    ]));
    all.push(Chip::new().unwrap().quote(b"nonce").unwrap().attested);
    all
}

/// `TPMT_SIGNATURE`: one spelling, and DER only of numbers that fit.
pub(crate) fn signature(bytes: &[u8]) {
    let Ok(signature) = Signature::parse(bytes) else {
        return;
    };
    let written = match &signature {
        Signature::Ecdsa { hash, r, s } => [
            &0x18_u16.to_be_bytes()[..],
            &hash.to_be_bytes(),
            &sized(r),
            &sized(s),
        ]
        .concat(),
        Signature::Rsa {
            scheme,
            hash,
            bytes,
        } => [
            &scheme.to_be_bytes()[..],
            &hash.to_be_bytes(),
            &sized(bytes),
        ]
        .concat(),
    };
    assert_eq!(written, bytes, "another spelling");
    if let Some(der) = signature.p256_der() {
        assert!((8..=72).contains(&der.len()), "{} bytes", der.len());
    }
    if let Some(boot) = RECORDED.first() {
        let good = judge(&boot.quote, bytes, &boot.ak, &boot.values).is_ok();
        // Zeros before a number, and s or the order of the curve less s, sign the same.
        assert!(!good || signature.p256_der().is_some());
    }
}

pub(crate) fn signature_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::of_boots("quote.sig");
    all.extend(seeds::files(&[
        "lab/swtpm-join/q.sig",
        "tpm/keylime-quotesig.out",
        "azure/snp-vtpm/tpm-quote.sig",
    ]));
    all.push(Chip::new().unwrap().quote(b"nonce").unwrap().signature);
    all
}

/// `TPMT_PUBLIC`: the name is that of the bytes, and what is accepted for a purpose is fit for it.
pub(crate) fn public(bytes: &[u8]) {
    let Ok(public) = Public::parse(bytes) else {
        assert!(EndorsementKey::parse(bytes).is_err());
        return;
    };
    assert_eq!(public.bytes(), bytes);
    let number = match &public.key {
        Key::Rsa { modulus, .. } => modulus.len(),
        Key::Ecc { x, y, .. } => x.len() + y.len(),
    };
    assert!(number <= bytes.len());
    assert!(public.attributes.to_string().len() < 300);
    if let Some(name) = public.name() {
        assert_eq!(name.as_bytes()[2..], crypto::sha256(bytes));
    }
    let endorsement = EndorsementKey::parse(bytes).is_ok();
    let attestation = SigningKey::attestation(bytes).is_ok();
    let identity = SigningKey::identity(bytes).is_ok();
    let roles = [endorsement, attestation, identity];
    assert!(roles.iter().filter(|one| **one).count() <= 1, "{roles:?}");
}

pub(crate) fn public_seeds() -> Vec<Vec<u8>> {
    let names = ["ek.pub", "ak.pub", "tls.pub"].map(|name| format!("lab/swtpm-join/{name}"));
    let files = names.iter().filter_map(|name| seeds::file(name));
    let mut all: Vec<_> = files
        .filter_map(|file| Some(file.get(2..)?.to_vec()))
        .collect();
    all.push(Chip::new().unwrap().public());
    all
}
