//! TCB statuses and how those of several parts become one, as Intel's quote verification library does.

use serde::Deserialize;
use std::fmt;

/// What Intel says of a TCB level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum TcbStatus {
    UpToDate,
    SWHardeningNeeded,
    ConfigurationNeeded,
    ConfigurationAndSWHardeningNeeded,
    /// A trust domain was launched under an old module that was updated since.
    #[serde(skip)]
    TDRelaunchAdvised,
    #[serde(skip)]
    TDRelaunchAdvisedConfigurationNeeded,
    OutOfDate,
    OutOfDateConfigurationNeeded,
    Revoked,
}

use TcbStatus::{
    ConfigurationAndSWHardeningNeeded, ConfigurationNeeded, OutOfDate,
    OutOfDateConfigurationNeeded, Revoked, SWHardeningNeeded, TDRelaunchAdvised,
    TDRelaunchAdvisedConfigurationNeeded, UpToDate,
};

impl TcbStatus {
    /// Those that Intel gives to a TCB level.
    pub const PUBLISHED: [Self; 7] = [
        UpToDate,
        SWHardeningNeeded,
        ConfigurationNeeded,
        ConfigurationAndSWHardeningNeeded,
        OutOfDate,
        OutOfDateConfigurationNeeded,
        Revoked,
    ];

    /// The platform's status with that of a part of it: the quoting enclave, or the TDX module.
    pub(super) const fn with_part(self, part: Self) -> Self {
        match (part, self) {
            (Revoked, _) | (_, Revoked) => Revoked,
            (
                OutOfDate | OutOfDateConfigurationNeeded,
                ConfigurationNeeded
                | ConfigurationAndSWHardeningNeeded
                | OutOfDateConfigurationNeeded,
            )
            | (OutOfDateConfigurationNeeded, _) => OutOfDateConfigurationNeeded,
            (OutOfDate, _) => OutOfDate,
            _ => self,
        }
    }

    /// The status under which a trust domain was launched, and that of the module that runs now
    /// (TDX 1.5): an update without a relaunch leaves what the old module may have leaked.
    pub(super) const fn relaunch(self, current: Self) -> Self {
        match (self, current) {
            (_, Revoked) => Revoked,
            (
                OutOfDate | OutOfDateConfigurationNeeded,
                UpToDate
                | SWHardeningNeeded
                | ConfigurationNeeded
                | ConfigurationAndSWHardeningNeeded,
            ) => {
                if self.needs_configuration() || current.needs_configuration() {
                    TDRelaunchAdvisedConfigurationNeeded
                } else {
                    TDRelaunchAdvised
                }
            }
            _ => self,
        }
    }

    const fn needs_configuration(self) -> bool {
        matches!(
            self,
            ConfigurationNeeded
                | ConfigurationAndSWHardeningNeeded
                | OutOfDateConfigurationNeeded
                | TDRelaunchAdvisedConfigurationNeeded
        )
    }

    /// As Intel spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            UpToDate => "UpToDate",
            SWHardeningNeeded => "SWHardeningNeeded",
            ConfigurationNeeded => "ConfigurationNeeded",
            ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            TDRelaunchAdvised => "TDRelaunchAdvised",
            TDRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            OutOfDate => "OutOfDate",
            OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Revoked => "Revoked",
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ConfigurationAndSWHardeningNeeded, ConfigurationNeeded, OutOfDate,
        OutOfDateConfigurationNeeded, Revoked, SWHardeningNeeded, TDRelaunchAdvised,
        TDRelaunchAdvisedConfigurationNeeded, TcbStatus, UpToDate,
    };

    #[test]
    fn an_old_part_makes_the_platform_old() {
        for (platform, part, whole) in [
            (UpToDate, UpToDate, UpToDate),
            (SWHardeningNeeded, UpToDate, SWHardeningNeeded),
            (UpToDate, OutOfDate, OutOfDate),
            (SWHardeningNeeded, OutOfDate, OutOfDate),
            (ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded),
            (
                OutOfDateConfigurationNeeded,
                OutOfDate,
                OutOfDateConfigurationNeeded,
            ),
            (UpToDate, Revoked, Revoked),
            (Revoked, UpToDate, Revoked),
            (Revoked, OutOfDate, Revoked),
        ] {
            assert_eq!(platform.with_part(part), whole, "{platform} and {part}");
        }
    }

    #[test]
    fn no_part_makes_the_platform_better() {
        for platform in TcbStatus::PUBLISHED {
            for part in TcbStatus::PUBLISHED {
                assert!(
                    platform.with_part(part) >= platform,
                    "{platform} and {part}"
                );
            }
        }
    }

    #[test]
    fn an_update_without_a_relaunch_is_said() {
        for (launched, current, whole) in [
            (OutOfDate, UpToDate, TDRelaunchAdvised),
            (
                OutOfDate,
                ConfigurationNeeded,
                TDRelaunchAdvisedConfigurationNeeded,
            ),
            (
                OutOfDateConfigurationNeeded,
                UpToDate,
                TDRelaunchAdvisedConfigurationNeeded,
            ),
            (
                OutOfDate,
                ConfigurationAndSWHardeningNeeded,
                TDRelaunchAdvisedConfigurationNeeded,
            ),
            (OutOfDate, OutOfDate, OutOfDate),
            (UpToDate, OutOfDate, UpToDate),
            (UpToDate, Revoked, Revoked),
        ] {
            assert_eq!(
                launched.relaunch(current),
                whole,
                "{launched}, now {current}"
            );
        }
    }
}
