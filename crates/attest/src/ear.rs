//! EAT attestation results: a verdict as a signed JWT, for relying parties that are not Trilith
//! (draft-ietf-rats-ear-04 over RFC 9711 and RFC 7519).
//!
//! Made, never read. Who may ask for one, and for whom, is not decided here.

use crate::ar4si::{Tier, Vector};
use crypto::{Algorithm, Signer, base64, jws};
use facts::{Affirmed, Outcome, Timestamp, Verdict};
use serde_json::{Map, Value, json};

/// Section 3: the profile of this version of the draft.
const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";
const DEVELOPER: &str = "Trilith";

/// An attestation result could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EarError {
    /// RFC 9711, section 4.1.
    #[error("a nonce has 8 to 64 bytes, not {0}")]
    Nonce(usize),
    #[error("an attestation result is of at least one machine, each named once")]
    Submodules,
    #[error("the key of an attestation result is on P-256 or Ed25519, not {0}")]
    Key(Algorithm),
    #[error("the signer refused")]
    Sign(#[source] crypto::Error),
}

/// What a relying party is told.
#[derive(Debug, Clone)]
pub struct Ear<'a> {
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Version of the verifier, for the relying party's records.
    pub build: &'a str,
    /// What the relying party sent, so that it knows the result for fresh.
    pub nonce: Option<&'a [u8]>,
    /// By a name for each machine or part of one.
    pub appraisals: Vec<(&'a str, Appraisal<'a>)>,
}

/// The result about one attester.
#[derive(Debug, Clone)]
pub struct Appraisal<'a> {
    pub verdict: &'a Verdict,
    /// What was accepted: the estate's version, or whatever names the reference values.
    pub policies: Vec<&'a str>,
    /// The facts to be told; others stay here.
    pub shown: Affirmed,
}

impl Ear<'_> {
    /// A compact JWS by `signer`, whose `kid` is `key_id`.
    ///
    /// # Errors
    /// [`EarError`].
    pub fn sign(&self, signer: &dyn Signer, key_id: &str) -> Result<String, EarError> {
        let algorithm = signer.public_key().algorithm();
        let name = match algorithm {
            Algorithm::EcdsaP256 => "ES256",
            Algorithm::Ed25519 => "EdDSA",
            Algorithm::EcdsaP384 | Algorithm::Rsa | Algorithm::MlDsa44 => {
                return Err(EarError::Key(algorithm));
            }
        };
        // RFC 9782: with a type of its own, and neither subject nor audience, it is no token of anybody's
        // identity although the same key signs those.
        let header = json!({"alg": name, "kid": key_id, "typ": "eat+jwt"});
        let claims = self.claims()?;
        let encode = |value: &Value| base64::encode_url(value.to_string().as_bytes());
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature = signer.sign(message.as_bytes()).map_err(EarError::Sign)?;
        let signature = match algorithm {
            Algorithm::EcdsaP256 => jws::es256_from_der(&signature)
                .map_err(EarError::Sign)?
                .to_vec(),
            _ => signature,
        };
        Ok(format!("{message}.{}", base64::encode_url(&signature)))
    }

    fn claims(&self) -> Result<Value, EarError> {
        let mut submods = Map::new();
        let mut worst = Tier::None;
        for (name, appraisal) in &self.appraisals {
            worst = worst.max(appraisal.status());
            if submods
                .insert((*name).to_owned(), appraisal.claims())
                .is_some()
            {
                return Err(EarError::Submodules);
            }
        }
        if submods.is_empty() {
            return Err(EarError::Submodules);
        }
        let mut claims = json!({
            "eat_profile": PROFILE,
            "iat": self.issued_at.as_secs(),
            "exp": self.expires_at.as_secs(),
            "ear_verifier_id": {"developer": DEVELOPER, "build": self.build},
            "ear_status": worst.name(),
            "submods": submods,
        });
        if let Some(nonce) = self.nonce {
            if !(8..=64).contains(&nonce.len()) {
                return Err(EarError::Nonce(nonce.len()));
            }
            put(&mut claims, "eat_nonce", base64::encode_url(nonce).into());
        }
        Ok(claims)
    }
}

