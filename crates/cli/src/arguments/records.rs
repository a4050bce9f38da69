//! Questions to the records: search, accesses, history, unused, replay.

use clap::Args;
use facts::Timestamp;
use std::path::PathBuf;

/// Where the ledgers are.
#[derive(Debug, Clone, Args)]
pub struct FolderArguments {
    /// The `data_dir` of a server, gateway or decision point, whose process may be running, or the folder of
    /// one ledger; may be given more than once
    #[arg(long = "folder", value_name = "DIR", required_unless_present = "pdp")]
    pub folders: Vec<PathBuf>,
    /// Keep the indices here instead of beside the ledgers
    #[arg(long, value_name = "DIR", requires = "folders")]
    pub index: Option<PathBuf>,
    /// Ask a decision point that runs, by its socket, instead of folders
    #[arg(long, value_name = "SOCKET", conflicts_with = "folders")]
    pub pdp: Option<PathBuf>,
}

/// What is not asked.
#[derive(Debug, Clone, Args)]
pub struct WithoutArguments {
    /// Leave this ledger out, whatever is here of it: its gateway is gone, and records of it are missing or were
    /// pruned; the answer says so. May be given more than once
    #[arg(long = "without", value_name = "NAME", conflicts_with = "pdp")]
    pub names: Vec<String>,
}

/// As [`FolderArguments`], where the server can be asked instead.
#[derive(Debug, Clone, Args)]
pub struct MaybeFolderArguments {
    /// Ask the ledgers of this folder instead of the server: the `data_dir` of a server, gateway or decision
    /// point, whose process may be running, or the folder of one ledger; may be given more than once
    #[arg(long = "folder", value_name = "DIR")]
    pub folders: Vec<PathBuf>,
    /// Keep the indices here instead of beside the ledgers
    #[arg(long, value_name = "DIR", requires = "folders")]
    pub index: Option<PathBuf>,
    /// Ask a decision point that runs, by its socket
    #[arg(long, value_name = "SOCKET", conflicts_with = "folders")]
    pub pdp: Option<PathBuf>,
}

/// A point in time: so long ago (`30d`, `12h`), a day or an instant in UTC (`2026-05-12`,
/// `2026-05-12T08:30:00Z`), or Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub u64);

impl std::str::FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        moment(text, Timestamp::now().as_millis()).map(Self).ok_or_else(|| {
            format!("`{text}` is no time: write 30d, 12h, 2026-05-12, 2026-05-12T08:30:00Z or Unix milliseconds")
        })
    }
}

fn moment(text: &str, now: u64) -> Option<u64> {
    if let Some(ago) = ago(text) {
        return Some(now.saturating_sub(ago));
    }
    if text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let (day, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let mut parts = day.split('-');
    let (year, month, date) = (parts.next()?, parts.next()?, parts.next()?);
    let shaped = year.len() == 4 && month.len() == 2 && date.len() == 2 && parts.next().is_none();
    let days = days(
        shaped.then_some(year)?.parse().ok()?,
        month.parse().ok()?,
        date.parse().ok()?,
    )?;
    let time = time.strip_suffix('Z')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = clock.split(':');
    let (hour, minute, second): (u64, u64, u64) = (
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 || fraction.len() > 3 {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}").parse().ok()?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
}

/// A length of time in milliseconds: a number and a unit.
fn ago(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds)?.checked_mul(1_000)
}

/// Days from 1970 to a date of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let lengths = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let month = usize::try_from(month.checked_sub(1)?).ok()?;
    if day == 0 || day > *lengths.get(month)? || !(1970..10_000).contains(&year) {
        return None;
    }
    let before = year - 1;
    let of_years = before * 365 + before / 4 - before / 100 + before / 400;
    let of_months: u64 = lengths.iter().take(month).sum();
    // Days from the year 1 to 1970.
    (of_years + of_months + day - 1).checked_sub(719_162)
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  trilith ledger accesses --folder /var/lib/trilith/server --by agents/helper\n  trilith ledger accesses --folder /var/lib/trilith/server --of shop/public/cards --since 30d --verify\n  trilith ledger accesses --folder /var/lib/trilith/server --on-behalf-of people/ada\n  trilith ledger accesses --folder /var/lib/trilith/server --by agents/helper --without pg-old\n  trilith ledger accesses --folder /var/lib/trilith/gateway --of 'shop/public/*' --receipts --json"
)]
pub struct AccessesArguments {
    #[command(flatten)]
    pub at: FolderArguments,
    #[command(flatten)]
    pub without: WithoutArguments,
    /// What this identity has read and modified
    #[arg(long, value_name = "IDENTITY", required_unless_present_any = ["of", "on_behalf_of"])]
    pub by: Option<String>,
    /// Who touched this resource; `shop/public/*` for everything below
    #[arg(long, value_name = "RESOURCE")]
    pub of: Option<String>,
    /// What was done on behalf of this identity, proven or told
    #[arg(long, value_name = "IDENTITY")]
    pub on_behalf_of: Option<String>,
    /// From then on: `30d`, `12h`, `2026-05-12`, `2026-05-12T08:30:00Z`
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Before then
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
    /// With the receipts of each row's first and last record (in JSON)
    #[arg(long)]
    pub receipts: bool,
    /// Derive the answer again from every record of the ledgers, and say if the index lied
    #[arg(long, conflicts_with = "pdp")]
    pub verify: bool,
}

