//! Quotes of any PCR values by a key of software, logs written event by event, and the recorded boots.

use crate::evidence::{der_of, folder, read};
use crate::forge::{QUOTE, Statement, sized, statement, tpm_signature};
use attest_tpm::eventlog::{Kind, Log};
use attest_tpm::structure::verify_quote;
use attest_tpm::{PcrSelection, Quoted};
use crypto::{Algorithm, Hash, KeyPair, PublicKey, Signer as _, hex, sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use testkit::chip::pcr_values;

pub(crate) type Pcrs = BTreeMap<u32, [u8; 32]>;

/// The recorded boots that end in a quote.
pub(crate) const BOOTS: [&str; 6] = [
    "direct-kernel-no-secureboot",
    "fsverity-ima-ngv2",
    "shim-grub-debian-signed-ms-keys",
    "uki-612-ipe-secureboot",
    "uki-own-keys-secureboot",
    "uki-signed-but-tampered-cmdline",
];
/// What their quotes are of.
pub(crate) const QUOTED: [u32; 17] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 23];
/// PCRs whose values are those of a log alone.
pub(crate) const LOGGED: [u32; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14];

/// A recorded boot: its folder, its log, and its quote, verified.
pub(crate) struct Lab {
    pub(crate) folder: PathBuf,
    pub(crate) log: Vec<u8>,
    pub(crate) quoted: Quoted,
}

pub(crate) fn lab(test: &str, boot: &str) -> Option<Lab> {
    let folder = folder(test, &format!("lab/{boot}"))?;
    let ak = PublicKey::from_spki_der(&der_of(&read(&folder, "ak.pem"))).unwrap();
    let nonce = hex::decode("00112233445566778899aabbccddeeff").unwrap();
    let quoted = verify_quote(
        &read(&folder, "quote.msg"),
        &read(&folder, "quote.sig"),
        &ak,
        &nonce,
        &PcrSelection::new(&QUOTED).unwrap(),
        &pcr_values(&read(&folder, "quote.pcrs")),
    )
    .unwrap();
    Some(Lab {
        log: read(&folder, "eventlog.bin"),
        folder,
        quoted,
    })
}

/// A verified quote of `pcrs`, in the boot that is counted as `reset`.
pub(crate) fn quote(pcrs: &Pcrs, reset: u32) -> Quoted {
    let indices: Vec<u32> = pcrs.keys().copied().collect();
    let selection = PcrSelection::new(&indices).unwrap();
    let values: Vec<Vec<u8>> = pcrs.values().map(|value| value.to_vec()).collect();
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let body = [
        &1u32.to_be_bytes()[..],
        &[0, 0x0b, 3],
        &selection.bitmap(),
        &sized(&sha256(&values.concat())),
    ]
    .concat();
    let script = Statement {
        reset_count: reset,
        ..Statement::of(QUOTE)
    };
    let attest = statement(&script, &[], b"nonce", &body);
    let signature = tpm_signature(&key, &attest);
    verify_quote(
        &attest,
        &signature,
        key.public_key(),
        b"nonce",
        &selection,
        &values,
    )
    .unwrap()
}

/// The values of [`LOGGED`] that `log` amounts to.
pub(crate) fn replayed(log: &Log<'_>) -> Pcrs {
    let replay = log.replay(Hash::Sha256).unwrap();
    LOGGED
        .into_iter()
        .map(|pcr| (pcr, replay.value(pcr).try_into().unwrap()))
        .collect()
}

/// A log of SHA-256 digests, written event by event.
#[derive(Clone)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn new() -> Self {
        Self(testkit::chip::event_log())
    }

    /// An event whose digest is what it is told.
    pub(crate) fn event(mut self, pcr: u32, kind: Kind, digest: [u8; 32], data: &[u8]) -> Self {
        for number in [pcr, kind.0, 1] {
            self.0.extend(number.to_le_bytes());
        }
        self.0.extend([0x0b, 0]);
        self.0.extend(digest);
        self.0.extend((data.len() as u32).to_le_bytes());
        self.0.extend(data);
        self
    }

    pub(crate) fn log(&self) -> Log<'_> {
        Log::parse(&self.0).unwrap()
    }
}
