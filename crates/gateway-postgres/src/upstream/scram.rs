//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side, and the verifier of a role that only the
//! gateway can log in as.
//!
//! A role has no password: its salted password is drawn at random (256 bits) and never leaves this
//! process, so that the iteration count, which slows guessing of weak passwords, protects nothing.
//! The verifier says 4096, the least that RFC 7677 section 4 allows, and nobody ever iterates.

use crypto::{base64, hmac_sha256, sha256};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ScramError {
    #[error("the server's SCRAM message is malformed")]
    Malformed,
    #[error("the server's nonce does not extend ours")]
    Nonce,
    #[error("the server asks for {0} iterations")]
    Iterations(u32),
    #[error("the server does not know the verifier: its signature is wrong")]
    Signature,
}

const MAX_ITERATIONS: u32 = 200_000;
const ROLE_ITERATIONS: u32 = 4096;

/// What a login is proven with.
pub(crate) enum Secret<'a> {
    Password(&'a crypto::SecretBytes),
    Role(&'a RoleSecret),
}

/// The salted password of one role.
pub(crate) struct RoleSecret {
    salted: crypto::SecretBytes,
    salt: [u8; 16],
}

impl RoleSecret {
    pub(crate) fn random() -> Self {
        Self {
            salted: crypto::SecretBytes::new(crypto::random::<32>().to_vec()),
            salt: crypto::random(),
        }
    }

    /// As `pg_authid.rolpassword` holds it: `SCRAM-SHA-256$iterations:salt$stored:server`.
    pub(crate) fn verifier(&self) -> String {
        let client = hmac_sha256(self.salted.expose(), b"Client Key");
        let server = hmac_sha256(self.salted.expose(), b"Server Key");
        format!(
            "SCRAM-SHA-256${ROLE_ITERATIONS}:{}${}:{}",
            base64::encode(&self.salt),
            base64::encode(&sha256(&client)),
            base64::encode(&server),
        )
    }
}

/// One exchange, from the client's first message to the server's signature.
pub(crate) struct Exchange {
    nonce: String,
    expected: Option<[u8; 32]>,
}

impl Exchange {
    /// `nonce` is random.
    pub(crate) fn new(nonce: [u8; 18]) -> Self {
        Self {
            nonce: base64::encode(&nonce),
            expected: None,
        }
    }

    fn first_bare(&self) -> String {
        // The server takes the user from the startup message.
        format!("n=,r={}", self.nonce)
    }

    /// client-first-message, without channel binding.
    pub(crate) fn first(&self) -> String {
        format!("n,,{}", self.first_bare())
    }

    /// client-final-message.
    pub(crate) fn last(
        &mut self,
        server_first: &str,
        secret: &Secret<'_>,
    ) -> Result<String, ScramError> {
        let (mut nonce, mut salt, mut iterations) = (None, None, None);
        for part in server_first.split(',') {
            match part.split_at_checked(2) {
                Some(("r=", value)) => nonce = Some(value),
                Some(("s=", value)) => salt = base64::decode(value).ok(),
                Some(("i=", value)) => iterations = value.parse::<u32>().ok(),
                _ => return Err(ScramError::Malformed),
            }
        }
        let (Some(nonce), Some(salt), Some(iterations)) = (nonce, salt, iterations) else {
            return Err(ScramError::Malformed);
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Nonce);
        }
        if iterations == 0 || iterations > MAX_ITERATIONS {
            return Err(ScramError::Iterations(iterations));
        }
        let salted = match secret {
            Secret::Password(password) => {
                crypto::SecretBytes::new(pbkdf2(password.expose(), &salt, iterations).to_vec())
            }
            Secret::Role(role) => crypto::SecretBytes::new(role.salted.expose().to_vec()),
        };
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{server_first},{without_proof}", self.first_bare());
        let client_key = hmac_sha256(salted.expose(), b"Client Key");
        let signature = hmac_sha256(&sha256(&client_key), message.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(signature)
            .map(|(a, b)| a ^ b)
            .collect();
        let server_key = hmac_sha256(salted.expose(), b"Server Key");
        self.expected = Some(hmac_sha256(&server_key, message.as_bytes()));
        Ok(format!("{without_proof},p={}", base64::encode(&proof)))
    }

    /// Checks server-final-message: the server knows the verifier.
    pub(crate) fn check(&self, server_final: &str) -> Result<(), ScramError> {
        let signature = server_final
            .strip_prefix("v=")
            .and_then(|text| base64::decode(text).ok())
            .ok_or(ScramError::Malformed)?;
        let known = self
            .expected
            .is_some_and(|expected| crypto::constant_time_eq(&expected, &signature));
        if known {
            Ok(())
        } else {
            Err(ScramError::Signature)
        }
    }
}

/// Hi() of RFC 5802 section 2.2.
fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut block = salt.to_vec();
    block.extend_from_slice(&1_u32.to_be_bytes());
    let mut round = hmac_sha256(password, &block);
    let mut result = round;
    for _ in 1..iterations {
        round = hmac_sha256(password, &round);
        for (into, from) in result.iter_mut().zip(round) {
            *into ^= from;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 section 3, whose user name stands in the first message.
    #[test]
    fn pbkdf2_gives_the_proof_of_rfc_7677() {
        let salt = base64::decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = pbkdf2(b"pencil", &salt, 4096);
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let client_key = hmac_sha256(&salted, b"Client Key");
        let signature = hmac_sha256(&sha256(&client_key), message.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(signature)
            .map(|(a, b)| a ^ b)
            .collect();
        assert_eq!(
            base64::encode(&proof),
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
    }

    #[test]
    fn a_nonce_that_does_not_extend_ours_is_refused() {
        let mut exchange = Exchange::new([7; 18]);
        let role = RoleSecret::random();
        let refused = exchange.last("r=other,s=AAAA,i=4096", &Secret::Role(&role));
        assert_eq!(refused, Err(ScramError::Nonce));
    }

    #[test]
    fn a_server_without_the_verifier_is_refused() {
        let mut exchange = Exchange::new([7; 18]);
        let role = RoleSecret::random();
        let first = format!("r={}x,s=AAAA,i=4096", base64::encode(&[7; 18]));
        exchange.last(&first, &Secret::Role(&role)).unwrap();
        let forged = format!("v={}", base64::encode(&[0; 32]));
        assert_eq!(exchange.check(&forged), Err(ScramError::Signature));
    }
}
