//! Sessions that are salted to the storage key: what they protect is read, or changed, by nobody on the way
//! between this process and the chip (TPM 2.0 Library, Part 1, sections 19.6 and 21).
//!
//! Whoever sits on the bus in the place of the chip when the storage key is first read is not kept out by it.

use super::frame::Response;
use super::{Error, Object, Tpm};
use attest_tpm::{Key, Public};
use crypto::tpm::{
    aes128_cfb_decrypt_from, aes128_cfb_encrypt_from, ecdh, kdfa_sha256, kdfe_sha256,
};
use crypto::{PublicKey, SecretBytes, Zeroizing, constant_time_eq, hmac_sha256, sha256};
use tpm2_protocol::data::TpmCc;

const SESSIONS: u16 = 0x8002;
const NO_SESSIONS: u16 = 0x8001;
/// `TPM_RH_NULL`.
const NULL: u32 = 0x4000_0007;
/// `TPM_ALG_SHA256`, and AES-128 in CFB mode as a `TPMT_SYM_DEF`.
const SHA256: u16 = 0x000b;
const AES_128_CFB: [u8; 6] = [0, 0x06, 0, 128, 0, 0x43];
/// `TPMA_SESSION`: the session goes on; the chip decrypts the first parameter of the command; it encrypts the
/// first of its answer.
const CONTINUES: u8 = 0x01;
const DECRYPT: u8 = 0x20;
const ENCRYPT: u8 = 0x40;

/// `TPM_SE_HMAC` and `TPM_SE_POLICY`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Hmac = 0,
    Policy = 1,
}

/// Which first parameter is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hides {
    Command,
    Answer,
}

/// A session whose key the chip and this process alone know.
pub(super) struct Session {
    pub(super) handle: u32,
    key: Zeroizing<Vec<u8>>,
    nonce: Vec<u8>,
}

/// A command whose bytes are at hand, because a session signs them.
pub(super) struct Raw<'a> {
    pub(super) code: TpmCc,
    /// Each with the name of what lives there.
    pub(super) handles: &'a [(u32, &'a [u8])],
    pub(super) parameters: Zeroizing<Vec<u8>>,
}

impl Tpm {
    /// Begins a session that is salted to `storage`, which is a P-256 storage key of this chip.
    pub(super) fn salted(&mut self, kind: Kind, storage: &Object) -> Result<Session, Error> {
        let code = TpmCc::StartAuthSession;
        let unreadable = |problem| Error::Response {
            command: TpmCc::CreatePrimary,
            problem,
        };
        let public = Public::parse(&storage.public)
            .map_err(|_| unreadable("the storage key is no public area"))?;
        let Key::Ecc { x, y, .. } = &public.key else {
            return Err(unreadable("the storage key is no P-256 key"));
        };
        let key = PublicKey::from_p256_xy(x, y).map_err(Error::Secret)?;
        let shared = ecdh(&key).map_err(Error::Secret)?;
        let theirs = key.xy().map(|(x, _)| x).unwrap_or_default();
        let ours = shared.ephemeral.xy().unwrap_or_default();
        let salt = kdfe_sha256(&shared.z, "SECRET", ours.0, theirs, 256);
        let nonce = crypto::random::<32>();
        let point = [sized(ours.0), sized(ours.1)].concat();
        let parameters = [
            sized(&nonce),
            sized(&point),
            vec![kind as u8],
            AES_128_CFB.to_vec(),
            SHA256.to_be_bytes().to_vec(),
        ]
        .concat();
        let bytes = framed(code, NO_SESSIONS, &[storage.handle, NULL], &[], &parameters);
        let response = self.transmit(code, &bytes, 1)?;
        let handle = parsed(code, || response.handle())?;
        self.loaded.push(handle);
        let theirs = parsed(code, || response.parameters().sized().map(<[u8]>::to_vec))?;
        // Neither salted to nothing nor bound to anything: Part 1, section 19.6.8.
        let key = kdfa_sha256(&salt, "ATH", &theirs, &nonce, 256);
        Ok(Session {
            handle,
            key,
            nonce: theirs,
        })
    }

    /// Sends `command` under `session`, which authorises its first handle, and returns the parameters of the
    /// answer; what `hides` names is encrypted on the way.
    ///
    /// # Errors
    /// [`Error::Session`] if the answer is not by the chip that the session is with, else as every command.
    pub(super) fn within(
        &mut self,
        session: &mut Session,
        mut command: Raw<'_>,
        hides: Hides,
    ) -> Result<SecretBytes, Error> {
        let code = command.code;
        let ours = crypto::random::<32>();
        let attributes = match hides {
            Hides::Command => {
                session.crypt(&mut command.parameters, &ours, Encrypts::Ours)?;
                CONTINUES | DECRYPT
            }
            Hides::Answer => CONTINUES | ENCRYPT,
        };
        let names: Vec<u8> = command
            .handles
            .iter()
            .flat_map(|(_, name)| *name)
            .copied()
            .collect();
        let numbers = code.value().to_be_bytes();
        let digest = sha256(&[&numbers[..], &names, &command.parameters].concat());
        let signed = [&digest[..], &ours, &session.nonce, &[attributes]].concat();
        let authorization = [
            session.handle.to_be_bytes().to_vec(),
            sized(&ours),
            vec![attributes],
            sized(&hmac_sha256(&session.key, &signed)),
        ]
        .concat();
        let handles: Vec<u32> = command.handles.iter().map(|(handle, _)| *handle).collect();
        let bytes = Zeroizing::new(framed(
            code,
            SESSIONS,
            &handles,
            &authorization,
            &command.parameters,
        ));
        let response = self.transmit(code, &bytes, 0)?;
        session.accept(code, &response, &ours)?;
        let mut answer = Zeroizing::new(response.parameters().rest().to_vec());
        if hides == Hides::Answer {
            session.crypt(&mut answer, &ours, Encrypts::Theirs)?;
        }
        Ok(SecretBytes::new(std::mem::take(&mut *answer)))
    }

