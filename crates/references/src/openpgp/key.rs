//! Keyrings: transferable public keys (RFC 9580, section 10.1), and which of their keys may sign, when.
//!
//! The keyring is trusted as a whole: it says who may sign. What its packets say of each key (expiry,
//! flags, subkeys, revocation) counts only under the key's own signature.

use super::packet::{PUBLIC_KEY, PUBLIC_SUBKEY, Packet, Packets, SIGNATURE, USER_ID};
use super::signature::{
    CERTIFICATION_REVOCATION, CERTIFICATIONS, DIRECT, KEY_REVOCATION, Key, MAY_SIGN,
    PRIMARY_BINDING, SUBKEY_BINDING, SUBKEY_REVOCATION, Signature,
};
use facts::{Finding, Timestamp};

const LARGEST: usize = 16 * 1024 * 1024;
const MOST_KEYS: usize = 1024;

/// Who signed, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatory {
    /// Fingerprint of the primary key, upper-case hex.
    pub fingerprint: String,
    /// Fingerprint of the key that signed: the same, or a subkey's.
    pub key: String,
    /// A user ID that the key certifies of itself.
    pub user: String,
    pub signed_at: Timestamp,
}

/// The keys that are trusted to sign.
#[derive(Debug, Clone, Default)]
pub struct Keyring(Vec<SigningKey>);

/// One key that may sign, primary or not.
#[derive(Debug, Clone)]
pub(super) struct SigningKey {
    pub(super) key: Key,
    fingerprint: [u8; 20],
    primary: [u8; 20],
    user: String,
    created: Timestamp,
    expires: Option<Timestamp>,
    revoked: bool,
}

impl Keyring {
    /// A binary keyring, as Debian ships them, or an armoured one. Keys of other kinds are passed over.
    ///
    /// # Errors
    /// `REF-OPENPGP-KEYRING` when it cannot be read or holds no key that could sign.
    pub fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        let refused = |what: &str| {
            Finding::new("REF-OPENPGP-KEYRING", "the keyring cannot be used")
                .expected("OpenPGP public keys of version 4, RSA or Ed25519")
                .observed(what)
                .next("name a keyring such as /usr/share/keyrings/debian-archive-keyring.gpg")
        };
        if bytes.len() > LARGEST {
            return Err(refused("more than 16 MiB"));
        }
        let binary = match unarmour(bytes) {
            Some(binary) => binary.map_err(refused)?,
            None => bytes.to_vec(),
        };
        let packets: Vec<Packet<'_>> = Packets::new(&binary)
            .collect::<Result<_, _>>()
            .map_err(refused)?;
        let mut keys = Vec::new();
        for group in packets.chunk_by(|_, next| next.tag != PUBLIC_KEY) {
            keys.extend(
                Certificate::parse(group)
                    .map(|one| one.signing_keys())
                    .unwrap_or_default(),
            );
            if keys.len() > MOST_KEYS {
                return Err(refused("too many keys"));
            }
        }
        if keys.is_empty() {
            return Err(refused("no key that may sign"));
        }
        Ok(Self(keys))
    }

    /// All keys of several keyrings.
    #[must_use]
    pub fn merge(keyrings: impl IntoIterator<Item = Self>) -> Self {
        Self(keyrings.into_iter().flat_map(|keyring| keyring.0).collect())
    }

    /// Keys that may sign, whether they are valid now or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that `signature` says it may be by.
    pub(super) fn candidates<'a>(
        &'a self,
        signature: &Signature<'_>,
    ) -> impl Iterator<Item = &'a SigningKey> {
        let (fingerprint, issuer) = (signature.issuer_fingerprint, signature.issuer);
        self.0
            .iter()
            .filter(move |key| match (fingerprint, issuer) {
                (Some(fingerprint), _) => key.fingerprint == fingerprint,
                (None, Some(issuer)) => key.fingerprint.ends_with(&issuer),
                (None, None) => true,
            })
    }
}

