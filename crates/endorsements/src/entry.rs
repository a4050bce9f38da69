//! One document as it lies in the folder.

use attest_tee::{Anchors, Answer, Artefact, Endorsement};
use crypto::{base64, hex};
use facts::Timestamp;
use serde::{Deserialize, Serialize};

/// Names an entry: the document, and the root that it leads to.
pub(crate) type Key = [u8; 32];

pub(crate) fn key(artefact: &Artefact, anchors: &Anchors) -> Key {
    let root = hex::encode(&anchors.digest(artefact));
    crypto::sha256(format!("trilith-endorsement-v1\n{artefact}\n{root}\n").as_bytes())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// 1.
    version: u32,
    artefact: String,
    /// Milliseconds since the Unix epoch.
    fetched: u64,
    /// Base 64.
    body: String,
    chain: String,
}

/// A document, and when it came.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) endorsement: Endorsement,
    pub(crate) fetched: Timestamp,
}

impl Entry {
    pub(crate) fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        let answer = self.endorsement.answer();
        serde_json::to_vec(&File {
            version: 1,
            artefact: self.endorsement.artefact().to_string(),
            fetched: self.fetched.as_millis(),
            body: base64::encode(&answer.body),
            chain: answer.chain.clone(),
        })
    }

    /// Reads what is to be this document, and checks it as if it had just come.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn read(
        bytes: &[u8],
        artefact: &Artefact,
        anchors: &Anchors,
        now: Timestamp,
    ) -> Result<Self, String> {
        let file: File =
            serde_json::from_slice(bytes).map_err(|_| "it is not as it was written")?;
        if file.version != 1 || file.artefact != artefact.to_string() {
            return Err("it is another document".to_owned());
        }
        let answer = Answer {
            body: base64::decode(&file.body).map_err(|_| "it is not as it was written")?,
            chain: file.chain,
        };
        Ok(Self {
            endorsement: Endorsement::check(artefact, answer, anchors, now)?,
            // A time to come would keep it from being asked for again.
            fetched: Timestamp::from_millis(file.fetched).min(now),
        })
    }
}
