//! Quotes of SHA-384 beside a join: what each lie about them comes to.

use crate::evidence::codes;
use crate::forge::{CERTIFY, QUOTE, Statement, sized, statement, tpm_signature};
use attest_tpm::strong::{PCRS, is_quote, pack, quoted};
use crypto::{Algorithm, KeyPair, Signer as _, sha256};
use std::collections::BTreeMap;

const NONCE: &[u8] = b"the nonce of this challenge";

fn registers() -> BTreeMap<u8, [u8; 48]> {
    (0..16).map(|pcr| (pcr, [pcr; 48])).collect()
}

/// A quote of `values`, as `TPMS_QUOTE_INFO` has them.
fn body(bank: u8, bitmap: [u8; 3], values: &[u8]) -> Vec<u8> {
    [
        &1_u32.to_be_bytes()[..],
        &[0, bank, 3],
        &bitmap,
        &sized(&sha256(values)),
    ]
    .concat()
}

fn good_values() -> Vec<u8> {
    PCRS.iter()
        .flat_map(|pcr| [u8::try_from(*pcr).unwrap(); 48])
        .collect()
}

const BITS: [u8; 3] = [0xff, 0x7b, 0];

#[test]
fn the_registers_that_a_tpm_quotes_are_those_that_were_told() {
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let other = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let judge = |script: &Statement, nonce: &[u8], body: &[u8], by: &KeyPair| {
        let quote = statement(script, &[], nonce, body);
        let packed = pack(&quote, &tpm_signature(by, &quote)).unwrap();
        match quoted(&packed, key.public_key(), NONCE, &registers()) {
            Ok(()) => String::new(),
            Err(found) => codes(&found).join(" "),
        }
    };
    let of = Statement::of;
    let good = body(0x0c, BITS, &good_values());
    assert_eq!(judge(&of(QUOTE), NONCE, &good, &key), "");
    assert!(is_quote(&statement(&of(QUOTE), &[], NONCE, &good)));
    assert_eq!(
        judge(&of(QUOTE), NONCE, &good, &other),
        "TPM-QUOTE-SIGNATURE"
    );
    assert_eq!(
        judge(&of(QUOTE), b"another", &good, &key),
        "TPM-QUOTE-NONCE"
    );
    let magic = Statement {
        magic: 1,
        ..of(QUOTE)
    };
    assert_eq!(judge(&magic, NONCE, &good, &key), "TPM-QUOTE-MAGIC");
    let mut values = good_values();
    values[4 * 48] ^= 1;
    let lie = body(0x0c, BITS, &values);
    assert_eq!(judge(&of(QUOTE), NONCE, &lie, &key), "TEE-NITRO-PCRS");
    // The same values, said to be of another bank; of fewer PCRs.
    for (bank, bits) in [(0x0b, BITS), (0x0d, BITS), (0x0c, [0xff, 0x3b, 0])] {
        let of_other = body(bank, bits, &good_values());
        assert_eq!(
            judge(&of(QUOTE), NONCE, &of_other, &key),
            "TPM-QUOTE-SELECTION"
        );
        assert!(!is_quote(&statement(&of(QUOTE), &[], NONCE, &of_other)));
    }
    let certify = [sized(b"name"), sized(b"name")].concat();
    assert_eq!(judge(&of(CERTIFY), NONCE, &certify, &key), "TPM-QUOTE-TYPE");
    // A register that was not told counts as empty.
    let mut fewer = registers();
    fewer.remove(&4);
    let quote = statement(&of(QUOTE), &[], NONCE, &good);
    let packed = pack(&quote, &tpm_signature(&key, &quote)).unwrap();
    let refused = quoted(&packed, key.public_key(), NONCE, &fewer).unwrap_err();
    assert_eq!(codes(&refused), ["TEE-NITRO-PCRS"]);
    for cut in 0..packed.len() {
        let refused = quoted(&packed[..cut], key.public_key(), NONCE, &registers());
        assert_eq!(codes(&refused.unwrap_err()), ["TPM-STRUCTURE"], "{cut}");
    }
    let longer = [packed, vec![0]].concat();
    let refused = quoted(&longer, key.public_key(), NONCE, &registers()).unwrap_err();
    assert_eq!(codes(&refused), ["TPM-STRUCTURE"]);
}