impl SigningKey {
    /// Whether it may have signed at `signed`, and still counts at `now`.
    pub(super) fn may_sign(&self, signed: Timestamp, now: Timestamp) -> Result<(), &'static str> {
        if self.revoked {
            return Err("a signature by a key that was revoked");
        }
        if signed < self.created {
            return Err("a signature that is older than its key");
        }
        if self
            .expires
            .is_some_and(|expires| now >= expires || signed >= expires)
        {
            return Err("a signature by a key that has expired");
        }
        Ok(())
    }

    pub(super) fn signatory(&self, signed_at: Timestamp) -> Signatory {
        let name = |fingerprint: &[u8]| crypto::hex::encode(fingerprint).to_ascii_uppercase();
        Signatory {
            fingerprint: name(&self.primary),
            key: name(&self.fingerprint),
            user: self.user.clone(),
            signed_at,
        }
    }
}

/// A primary key with all that hangs on it.
struct Certificate<'a> {
    primary: PublicKey<'a>,
    /// The newest signature of the key on itself or on a user ID.
    statement: Signature<'a>,
    revoked: bool,
    user: String,
    subkeys: Vec<(PublicKey<'a>, Vec<Signature<'a>>)>,
}

struct PublicKey<'a> {
    body: &'a [u8],
    created: Timestamp,
    key: Option<Key>,
    fingerprint: [u8; 20],
}

impl<'a> PublicKey<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let (head, fields) = body.split_first_chunk::<6>()?;
        let [4, created @ .., algorithm] = *head else {
            return None;
        };
        let mut key = Self {
            body,
            created: Timestamp::from_secs(u32::from_be_bytes(created).into()),
            key: Key::parse(algorithm, fields),
            fingerprint: [0; 20],
        };
        key.fingerprint = crypto::openpgp::fingerprint(&key.hashed()?);
        Some(key)
    }

    /// The key as signatures hash it (section 5.2.4).
    fn hashed(&self) -> Option<Vec<u8>> {
        let length = u16::try_from(self.body.len()).ok()?.to_be_bytes();
        Some([&[0x99], length.as_slice(), self.body].concat())
    }

    fn expires(&self, after: Option<u32>) -> Option<Timestamp> {
        let after = after.filter(|after| *after > 0)?;
        Some(self.created.plus_secs(after.into()))
    }
}

