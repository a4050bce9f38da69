//! Packs: made, checked, and what to trust when one is.

use super::records::Moment;
use clap::Args;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "question")]
pub struct PackQuestion {
    /// One recorded decision or record, as `LEDGER:INDEX`
    #[arg(long, value_name = "RECORD")]
    pub record: Option<String>,
    /// Everything that an identity accessed: of each gateway's ledger its newest 10,000 records. The pack
    /// holds ledgers of at most 65,536 records whole, 64 MiB in all, and so shows that nothing is left out
    #[arg(long, value_name = "IDENTITY")]
    pub accesses: Option<String>,
    /// The issuance of one SVID, by serial; with the server's whole ledger, within the same limits
    #[arg(long, value_name = "SERIAL")]
    pub issuance: Option<String>,
    /// All of one session at a gateway, as `LEDGER:SESSION`: its operations, what became of them, and what the
    /// ledger says of itself meanwhile
    #[arg(long, value_name = "SESSION")]
    pub of_session: Option<String>,
    /// An identity from its first issuance to its last: verdicts, renewals, refusals, revocations, and how the
    /// machines went on that it was issued to
    #[arg(long, value_name = "IDENTITY")]
    pub lifetime: Option<String>,
    /// Records by place or by time, as `LEDGER:FROM..TO`: `pg-1:40..60` with both ends, or from one time until
    /// before another, which without LEDGER is of every ledger
    #[arg(long, value_name = "RANGE")]
    pub range: Option<RecordRange>,
    /// A change of the estate, by all digits of its version: who made it, what was proved and approved, the
    /// version before, and what was revoked for it
    #[arg(long, value_name = "VERSION")]
    pub estate: Option<String>,
    /// One verdict, by its index in the server's ledger: its evidence, and what rests on it
    #[arg(long, value_name = "INDEX")]
    pub verdict: Option<u64>,
}

/// Records of a ledger by their places, or of one ledger or all by their times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordRange {
    Places {
        ledger: String,
        from: u64,
        to: u64,
    },
    Times {
        ledger: Option<String>,
        from: u64,
        to: u64,
    },
}

/// Digits of a place, at most; Unix milliseconds have more.
const MAX_PLACE: usize = 11;

impl FromStr for RecordRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no range: write pg-1:40..60, pg-1:2026-05-12..2026-05-13, or 2h..1h for every ledger"
            )
        };
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if digits(to) && (1..=MAX_PLACE).contains(&to.len()) {
            let (ledger, from) = from.rsplit_once(':').ok_or_else(wrong)?;
            let ledger = ledger.to_owned();
            let from: u64 = from.parse().map_err(|_| wrong())?;
            let to: u64 = to.parse().map_err(|_| wrong())?;
            if from > to {
                return Err(format!(
                    "`{text}` ends before it begins: write {ledger}:{to}..{from}"
                ));
            }
            return Ok(Self::Places { ledger, from, to });
        }
        let moment = |text: &str| text.parse().ok().map(|Moment(at)| at);
        let to = moment(to).ok_or_else(wrong)?;
        let times = |ledger: Option<String>, from| match from < to {
            true => Ok(Self::Times { ledger, from, to }),
            false => Err(format!(
                "`{text}` ends before it begins: the first time is from when, the second until before when"
            )),
        };
        if let Some(from) = moment(from) {
            return times(None, from);
        }
        // A time has colons as well: the ledger ends at the first behind which there is one.
        let mut cuts = from.match_indices(':').filter_map(|(at, _)| {
            let (ledger, time) = from.split_at_checked(at)?;
            let from = moment(time.strip_prefix(':')?)?;
            Some((Some(ledger.to_owned()), from))
        });
        let (ledger, from) = cuts.next().ok_or_else(wrong)?;
        times(ledger, from)
    }
}

