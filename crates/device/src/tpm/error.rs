//! What can go wrong with a chip, by who must act.

use std::fmt;
use std::io;
use tpm2_protocol::TpmError;
use tpm2_protocol::data::{TpmCc, TpmRc};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "{0:?} names no TPM: use device:/dev/tpmrm0, swtpm:/path/to.sock or swtpm-tcp:host:port"
    )]
    Address(String),
    #[error("cannot open the TPM at {address}")]
    Open { address: String, source: io::Error },
    #[error("no answer from the TPM to {command:?}")]
    Transport { command: TpmCc, source: io::Error },
    #[error("cannot encode {command:?}")]
    Command { command: TpmCc, source: TpmError },
    #[error("the TPM refused {command:?} with {code}")]
    Refused { command: TpmCc, code: ResponseCode },
    #[error("the TPM's answer to {command:?} cannot be read: {problem}")]
    Response {
        command: TpmCc,
        problem: &'static str,
    },
    #[error("the server's challenge is unusable: {0}")]
    Challenge(&'static str),
    #[error("the TPM is not that of a machine with Azure's paravisor: {0}")]
    Paravisor(&'static str),
    #[error("the PCRs changed while they were quoted")]
    PcrsChanged,
    #[error("the answer to {0:?} was not made by the TPM that the session is with")]
    Session(TpmCc),
    #[error("what a session is made of was refused")]
    Secret(#[source] crypto::Error),
    #[error("the session key did not sign")]
    SessionKey(#[source] crypto::Error),
}

/// `TPM_RC` (Part 2, section 6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseCode(pub u32);

impl ResponseCode {
    pub const SUCCESS: Self = Self(0);
    pub const RETRY: Self = Self(0x922);
    /// `TPM_RC_HANDLE` for the first handle: nothing lives there.
    pub const NO_SUCH_HANDLE: Self = Self(0x18b);

    /// The command was not started; the same bytes may be sent again (Part 2, section 6.6.3):
    /// `YIELDED`, `TESTING`, `RETRY`. Seen right after an unclean stop.
    pub(super) const fn asks_for_retry(self) -> bool {
        matches!(self.0, 0x908 | 0x90a | 0x922)
    }

    /// A format-one code without the parameter, handle or session that it is about (Part 2, section 6.6.2).
    pub(super) const fn base(self) -> u32 {
        if self.0 & 0x80 == 0 {
            self.0
        } else {
            self.0 & 0xbf
        }
    }

    /// `OBJECT_MEMORY`, `SESSION_MEMORY`, `SESSION_HANDLES`, `OBJECT_HANDLES`.
    pub(super) const fn is_out_of_slots(self) -> bool {
        matches!(self.0, 0x902 | 0x903 | 0x905 | 0x906)
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TpmRc::try_from(self.0) {
            Ok(named) => write!(f, "{named} ({:#05x})", self.0),
            Err(_) => write!(f, "response code {:#05x}", self.0),
        }
    }
}