impl<'a> Certificate<'a> {
    /// Nothing when the group is no key of a kind that could sign, or says nothing valid of itself.
    fn parse(packets: &[Packet<'a>]) -> Option<Self> {
        let (first, rest) = packets.split_first()?;
        let primary = PublicKey::parse(first.body).filter(|_| first.tag == PUBLIC_KEY)?;
        let key = primary.key.clone()?;
        let own = primary.hashed()?;
        let mut revokers: Vec<[u8; 20]> = Vec::new();
        let mut revoked = false;
        let mut statements: Vec<(Signature<'a>, Option<&str>)> = Vec::new();
        let mut subkeys: Vec<(PublicKey<'a>, Vec<Signature<'a>>)> = Vec::new();
        let mut user: Option<&'a [u8]> = None;
        let mut in_subkeys = false;
        for packet in rest {
            match packet.tag {
                USER_ID => user = Some(packet.body),
                PUBLIC_SUBKEY => {
                    in_subkeys = true;
                    subkeys.extend(PublicKey::parse(packet.body).map(|key| (key, Vec::new())));
                }
                SIGNATURE => {
                    let Ok(signature) = Signature::parse(packet.body) else {
                        continue;
                    };
                    if in_subkeys {
                        if let Some((_, signatures)) = subkeys.last_mut() {
                            signatures.push(signature);
                        }
                        continue;
                    }
                    let over_user = user.map(|user| with_user(&own, user)).unwrap_or_default();
                    let is_own = |data: &[u8]| signature.verify(&key, data).is_ok();
                    match signature.kind {
                        DIRECT if is_own(&own) => {
                            revokers.extend(&signature.revokers);
                            // A list of revokers says nothing of what the key may do.
                            if signature.flags.is_some() || signature.key_expires_after.is_some() {
                                statements.push((signature, None));
                            }
                        }
                        KEY_REVOCATION => {
                            let by_revoker = signature
                                .issuer_fingerprint
                                .is_some_and(|issuer| revokers.contains(&issuer));
                            // Whether a named revoker's signature holds cannot be told without its key:
                            // the cautious answer is that it does.
                            revoked |= by_revoker || is_own(&own);
                        }
                        CERTIFICATION_REVOCATION if is_own(&over_user) => {
                            let name = user.and_then(|user| str::from_utf8(user).ok());
                            statements.retain(|(_, of)| *of != name || of.is_none());
                        }
                        kind if CERTIFICATIONS.contains(&kind) && is_own(&over_user) => {
                            let name = user.and_then(|user| str::from_utf8(user).ok());
                            statements.push((signature, name));
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        let user = statements.iter().find_map(|(_, user)| *user);
        let user = user
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        let (statement, _) = statements
            .into_iter()
            .max_by_key(|(signature, _)| signature.created)?;
        Some(Self {
            primary,
            statement,
            revoked,
            user,
            subkeys,
        })
    }

    fn signing_keys(&self) -> Vec<SigningKey> {
        let stated = self.primary.expires(self.statement.key_expires_after);
        let expires = [stated, self.statement.ends()].into_iter().flatten().min();
        let mut keys = Vec::new();
        let Some(primary) = &self.primary.key else {
            return keys;
        };
        let make = |key: &Key, of: &PublicKey<'_>, expires, revoked| SigningKey {
            key: key.clone(),
            fingerprint: of.fingerprint,
            primary: self.primary.fingerprint,
            user: self.user.clone(),
            created: of.created,
            expires,
            revoked,
        };
        if self
            .statement
            .flags
            .is_none_or(|flags| flags & MAY_SIGN != 0)
        {
            keys.push(make(primary, &self.primary, expires, self.revoked));
        }
        for (subkey, signatures) in &self.subkeys {
            let (Some(key), Some(state)) = (&subkey.key, self.binding(primary, subkey, signatures))
            else {
                continue;
            };
            let expires = [state.expires, expires].into_iter().flatten().min();
            keys.push(make(key, subkey, expires, self.revoked || state.revoked));
        }
        keys
    }

    /// A subkey signs if the primary key bound it for that, and it agreed (section 5.2.1.9).
    fn binding(
        &self,
        primary: &Key,
        subkey: &PublicKey<'_>,
        signatures: &[Signature<'a>],
    ) -> Option<Binding> {
        let both = [self.primary.hashed()?, subkey.hashed()?].concat();
        let mut revoked = false;
        let mut newest: Option<&Signature<'_>> = None;
        for signature in signatures {
            if signature.verify(primary, &both).is_err() {
                continue;
            }
            match signature.kind {
                SUBKEY_REVOCATION => revoked = true,
                SUBKEY_BINDING if newest.is_none_or(|old| old.created <= signature.created) => {
                    newest = Some(signature);
                }
                _ => {}
            }
        }
        let binding = newest.filter(|one| one.flags.is_some_and(|flags| flags & MAY_SIGN != 0))?;
        let agreed = Signature::parse(binding.embedded?).ok()?;
        if agreed.kind != PRIMARY_BINDING || agreed.verify(subkey.key.as_ref()?, &both).is_err() {
            return None;
        }
        let stated = subkey.expires(binding.key_expires_after);
        Some(Binding {
            expires: [stated, binding.ends()].into_iter().flatten().min(),
            revoked,
        })
    }
}

struct Binding {
    expires: Option<Timestamp>,
    revoked: bool,
}

fn with_user(key: &[u8], user: &[u8]) -> Vec<u8> {
    let length = u32::try_from(user.len()).unwrap_or(u32::MAX).to_be_bytes();
    [key, &[0xb4], &length, user].concat()
}

/// The content of an armoured keyring; nothing if it is not armoured.
fn unarmour(bytes: &[u8]) -> Option<Result<Vec<u8>, &'static str>> {
    let text = str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once("-----BEGIN PGP PUBLIC KEY BLOCK-----")?;
    let body = rest.split_once("-----END PGP PUBLIC KEY BLOCK-----");
    let lines = body.map(|(body, _)| body.lines().map(str::trim));
    let text = lines.map(|lines| {
        lines
            .filter(|line| !line.contains(": ") && !line.starts_with('='))
            .collect::<String>()
    });
    let decoded = text
        .and_then(|text| crypto::base64::decode(&text).ok())
        .ok_or("an armour that is damaged");
    Some(decoded)
}