impl Appraisal<'_> {
    /// A refused verdict is contraindicated as a whole, whatever its worst claim is.
    #[must_use]
    pub fn status(&self) -> Tier {
        match self.verdict.outcome() {
            Outcome::Affirmed => Vector::of(self.verdict).worst(),
            Outcome::Refused => Tier::Contraindicated,
        }
    }

    fn claims(&self) -> Value {
        let vector: Map<String, Value> = Vector::of(self.verdict)
            .claims()
            .map(|(name, claim)| (name.to_owned(), claim.value().into()))
            .collect();
        let mut claims = json!({"ear_status": self.status().name()});
        if !vector.is_empty() {
            put(&mut claims, "ear_trustworthiness_vector", vector.into());
        }
        if !self.policies.is_empty() {
            put(
                &mut claims,
                "ear_appraisal_policy_ids",
                json!(self.policies),
            );
        }
        let shown: Map<String, Value> = self
            .shown
            .iter()
            .map(|fact| (fact.name.clone(), json!(fact.value)))
            .collect();
        let codes: Vec<_> = self.verdict.findings.iter().map(|one| &one.code).collect();
        let mut ours = json!({"trilith.evidence": self.verdict.evidence});
        if !shown.is_empty() {
            put(&mut ours, "trilith.facts", shown.into());
        }
        if !codes.is_empty() {
            put(&mut ours, "trilith.findings", json!(codes));
        }
        put(&mut claims, "ear_verifier_claims", ours);
        claims
    }
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::KeyPair;
    use crypto::jws::{JwsAlgorithm, VerificationKey};
    use facts::{FactSet, Finding, Source, Warrant, names};

    fn affirmed() -> Verdict {
        let mut facts = FactSet::new();
        for (name, value) in [
            (names::MACHINE_TEE_KIND, "sev-snp"),
            (names::MACHINE_TEE_IMAGE, "prod"),
            (names::MACHINE_TEE_PLATFORM, "00"),
        ] {
            facts.state(name, value, Source::Hardware, Timestamp::EPOCH);
        }
        Verdict::affirmed(&Warrant::of(Source::Hardware, &[""]), facts, Vec::new())
    }

    fn ear<'a>(verdict: &'a Verdict, nonce: Option<&'a [u8]>) -> Ear<'a> {
        Ear {
            issued_at: Timestamp::from_secs(1_800_000_000),
            expires_at: Timestamp::from_secs(1_800_000_300),
            build: "0.1.0",
            nonce,
            appraisals: vec![(
                "machine",
                Appraisal {
                    verdict,
                    policies: vec!["estate:1"],
                    shown: verdict
                        .claims()
                        .unwrap_or_default()
                        .only(|fact| fact.name == "machine.tee.kind"),
                },
            )],
        }
    }

    fn parts(token: &str) -> (String, Vec<u8>, Value) {
        let (message, signature) = token.rsplit_once('.').unwrap();
        let claims = message.split_once('.').unwrap().1;
        let claims = serde_json::from_slice(&base64::decode_url(claims).unwrap()).unwrap();
        (
            message.to_owned(),
            base64::decode_url(signature).unwrap(),
            claims,
        )
    }

    #[test]
    fn a_result_says_what_was_found_and_no_more_than_is_shown() {
        let verdict = affirmed();
        let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let token = ear(&verdict, Some(&[7; 8])).sign(&key, "k1").unwrap();
        let (message, signature, claims) = parts(&token);
        VerificationKey::from_public_key(key.public_key())
            .unwrap()
            .verify(JwsAlgorithm::Es256, message.as_bytes(), &signature)
            .unwrap();
        assert_eq!(
            claims,
            json!({
                "eat_profile": "tag:ietf.org,2026:rats/ear#04",
                "iat": 1_800_000_000_u64,
                "exp": 1_800_000_300_u64,
                "eat_nonce": "BwcHBwcHBwc",
                "ear_verifier_id": {"developer": DEVELOPER, "build": "0.1.0"},
                "ear_status": "affirming",
                "submods": {"machine": {
                    "ear_status": "affirming",
                    "ear_trustworthiness_vector": {
                        "instance-identity": 2, "configuration": 2, "executables": 3,
                        "hardware": 2, "runtime-opaque": 2,
                    },
                    "ear_appraisal_policy_ids": ["estate:1"],
                    "ear_verifier_claims": {
                        "trilith.evidence": [],
                        "trilith.facts": {"machine.tee.kind": "sev-snp"},
                    },
                }},
            })
        );
    }

    #[test]
    fn a_refusal_is_contraindicated_as_a_whole() {
        let finding = Finding::new("TEE-SNP-IMAGE", "no");
        let verdict = Verdict::refused(vec![finding], Vec::new());
        let key = KeyPair::generate(Algorithm::Ed25519).unwrap();
        let token = ear(&verdict, None).sign(&key, "k1").unwrap();
        let (_, _, claims) = parts(&token);
        assert_eq!(claims["ear_status"], "contraindicated");
        let machine = &claims["submods"]["machine"];
        assert_eq!(machine["ear_status"], "contraindicated");
        assert_eq!(
            machine["ear_trustworthiness_vector"],
            json!({"executables": 33})
        );
        assert_eq!(
            machine["ear_verifier_claims"]["trilith.findings"],
            json!(["TEE-SNP-IMAGE"])
        );
        assert!(claims.get("eat_nonce").is_none());
    }

    #[test]
    fn what_the_draft_forbids_is_not_made() {
        let verdict = affirmed();
        let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        for nonce in [&[0; 7][..], &[0; 65]] {
            let refused = ear(&verdict, Some(nonce)).sign(&key, "k1").unwrap_err();
            assert!(matches!(refused, EarError::Nonce(_)));
        }
        let mut nobody = ear(&verdict, None);
        nobody.appraisals.clear();
        assert!(matches!(nobody.sign(&key, "k1"), Err(EarError::Submodules)));
        let mut twice = ear(&verdict, None);
        twice.appraisals.push(twice.appraisals[0].clone());
        assert!(matches!(twice.sign(&key, "k1"), Err(EarError::Submodules)));
        let other = KeyPair::generate(Algorithm::EcdsaP384).unwrap();
        assert!(matches!(
            ear(&verdict, None).sign(&other, "k1"),
            Err(EarError::Key(Algorithm::EcdsaP384))
        ));
    }
}
