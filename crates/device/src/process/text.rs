//! The text of `/proc/PID/{stat,status,cgroup}`: parsers without I/O, and one capped reader.
//!
//! A process chooses parts of this text itself (its name), so nothing is trusted to be well formed.

use rustix::fd::OwnedFd;
use std::io::{self, Read};

/// 65,536 supplementary groups of ten digits fit.
const MAX_TEXT: u64 = 1 << 20;

pub(super) fn read_capped(file: OwnedFd) -> io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(MAX_TEXT)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 >= MAX_TEXT {
        return Err(io::Error::other("longer than 1 MiB"));
    }
    // The name in `status` may be any bytes; only ASCII lines are looked at.
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Field 22 of `stat`. The name, in parentheses, may itself hold spaces and parentheses: what follows
/// the last one counts (proc_pid_stat(5)).
pub(super) fn started(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    /// Effective.
    pub(super) uid: u32,
    /// Effective.
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// proc_pid_status(5). A newline in the process's name is shown escaped, so no line can be forged.
pub(super) fn status(text: &str) -> Option<Status> {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let effective = |ids: &str| ids.split_ascii_whitespace().nth(1)?.parse::<u32>().ok();
    let mut groups = line("Groups:")?
        .split_ascii_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<u32>, _>>()
        .ok()?;
    groups.sort_unstable();
    groups.dedup();
    Some(Status {
        uid: effective(line("Uid:")?)?,
        gid: effective(line("Gid:")?)?,
        groups,
    })
}

/// The path in the unified hierarchy (`0::`), else in systemd's own.
pub(super) fn cgroup(text: &str) -> Option<String> {
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    let named = || {
        text.lines()
            .find_map(|line| line.split_once(":name=systemd:").map(|(_, path)| path))
    };
    let path = match unified {
        Some("/") | None => named().or(unified)?,
        Some(path) => path,
    };
    path.starts_with('/').then(|| path.to_owned())
}

/// The system manager's unit of a cgroup path: the first part that is not a slice. What lies below
/// belongs to whom the unit delegates to (`user@1000.service`, a container engine) and proves nothing.
/// systemd escapes a name that could be confused with a kernel file by a leading `_`.
#[must_use]
pub fn unit_of_cgroup(cgroup: &str) -> Option<String> {
    let first = cgroup
        .split('/')
        .filter(|part| !part.is_empty())
        .find(|part| !part.ends_with(".slice"))?;
    let name = first.strip_prefix('_').unwrap_or(first);
    let (stem, kind) = name.rsplit_once('.')?;
    let known = matches!(kind, "service" | "scope" | "socket" | "mount" | "swap");
    (known && !stem.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_start_time() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 99";
        assert_eq!(started(&format!("7 (a) S 0 (b) {fields}")), Some(4242));
        assert_eq!(started("7 (a"), None);
        assert_eq!(started("7 (a) S 1"), None);
    }

    #[test]
    fn status_takes_effective_ids_and_sorts_groups() {
        let text =
            "Name:\tx\\nUid:\t0\t0\t0\t0\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t30 4 30 \n";
        let status = status(text).unwrap();
        assert_eq!((status.uid, status.gid, status.groups), (2, 6, vec![4, 30]));
        assert!(super::status("Uid:\t1\n").is_none());
    }

    #[test]
    fn cgroups_of_both_hierarchies() {
        for (text, path) in [
            (
                "0::/system.slice/a.service\n",
                Some("/system.slice/a.service"),
            ),
            ("1:name=systemd:/x\n0::/\n", Some("/x")),
            ("0::/\n", Some("/")),
            ("4:memory:/m\n", None),
            ("0::relative\n", None),
        ] {
            assert_eq!(cgroup(text).as_deref(), path, "{text:?}");
        }
    }

    #[test]
    fn units_are_the_system_managers_and_not_what_is_delegated() {
        for (path, unit) in [
            ("/system.slice/payments.service", Some("payments.service")),
            (
                "/system.slice/payments.service/child",
                Some("payments.service"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/payments.service",
                Some("user@1000.service"),
            ),
            (
                "/user.slice/user-0.slice/session-2.scope",
                Some("session-2.scope"),
            ),
            ("/system.slice/_cgroup.service", Some("cgroup.service")),
            ("/docker/payments.service", None),
            ("/system.slice/.service", None),
            ("/", None),
            ("/../payments.service", None),
        ] {
            assert_eq!(unit_of_cgroup(path).as_deref(), unit, "{path}");
        }
    }
}