#[derive(Debug, Args)]
pub struct PackArguments {
    #[command(flatten)]
    pub question: PackQuestion,
    /// Where to write the pack
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Put these certificates of SVIDs beside their issuances, with those of the authorities above them: PEM, as
    /// `trilith files` writes `svid.pem`, or DER. For SVIDs of which the server keeps none. The pack is verified by
    /// what the server says to trust; from a copy, by --trust
    #[arg(long, value_name = "CHAIN")]
    pub certificate: Vec<PathBuf>,
    /// Leave out the certificates that the server keeps: for whoever's trust file has no root certificates, or older
    /// ones
    #[arg(long)]
    pub without_certificates: bool,
    /// Verify the pack and write what it shows as one page for people, which needs nothing else
    #[arg(long, value_name = "PAGE", requires = "trust")]
    pub html: Option<PathBuf>,
    /// What the page is verified by, and a pack from a copy before it is written: the file that `verify` takes
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// Make the pack of a copy, and ask no server: the folder of a server's `data_dir` that somebody keeps, or of its
    /// ledger or the tiles of it alone, with those of gateways beside it; several with commas, or given more than once
    #[arg(
        long = "folder",
        value_name = "COPY",
        value_delimiter = ',',
        requires = "trust"
    )]
    pub folders: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The file that `trilith pack` wrote, or a .tlog-proof of any log that the trust file names
    pub pack: PathBuf,
    /// What you trust: trust domain, ledger key, root certificates, and the policy of your witnesses
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// For a .tlog-proof: the record that is proved, byte for byte, unless the proof carries it as `extra`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Print every record of a pack as it stands, besides the account of what was done
    #[arg(long)]
    pub raw: bool,
    /// Write what the pack shows as one page for people, which needs nothing else; of one that does not verify
    /// the page says what does not hold
    #[arg(long, value_name = "PAGE")]
    pub html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct TrustArguments {
    /// Put this policy of logs, witnesses and a quorum (c2sp.org/tlog-policy) into the trust file; else the one of
    /// the server, if it has one
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_of_places_or_of_times() {
        let places = |ledger: &str, from, to| {
            let ledger = ledger.to_owned();
            Some(RecordRange::Places { ledger, from, to })
        };
        let times = |ledger: Option<&str>, from, to| {
            let ledger = ledger.map(str::to_owned);
            Some(RecordRange::Times { ledger, from, to })
        };
        let day = 1_778_544_000_000;
        for (text, expected) in [
            ("pg-1:40..60", places("pg-1", 40, 60)),
            (
                "example.org/gateway/pg-1:0..0",
                places("example.org/gateway/pg-1", 0, 0),
            ),
            ("2026-05-12..2026-05-13", times(None, day, day + 86_400_000)),
            (
                "pg-1:2026-05-12T00:00:01Z..2026-05-12T00:00:02Z",
                times(Some("pg-1"), day + 1_000, day + 2_000),
            ),
            (
                "2026-05-12T00:00:01Z..1778544002000",
                times(None, day + 1_000, day + 2_000),
            ),
            (
                "pg-1:1778544000000..1778544002000",
                times(Some("pg-1"), day, day + 2_000),
            ),
            ("40..60", None),
            ("pg-1:40", None),
            ("pg-1:a..60", None),
            ("pg-1:..60", None),
            ("pg-1:40..", None),
            ("..", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    /// The server answered that this was no question that a pack answers.
    #[test]
    fn a_range_whose_ends_are_reversed_is_told_so() {
        for (text, told) in [
            ("pg-1:60..40", "write pg-1:40..60"),
            ("pg-1:2026-05-13..2026-05-12", "until before when"),
            ("1h..2h", "until before when"),
            ("2026-05-12..2026-05-12", "until before when"),
        ] {
            let refused = text.parse::<RecordRange>().unwrap_err();
            assert!(
                refused.contains("ends before it begins") && refused.contains(told),
                "{text}: {refused}"
            );
        }
    }
}
