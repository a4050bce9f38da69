//! TCB info: which security versions of a platform Intel considers good (PCS API, version 4,
//! `TCBInfoV3`).

use super::pck::Pck;
use super::report::TdReport;
use super::{TcbStatus, equal_under};
use crate::time;
use facts::Timestamp;
use serde::Deserialize;
use std::cmp::Reverse;

/// Intel lists about twenty levels.
const MOST_LEVELS: usize = 256;
const MOST_ADVISORIES: usize = 256;

/// As it stands in the JSON. Members that nothing here depends on are left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    id: String,
    version: u32,
    issue_date: String,
    next_update: String,
    fmspc: String,
    pce_id: String,
    tcb_type: u32,
    tcb_evaluation_data_number: u32,
    tcb_levels: Vec<JsonLevel<JsonTcb>>,
    tdx_module: Option<JsonModule>,
    #[serde(default)]
    tdx_module_identities: Vec<JsonIdentity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JsonLevel<T> {
    tcb: T,
    tcb_date: String,
    tcb_status: TcbStatus,
    #[serde(default, rename = "advisoryIDs")]
    advisories: Vec<String>,
}

#[derive(Deserialize)]
struct JsonTcb {
    sgxtcbcomponents: Vec<JsonComponent>,
    #[serde(default)]
    tdxtcbcomponents: Vec<JsonComponent>,
    pcesvn: u16,
}

#[derive(Deserialize)]
struct JsonComponent {
    svn: u8,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonModule {
    mrsigner: String,
    attributes: String,
    attributes_mask: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonIdentity {
    id: String,
    #[serde(flatten)]
    module: JsonModule,
    tcb_levels: Vec<JsonLevel<JsonSvn>>,
}

#[derive(Deserialize)]
pub(super) struct JsonSvn {
    isvsvn: u16,
}

/// Which kind of machine TCB info or an enclave identity is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tee {
    Sgx,
    Tdx,
}

/// TCB info that can be read.
#[derive(Debug, Clone)]
pub(super) struct TcbInfo {
    pub(super) tee: Tee,
    pub(super) issued: Timestamp,
    pub(super) next_update: Timestamp,
    pub(super) fmspc: [u8; 6],
    pub(super) pce_id: [u8; 2],
    pub(super) evaluation: u32,
    /// Best first.
    levels: Vec<(Versions, Level)>,
    module: Option<Module>,
    modules: Vec<Versioned>,
}

/// The least versions of a level, in the order that levels are compared in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Versions {
    sgx: [u8; 16],
    pce: u16,
    tdx: [u8; 16],
}

/// What Intel says of a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) status: TcbStatus,
    /// As Intel writes it: text, because it is only shown and compared.
    pub(super) date: String,
    pub(super) advisories: Vec<String>,
}

impl Level {
    /// This level with that of a part: the worse status, the older date, the advisories of both.
    pub(super) fn with_part(mut self, part: &Self) -> Self {
        self.status = self.status.with_part(part.status);
        // Times of one spelling sort as they pass.
        if part.date < self.date {
            self.date.clone_from(&part.date);
        }
        for advisory in &part.advisories {
            if !self.advisories.contains(advisory) {
                self.advisories.push(advisory.clone());
            }
        }
        self
    }
}

/// Who signed a TDX module, and the attributes that it has to have.
#[derive(Debug, Clone)]
struct Module {
    signer: [u8; 48],
    attributes: [u8; 8],
    mask: [u8; 8],
}

/// A TDX module with a version of its own.
#[derive(Debug, Clone)]
struct Versioned {
    version: u8,
    module: Module,
    /// By ISVSVN, best first.
    levels: Vec<(u16, Level)>,
}