#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// An identity's path, a resource, or with --policy a policy's id
    pub of: String,
    /// Only this action, on RESOURCE
    #[arg(requires = "resource")]
    pub action: Option<String>,
    /// The resource of ACTION
    pub resource: Option<String>,
    /// OF is the id of a policy
    #[arg(long, conflicts_with = "action")]
    pub policy: bool,
    #[command(flatten)]
    pub at: FolderArguments,
    /// With the receipt of each version's record (in JSON)
    #[arg(long)]
    pub receipts: bool,
}

#[derive(Debug, Args)]
pub struct UnusedArguments {
    #[command(flatten)]
    pub at: FolderArguments,
    #[command(flatten)]
    pub without: WithoutArguments,
    /// What counts as used: whatever was seen since then
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub window: Moment,
    /// The estate's folder; without it, the version in force
    #[arg(long, value_name = "DIR", conflicts_with = "pdp")]
    pub estate: Option<PathBuf>,
    /// Print the smaller estate as a patch of its folder: proved not to widen, replayed on what was observed
    #[arg(long, conflicts_with = "pdp")]
    pub patch: bool,
}

#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// Folder of the proposed estate
    #[arg(long, value_name = "DIR")]
    pub estate: PathBuf,
    #[command(flatten)]
    pub at: FolderArguments,
    #[command(flatten)]
    pub without: WithoutArguments,
    /// Accesses from then on
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub since: Moment,
    /// Accesses before then
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_the_calendar_says() {
        let now = 1_000_000_000_000;
        assert_eq!(moment("30d", now), Some(now - 30 * 86_400_000));
        assert_eq!(moment("1970-01-01", now), Some(0));
        for day in ["2000-02-29", "2024-12-31", "2026-05-12", "2100-03-01"] {
            let millis = moment(day, now).unwrap();
            assert_eq!(
                Timestamp::from_millis(millis).to_string(),
                format!("{day}T00:00:00.000Z")
            );
        }
        let whole = "2026-05-12T08:30:01.250Z";
        assert_eq!(
            Timestamp::from_millis(moment(whole, now).unwrap()).to_string(),
            whole
        );
        assert_eq!(moment("1700000000000", now), Some(1_700_000_000_000));
        for wrong in [
            "",
            "d",
            "yesterday",
            "2026-13-01",
            "2023-02-29",
            "2026-05-12T25:00:00Z",
            "2026-05-12T08:30:00",
            "-5d",
            "2026-5-1",
            "ü",
        ] {
            assert_eq!(moment(wrong, now), None, "{wrong}");
        }
    }
}
