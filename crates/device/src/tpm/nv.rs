//! Indices of non-volatile memory, read without a secret.

use super::command::{empty_password, read};
use super::{Error, ResponseCode, Tpm};
use tpm2_protocol::data::{TpmRh, TpmaNv};
use tpm2_protocol::frame::{TpmNvReadCommand, TpmNvReadPublicCommand};

/// Every chip reads this much at once (`TPM_PT_NV_BUFFER_MAX` is 512 or more).
const CHUNK: u16 = 512;
/// Longer than any certificate or report in use.
const LONGEST: u16 = 8192;

/// An index that holds something that anybody may read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    index: u32,
    authority: u32,
    size: u16,
}

impl Tpm {
    /// The index, if it is there, written, of sensible size, and readable without a password.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub(super) fn nv_written(&mut self, index: u32) -> Result<Option<Written>, Error> {
        let command = TpmNvReadPublicCommand {
            handles: [index.into()],
        };
        let response = match self.execute(&command, &[], 0) {
            Ok(response) => response,
            Err(Error::Refused { code, .. }) if code == ResponseCode::NO_SUCH_HANDLE => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let (attributes, size) = read(&command, || {
            let mut parameters = response.parameters();
            let _area_size = parameters.u16()?;
            let _index = parameters.u32()?;
            let _name_algorithm = parameters.u16()?;
            let attributes = TpmaNv::from_bits_truncate(parameters.u32()?);
            let _policy = parameters.sized()?;
            Ok((attributes, parameters.u16()?))
        })?;
        let authority = if attributes.contains(TpmaNv::OWNERREAD) {
            TpmRh::Owner.value()
        } else if attributes.contains(TpmaNv::AUTHREAD) {
            index
        } else {
            return Ok(None);
        };
        let readable = attributes.contains(TpmaNv::WRITTEN) && size <= LONGEST;
        Ok(readable.then_some(Written {
            index,
            authority,
            size,
        }))
    }

    /// What the index holds, all of it.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub(super) fn nv_read(&mut self, written: Written) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        for offset in (0..written.size).step_by(usize::from(CHUNK)) {
            let command = TpmNvReadCommand {
                handles: [written.authority.into(), written.index.into()],
                size: CHUNK.min(written.size - offset).into(),
                offset: offset.into(),
            };
            let response = self.execute(&command, &[empty_password()], 0)?;
            let chunk = read(&command, || {
                response.parameters().sized().map(<[u8]>::to_vec)
            })?;
            bytes.extend(chunk);
        }
        Ok(bytes)
    }
}
