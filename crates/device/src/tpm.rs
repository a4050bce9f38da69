//! The TPM 2.0 of this machine: a blocking connection and the commands that Trilith needs.
//!
//! Collects evidence and judges none of it; verification is `attest-tpm`'s. Calls block for as long as
//! the chip takes (a signature 100–500 ms, an RSA key up to minutes): keep them off async threads.
//! Structures come back as the bytes that the chip sent, because signatures and names are over those.
//! Command codes and structures: TCG TPM 2.0 Library, Part 3, revision 1.59.

#![forbid(unsafe_code)]

mod anchor;
mod attest;
mod command;
mod endorsement;
mod error;
mod frame;
pub mod join;
mod nv;
mod policy;
pub mod seal;
mod session;
pub mod template;
mod transport;

pub use attest::{Quote, quote};
pub use command::{Hierarchy, Object, Signed};
pub use endorsement::Endorsement;
pub use error::{Error, ResponseCode};
pub use transport::Address;

use frame::Response;
use std::io;
use std::time::Duration;
use tpm2_protocol::TpmWriter;
use tpm2_protocol::data::{TpmCc, TpmSt, TpmsAuthCommand};
use tpm2_protocol::frame::{TpmFrame, tpm_marshal_command};
use transport::Connection;

/// Times that a command is sent again when the chip says "later" (`TPM_RC_RETRY` and its like).
const RETRIES: u32 = 50;
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// An open TPM. One at a time speaks to a chip without resource manager.
///
/// INVARIANT: `loaded` holds every context that this value put into the chip and has not flushed;
/// dropping the value flushes them. Chips have three slots.
#[derive(Debug)]
pub struct Tpm {
    address: Address,
    connection: Connection,
    loaded: Vec<u32>,
    /// It joins by the key that a paravisor vouches for.
    by_paravisor: bool,
}

impl Tpm {
    /// Connects to `swtpm:/path/to.sock`, `swtpm-tcp:host:port` or `device:/dev/tpmrm0`.
    ///
    /// # Errors
    /// [`Error::Address`] for any other text, [`Error::Open`].
    pub fn open(address: &str) -> Result<Self, Error> {
        let address: Address = address.parse()?;
        let connection = Connection::open(&address).map_err(|source| Error::Open {
            address: address.to_string(),
            source,
        })?;
        Ok(Self {
            address,
            connection,
            loaded: Vec::new(),
            by_paravisor: false,
        })
    }

    /// The TCG event log that the kernel kept of this boot, for a chip that the kernel drives: what
    /// the firmware measured, in the firmware's words. Absent for emulators on a socket, where the
    /// firmware keeps none, and where this process may not read it.
    ///
    /// # Errors
    /// When reading fails half-way, or the log is longer than a mebibyte.
    pub fn event_log(&self) -> io::Result<Option<Vec<u8>>> {
        self.address.event_log()
    }

    /// Sends a command until the chip takes it, and returns what it said. `handles` is how many
    /// handles the answer starts with.
    fn execute<C: TpmFrame>(
        &mut self,
        command: &C,
        sessions: &[TpmsAuthCommand],
        handles: usize,
    ) -> Result<Response, Error> {
        let name = command.cc();
        let mut buffer = [0; transport::LONGEST];
        let mut writer = TpmWriter::new(&mut buffer);
        let tag = if sessions.is_empty() {
            TpmSt::NoSessions
        } else {
            TpmSt::Sessions
        };
        tpm_marshal_command(command, tag, sessions, &mut writer).map_err(|source| {
            Error::Command {
                command: name,
                source,
            }
        })?;
        self.transmit(name, writer.as_bytes(), handles)
    }

    /// As [`Tpm::execute`] for the bytes of a whole command. They are the same at each try: what the chip
    /// answered with "later" it has not begun.
    fn transmit(&mut self, name: TpmCc, bytes: &[u8], handles: usize) -> Result<Response, Error> {
        let mut swept = false;
        for _ in 0..RETRIES {
            let answer = self
                .connection
                .transact(bytes)
                .map_err(|source| Error::Transport {
                    command: name,
                    source,
                })?;
            let response =
                Response::parse(&answer, handles).map_err(|problem| Error::Response {
                    command: name,
                    problem,
                })?;
            match response.code() {
                ResponseCode::SUCCESS => return Ok(response),
                code if code.asks_for_retry() => std::thread::sleep(RETRY_PAUSE),
                code if code.is_out_of_slots() && !swept && !self.address.is_shared() => {
                    swept = true;
                    self.sweep()?;
                }
                code => {
                    return Err(Error::Refused {
                        command: name,
                        code,
                    });
                }
            }
        }
        Err(Error::Refused {
            command: name,
            code: ResponseCode::RETRY,
        })
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        for handle in std::mem::take(&mut self.loaded) {
            // The connection may be gone; a restart of the chip clears its slots as well.
            let _unreachable = self.flush_handle(handle);
        }
    }
}
