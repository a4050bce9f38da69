//! The bodies of quotes: what an enclave is, and what a trust domain is. Read, not judged.

use crate::wire::Reader;

/// `sgx_report_body_t`, 384 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnclaveReport {
    pub cpu_svn: [u8; 16],
    pub misc_select: [u8; 4],
    /// Flags and XFRM.
    pub attributes: [u8; 16],
    pub mr_enclave: [u8; 32],
    pub mr_signer: [u8; 32],
    pub product_id: u16,
    pub svn: u16,
    pub report_data: [u8; 64],
}

impl EnclaveReport {
    pub(crate) const LENGTH: usize = 384;
    /// `ATTRIBUTES.FLAGS.DEBUG`.
    const DEBUG: u8 = 1 << 1;
    /// `ATTRIBUTES.FLAGS.INIT`.
    const INITIALISED: u8 = 1;

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let cpu_svn = reader.array()?;
        let misc_select = reader.array()?;
        // Reserved, ISVEXTPRODID.
        reader.take(12 + 16)?;
        let attributes = reader.array()?;
        let mr_enclave = reader.array()?;
        reader.take(32)?;
        let mr_signer = reader.array()?;
        // Reserved, CONFIGID.
        reader.take(32 + 64)?;
        let product_id = reader.u16()?;
        let svn = reader.u16()?;
        // CONFIGSVN, reserved, ISVFAMILYID.
        reader.take(2 + 42 + 16)?;
        Some(Self {
            cpu_svn,
            misc_select,
            attributes,
            mr_enclave,
            mr_signer,
            product_id,
            svn,
            report_data: reader.array()?,
        })
    }

    /// Its memory can be read from outside.
    #[must_use]
    pub fn is_debug(&self) -> bool {
        self.flag(Self::DEBUG)
    }

    /// `EINIT` was executed: the measurement is complete.
    #[must_use]
    pub fn is_initialised(&self) -> bool {
        self.flag(Self::INITIALISED)
    }

    fn flag(&self, bit: u8) -> bool {
        self.attributes
            .first()
            .is_some_and(|flags| flags & bit != 0)
    }
}

/// `td_report_t` of TDX 1.0, 584 bytes, and what TDX 1.5 adds to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TdReport {
    /// `TEE_TCB_SVN`: when the domain was launched.
    pub tcb_svn: [u8; 16],
    pub mr_seam: [u8; 48],
    pub mr_signer_seam: [u8; 48],
    pub seam_attributes: [u8; 8],
    pub attributes: u64,
    pub xfam: [u8; 8],
    pub mr_td: [u8; 48],
    pub mr_config_id: [u8; 48],
    pub mr_owner: [u8; 48],
    pub mr_owner_config: [u8; 48],
    pub rtmr: [[u8; 48]; 4],
    pub report_data: [u8; 64],
    /// TDX 1.5: `TEE_TCB_SVN2`, of the module that runs now, and `MRSERVICETD`.
    pub current: Option<([u8; 16], [u8; 48])>,
}

impl TdReport {
    pub(crate) const LENGTH: usize = 584;
    /// Of TDX 1.5.
    pub(crate) const LENGTH_1_5: usize = 648;

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            tcb_svn: reader.array()?,
            mr_seam: reader.array()?,
            mr_signer_seam: reader.array()?,
            seam_attributes: reader.array()?,
            attributes: reader.u64()?,
            xfam: reader.array()?,
            mr_td: reader.array()?,
            mr_config_id: reader.array()?,
            mr_owner: reader.array()?,
            mr_owner_config: reader.array()?,
            rtmr: [
                reader.array()?,
                reader.array()?,
                reader.array()?,
                reader.array()?,
            ],
            report_data: reader.array()?,
            current: None,
        })
    }

    pub(crate) fn read_1_5(reader: &mut Reader<'_>) -> Option<Self> {
        let mut report = Self::read(reader)?;
        report.current = Some((reader.array()?, reader.array()?));
        Some(report)
    }
}
