//! What was seen of a process, in words that are free of any kernel interface.

use crate::FsVerityDigest;

/// How sure it is that the process seen is the one that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Pidfd,
    Raceable,
}

/// SHA-256 of an executable, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    Sha256([u8; 32]),
    Absent(String),
}

/// An executable file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Last part of its path.
    pub name: Option<String>,
    /// Present only if the file at that path on this machine is the file meant.
    pub path: Option<String>,
    pub digest: Digest,
    /// What the kernel measures of it, if it has a Merkle tree.
    pub fsverity: Option<FsVerityDigest>,
}

/// A process as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// What it runs.
    pub program: Program,
    pub cgroup: Option<String>,
    /// The system manager's unit.
    pub unit: Option<String>,
    pub caller: Caller,
    /// The program is a build of Trilith itself, which acts for others.
    pub is_helper: bool,
    /// The program that a helper says it is about to execute: the helper's word, the file seen by us.
    pub on_behalf_of: Option<Program>,
}