impl TcbInfo {
    /// Reads the JSON that Intel signed.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let json: Json = serde_json::from_str(text).map_err(|_| "TCB info of another shape")?;
        let tee = match (json.id.as_str(), json.version, json.tcb_type) {
            ("SGX", 3, 0) => Tee::Sgx,
            ("TDX", 3, 0) => Tee::Tdx,
            _ => return Err("TCB info that is not of version 3 for SGX or TDX"),
        };
        if json.tcb_levels.len() > MOST_LEVELS || json.tdx_module_identities.len() > MOST_LEVELS {
            return Err("TCB info with more than 256 levels");
        }
        let mut levels = json
            .tcb_levels
            .into_iter()
            .map(|level| Some((versions(&level.tcb, tee)?, read_level(level)?.1)))
            .collect::<Option<Vec<_>>>()
            .ok_or("a TCB level that cannot be read")?;
        levels.sort_by_key(|(versions, _)| Reverse(versions.clone()));
        let module = match (tee, json.tdx_module) {
            (Tee::Sgx, _) => None,
            (Tee::Tdx, None) => return Err("TCB info of TDX without a module"),
            (Tee::Tdx, Some(module)) => {
                Some(read_module(&module).ok_or("a TDX module that cannot be read")?)
            }
        };
        let modules = json
            .tdx_module_identities
            .into_iter()
            .map(read_identity)
            .collect::<Option<Vec<_>>>()
            .ok_or("the identity of a TDX module that cannot be read")?;
        Ok(Self {
            tee,
            issued: time::parse(&json.issue_date).ok_or("an issue date that is no time")?,
            next_update: time::parse(&json.next_update).ok_or("a next update that is no time")?,
            fmspc: octets(&json.fmspc).ok_or("an FMSPC that cannot be read")?,
            pce_id: octets(&json.pce_id).ok_or("a PCE id that cannot be read")?,
            evaluation: json.tcb_evaluation_data_number,
            levels,
            module,
            modules,
        })
    }

    /// The best level that the platform reaches; for a trust domain whose module had `tdx` as its
    /// SVNs, converged with the module's own level.
    pub(super) fn level(&self, pck: &Pck, tdx: Option<&[u8; 16]>) -> Result<Level, String> {
        let zeros = [0; 16];
        let module_version = tdx.and_then(|svn| svn.get(1)).copied().unwrap_or_default();
        // A module with a version of its own is judged by its identity; the first two do not count.
        let skip = if module_version > 0 { 2 } else { 0 };
        let reached = |least: &Versions| {
            pck.pce_svn >= least.pce
                && covers(&pck.components, &least.sgx, 0)
                && covers(tdx.unwrap_or(&zeros), &least.tdx, skip)
        };
        let mut levels = self.levels.iter();
        let (_, level) = levels
            .find(|(least, _)| reached(least))
            .ok_or("below every level that Intel lists")?;
        let Some((svn, true)) = tdx.map(|svn| (svn, module_version > 0)) else {
            return Ok(level.clone());
        };
        let levels = &self.identity(module_version)?.levels;
        let svn = u16::from(svn.first().copied().unwrap_or_default());
        let (_, part) = levels
            .iter()
            .find(|(least, _)| svn >= *least)
            .ok_or_else(|| format!("TDX module SVN {svn} is below every level that Intel lists"))?;
        Ok(level.clone().with_part(part))
    }

    /// Whether Intel signed the TDX module that `report` names, with the attributes that it is to have.
    pub(super) fn judge_module(&self, report: &TdReport) -> Result<(), String> {
        let version = report.tcb_svn.get(1).copied().unwrap_or_default();
        let module = if version > 0 {
            &self.identity(version)?.module
        } else {
            self.module.as_ref().ok_or("TCB info of SGX")?
        };
        if report.mr_signer_seam != module.signer {
            return Err(format!(
                "signed by {}",
                crypto::hex::encode(&report.mr_signer_seam)
            ));
        }
        let outside = module.mask.map(|mask| !mask);
        if equal_under(&report.seam_attributes, &module.attributes, &module.mask)
            && equal_under(&report.seam_attributes, &[0; 8], &outside)
        {
            Ok(())
        } else {
            Err(format!(
                "attributes {}",
                crypto::hex::encode(&report.seam_attributes)
            ))
        }
    }

    fn identity(&self, version: u8) -> Result<&Versioned, String> {
        self.modules
            .iter()
            .find(|listed| listed.version == version)
            .ok_or_else(|| format!("Intel lists no TDX module of version {version}"))
    }
}

/// Whether each component from `skip` on is at least what the level asks for.
fn covers(has: &[u8; 16], least: &[u8; 16], skip: usize) -> bool {
    has.iter()
        .zip(least)
        .skip(skip)
        .all(|(has, least)| has >= least)
}

fn versions(tcb: &JsonTcb, tee: Tee) -> Option<Versions> {
    let sixteen = |components: &[JsonComponent]| {
        let svns: Vec<u8> = components.iter().map(|one| one.svn).collect();
        svns.as_array().copied()
    };
    Some(Versions {
        sgx: sixteen(&tcb.sgxtcbcomponents)?,
        pce: tcb.pcesvn,
        tdx: match tee {
            Tee::Sgx => [0; 16],
            Tee::Tdx => sixteen(&tcb.tdxtcbcomponents)?,
        },
    })
}

pub(super) fn read_level<T>(level: JsonLevel<T>) -> Option<(T, Level)> {
    time::parse(&level.tcb_date)?;
    let plain = |advisory: &String| {
        advisory.len() <= 64 && advisory.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if level.advisories.len() > MOST_ADVISORIES || !level.advisories.iter().all(plain) {
        return None;
    }
    Some((
        level.tcb,
        Level {
            status: level.tcb_status,
            date: level.tcb_date,
            advisories: level.advisories,
        },
    ))
}

/// Levels by SVN, best first.
pub(super) fn read_svn_levels(levels: Vec<JsonLevel<JsonSvn>>) -> Option<Vec<(u16, Level)>> {
    if levels.len() > MOST_LEVELS {
        return None;
    }
    let mut levels = levels
        .into_iter()
        .map(|level| read_level(level).map(|(svn, level)| (svn.isvsvn, level)))
        .collect::<Option<Vec<_>>>()?;
    levels.sort_by_key(|(svn, _)| Reverse(*svn));
    Some(levels)
}

fn read_module(module: &JsonModule) -> Option<Module> {
    Some(Module {
        signer: octets(&module.mrsigner)?,
        attributes: octets(&module.attributes)?,
        mask: octets(&module.attributes_mask)?,
    })
}

/// `TDX_03` is version 3.
fn read_identity(identity: JsonIdentity) -> Option<Versioned> {
    let [version] = octets(identity.id.strip_prefix("TDX_")?)?;
    Some(Versioned {
        version,
        module: read_module(&identity.module)?,
        levels: read_svn_levels(identity.tcb_levels)?,
    })
}

pub(super) fn octets<const N: usize>(text: &str) -> Option<[u8; N]> {
    crypto::hex::decode(text).ok()?.as_array().copied()
}
