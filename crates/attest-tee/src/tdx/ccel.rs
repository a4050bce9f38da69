//! Replay of a confidential machine's event log (CCEL) to its runtime measurement registers.
//!
//! The log has the form of a crypto-agile TCG log (PC Client Platform Firmware Profile, section 10);
//! its measurement register 0 is MRTD and 1 to 4 are RTMR 0 to 3 (UEFI 2.10, section 38.4.1). Only what
//! replay needs is read: what the events say is for the TCG log parser of `attest-tpm`, which this
//! reader may become a part of.

use crate::wire::Reader;
use facts::Finding;

/// Logs lie in areas of 64 to 256 KiB.
const LONGEST: usize = 1 << 20;
/// Algorithms in one log.
const MOST: u32 = 8;
const NO_ACTION: u32 = 3;
const SHA384: u16 = 0x000c;
const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";

/// RTMR 0 to 3 as the log gives them.
///
/// # Errors
/// `TEE-TDX-CCEL-STRUCTURE`.
pub fn replay(log: &[u8]) -> Result<[[u8; 48]; 4], Finding> {
    read(log).map_err(|problem| {
        Finding::new("TEE-TDX-CCEL-STRUCTURE", "the event log cannot be read")
            .expected("a crypto-agile TCG log with SHA-384, as the CCEL table points at it")
            .observed(problem)
            .next("send /sys/firmware/acpi/tables/data/CCEL as it is")
    })
}

fn read(log: &[u8]) -> Result<[[u8; 48]; 4], &'static str> {
    if log.len() > LONGEST {
        return Err("more than a MiB");
    }
    let mut reader = Reader::new(log);
    let algorithms = header(&mut reader).ok_or("no header of a crypto-agile log")?;
    if !algorithms.contains(&(SHA384, 48)) {
        return Err("no SHA-384 in it");
    }
    let mut registers = [[0; 48]; 4];
    while !is_padding(reader.rest()) {
        let event = event(&mut reader, &algorithms).ok_or("an event that is cut or overlong")?;
        // Register 0 is MRTD, which the TDX module measures itself.
        let (Some(index), true) = (event.register.checked_sub(1), event.kind != NO_ACTION) else {
            continue;
        };
        let register = usize::try_from(index)
            .ok()
            .and_then(|index| registers.get_mut(index))
            .ok_or("an event of a register that is not there")?;
        *register = crypto::sha384(&[*register, event.digest].concat());
    }
    Ok(registers)
}

/// What lies behind the last event of the area.
fn is_padding(rest: &[u8]) -> bool {
    rest.iter().all(|byte| *byte == 0xff) || rest.iter().all(|byte| *byte == 0)
}

/// The first event, of the legacy form: the algorithms and the lengths of their digests.
fn header(reader: &mut Reader<'_>) -> Option<Vec<(u16, usize)>> {
    reader.take(4)?;
    if reader.u32()? != NO_ACTION {
        return None;
    }
    reader.take(20)?;
    let mut event = Reader::new(reader.sized(LONGEST)?);
    if event.take(16)? != SPEC_ID {
        return None;
    }
    // Platform class, versions, size of UINTN.
    event.take(8)?;
    let count = event.u32()?;
    if count > MOST {
        return None;
    }
    (0..count)
        .map(|_| Some((event.u16()?, usize::from(event.u16()?))))
        .collect()
}

struct Event {
    register: u32,
    kind: u32,
    /// By SHA-384.
    digest: [u8; 48],
}

/// One event with a digest by each algorithm of the log.
fn event(reader: &mut Reader<'_>, algorithms: &[(u16, usize)]) -> Option<Event> {
    let (register, kind, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if usize::try_from(count).ok()? != algorithms.len() {
        return None;
    }
    let mut found = None;
    for _ in 0..count {
        let algorithm = reader.u16()?;
        let (_, length) = algorithms.iter().find(|(id, _)| *id == algorithm)?;
        let digest = reader.take(*length)?;
        if algorithm == SHA384 && found.replace(*digest.as_array()?).is_some() {
            return None;
        }
    }
    reader.sized(LONGEST)?;
    Some(Event {
        register,
        kind,
        digest: found?,
    })
}