    /// Loads what was made below `parent`, whose authorisation is empty; its handle.
    pub(super) fn load(&mut self, parent: &Object, parameters: &[u8]) -> Result<u32, Error> {
        // TPM_RS_PW, no nonce, no password.
        let password = [0x40, 0, 0, 9, 0, 0, CONTINUES, 0, 0];
        let code = TpmCc::Load;
        let bytes = framed(code, SESSIONS, &[parent.handle], &password, parameters);
        let response = self.transmit(code, &bytes, 1)?;
        let handle = parsed(code, || response.handle())?;
        self.loaded.push(handle);
        Ok(handle)
    }

    /// A command that no session has a part in.
    pub(super) fn bare(
        &mut self,
        code: TpmCc,
        handles: &[u32],
        parameters: &[u8],
        answered: usize,
    ) -> Result<Response, Error> {
        let bytes = framed(code, NO_SESSIONS, handles, &[], parameters);
        self.transmit(code, &bytes, answered)
    }
}

/// Whose nonce is the newer one.
#[derive(Clone, Copy)]
enum Encrypts {
    Ours,
    Theirs,
}

impl Session {
    /// INVARIANT: an answer counts only with the HMAC that the chip alone can make (Part 1, section 19.6.5).
    fn accept(&mut self, code: TpmCc, response: &Response, ours: &[u8]) -> Result<(), Error> {
        let (nonce, attributes, hmac) = parsed(code, || {
            let mut answers = response.sessions();
            let nonce = answers.sized()?.to_vec();
            Ok((nonce, answers.u8()?, answers.sized()?.to_vec()))
        })?;
        let (success, command) = ([0; 4], code.value().to_be_bytes());
        let parameters = response.parameters();
        let digest = sha256(&[&success[..], &command, parameters.rest()].concat());
        let signed = [&digest[..], &nonce, ours, &[attributes]].concat();
        if !constant_time_eq(&hmac_sha256(&self.key, &signed), &hmac) {
            return Err(Error::Session(code));
        }
        self.nonce = nonce;
        Ok(())
    }

    /// Encrypts, or decrypts, the bytes of the first parameter, a `TPM2B`, where it stands (Part 1, section
    /// 21.3). The authorisation values of what it is used for are empty.
    fn crypt(
        &self,
        parameters: &mut Zeroizing<Vec<u8>>,
        ours: &[u8],
        encrypts: Encrypts,
    ) -> Result<(), Error> {
        let malformed = Error::Response {
            command: TpmCc::StartAuthSession,
            problem: "no first parameter to decrypt",
        };
        let Some((length, rest)) = parameters.split_first_chunk_mut::<2>() else {
            return Err(malformed);
        };
        let Some(secret) = rest.get_mut(..usize::from(u16::from_be_bytes(*length))) else {
            return Err(malformed);
        };
        let stream = match encrypts {
            Encrypts::Ours => kdfa_sha256(&self.key, "CFB", ours, &self.nonce, 256),
            Encrypts::Theirs => kdfa_sha256(&self.key, "CFB", &self.nonce, ours, 256),
        };
        let Some((key, iv)) = stream
            .split_first_chunk::<16>()
            .and_then(|(key, iv)| Some((key, iv.as_array::<16>()?)))
        else {
            return Err(malformed);
        };
        let crypted = match encrypts {
            Encrypts::Ours => aes128_cfb_encrypt_from(key, iv, secret).map(Zeroizing::new),
            Encrypts::Theirs => aes128_cfb_decrypt_from(key, iv, secret),
        };
        secret.copy_from_slice(&crypted.map_err(Error::Secret)?);
        Ok(())
    }
}

/// `TPM2B_…`: what is longer than its length can say does not fit a chip, which refuses it.
pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

pub(super) fn parsed<T>(
    command: TpmCc,
    parse: impl FnOnce() -> Result<T, &'static str>,
) -> Result<T, Error> {
    parse().map_err(|problem| Error::Response { command, problem })
}

/// Header, handles, authorisation with its length where there is one, parameters (Part 1, section 18).
fn framed(
    code: TpmCc,
    tag: u16,
    handles: &[u32],
    authorization: &[u8],
    parameters: &[u8],
) -> Vec<u8> {
    // A parameter may be a secret.
    let mut body = Zeroizing::new(Vec::with_capacity(
        parameters.len() + authorization.len() + 16,
    ));
    for handle in handles {
        body.extend_from_slice(&handle.to_be_bytes());
    }
    if tag == SESSIONS {
        let length = u32::try_from(authorization.len()).unwrap_or(u32::MAX);
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(authorization);
    }
    body.extend_from_slice(parameters);
    let length = u32::try_from(body.len().saturating_add(10)).unwrap_or(u32::MAX);
    let (tag, length, code) = (
        tag.to_be_bytes(),
        length.to_be_bytes(),
        code.value().to_be_bytes(),
    );
    [&tag[..], &length, &code, &body].concat()
}
