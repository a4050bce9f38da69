//! The agent's half of a join: everything that the chip has to say, so that the agent only carries
//! bytes. The server's half is `attest_tpm::join`.

use super::anchor::Anchor;
use super::attest::quoted;
use super::{Endorsement, Error, Hierarchy, Object, Tpm, template};
pub use attest_tpm::{Challenge, Channel, JoinAnswer, JoinRequest};

use attest_tpm::{PcrSelection, SigningKey, strong};
use crypto::{SecretBytes, Signer};

/// A join that waits for its challenge. Holds the chip, and two or three of its slots, until it is
/// answered or dropped.
#[derive(Debug)]
pub struct Join {
    tpm: Tpm,
    anchor: Anchor,
    identity: Object,
    request: JoinRequest,
}

impl Join {
    /// Loads the keys of this machine. The attestation key is a primary key of the endorsement
    /// hierarchy, the identity key of the owner's: both the same at every start.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn begin(mut tpm: Tpm) -> Result<Self, Error> {
        let anchor = tpm.anchor()?;
        Self::resting_on(tpm, anchor)
    }

    /// As [`Join::begin`] with a certain endorsement key.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn with(mut tpm: Tpm, endorsement: Endorsement) -> Result<Self, Error> {
        let attestation =
            tpm.create_primary(Hierarchy::Endorsement, template::attestation_key())?;
        let anchor = Anchor {
            endorsement: Some(endorsement),
            attestation,
            certificate: Vec::new(),
        };
        Self::resting_on(tpm, anchor)
    }

    fn resting_on(mut tpm: Tpm, anchor: Anchor) -> Result<Self, Error> {
        let identity = tpm.create_primary(Hierarchy::Owner, template::identity_key())?;
        let request = anchor.request(identity.public.clone());
        Ok(Self {
            tpm,
            anchor,
            identity,
            request,
        })
    }

    /// The first message.
    #[must_use]
    pub const fn request(&self) -> &JoinRequest {
        &self.request
    }

    /// What a paravisor says of the attestation key, for a chip that joins by it.
    ///
    /// # Errors
    /// [`Error::Paravisor`] where there is none; else of the chip or the connection.
    pub fn paravisor_report(&mut self) -> Result<Vec<u8>, Error> {
        self.tpm.paravisor_report()
    }

    /// The registers that firmware and boot loaders measure into, quoted in the bank of SHA-384, as
    /// `attest_tpm::strong` packs it; absent of a chip that has no such bank.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn strong_quote(&mut self, nonce: &[u8; 32]) -> Result<Option<Vec<u8>>, Error> {
        let pcrs = PcrSelection::new(&strong::PCRS)
            .map_err(|_| Error::Challenge("it selects PCRs that do not exist"))?;
        let signed = self
            .tpm
            .quote_strong(&self.anchor.attestation, nonce, &pcrs)?;
        Ok(strong::is_quote(&signed.attested)
            .then(|| strong::pack(&signed.attested, &signed.signature))
            .flatten())
    }

    /// The third message, to the server's challenge, for the connection that it came over. `session` is
    /// the key in memory that the SVID is for; without one it is for the identity key itself.
    ///
    /// # Errors
    /// [`Error::Challenge`] if the challenge is not what an honest server sends,
    /// [`Error::Refused`] if it is for another chip or key, else of the chip or the connection.
    pub fn answer(
        mut self,
        challenge: &Challenge,
        channel: &Channel,
        session: Option<&dyn Signer>,
    ) -> Result<JoinAnswer, Error> {
        let fresh = attest_tpm::nonce(&challenge.nonce_checkpoint, &challenge.nonce_random);
        if fresh != challenge.nonce {
            return Err(Error::Challenge(
                "its nonce does not commit to its checkpoint",
            ));
        }
        let pcrs = PcrSelection::new(&challenge.pcrs)
            .map_err(|_| Error::Challenge("it selects no PCRs, or some that do not exist"))?;
        let unreadable = |_| Error::Challenge("the keys of this chip are not what it takes");
        let ak = SigningKey::attestation(&self.request.ak_public).map_err(unreadable)?;
        let identity = SigningKey::identity(&self.request.identity_public).map_err(unreadable)?;
        let attestation = &self.anchor.attestation;
        let secret = match &self.anchor.endorsement {
            Some(endorsement) => self.tpm.activate_credential(
                attestation,
                endorsement.handle,
                &challenge.credential_blob,
                &challenge.encrypted_secret,
            )?,
            None => SecretBytes::new(Vec::new()),
        };
        let quoted = quoted(&mut self.tpm, attestation, &challenge.nonce, &pcrs)?;
        let transcript = attest_tpm::join_transcript(
            channel,
            &challenge.nonce,
            &self.request.ek_public,
            &ak.name,
            identity.key.spki_der(),
            &quoted.attested,
        );
        let certified = self.tpm.certify(attestation, &self.identity, &transcript)?;
        let mut answer = JoinAnswer {
            activated_secret: secret.expose().to_vec(),
            quote: quoted.attested,
            quote_signature: quoted.signature,
            certify: certified.attested,
            certify_signature: certified.signature,
            pcr_values: quoted.values,
            // A log that cannot be read leaves the boot unknown; that is for policy to judge.
            event_log: self.tpm.event_log().ok().flatten().unwrap_or_default(),
            ..JoinAnswer::default()
        };
        if let Some(session) = session {
            let spki = session.public_key().spki_der();
            let message = attest_tpm::vouch_message(spki, quoted.boot, &challenge.nonce);
            answer.vouch = self.tpm.sign(&self.identity, &crypto::sha256(&message))?;
            answer.session_key_proof = session.sign(&transcript).map_err(Error::SessionKey)?;
            answer.session_key = spki.to_vec();
        }
        Ok(answer)
    }
}
