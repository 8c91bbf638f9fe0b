//! What a policy says of a tenant, and why.

use std::{fmt, time::Duration};
use tenantry_store::{MoveTarget, TenantSizes};
use tenantry_types::Location;

/// What a policy says of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A rule moves it.
    Move(Decision),
    /// A rule would move it, and something is in the way.
    Blocked(Decision, Block),
    /// It stays.
    Stay(Stay),
}

/// Why a tenant is not moved that a rule would move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// Its plan does not have it live there: that is as the operator wants it.
    Plan(String),
    /// This process cannot make it there, for this reason.
    Site(String),
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(why) | Self::Site(why) => f.write_str(why),
        }
    }
}

/// What a rule says of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Which rule, from zero.
    pub rule: usize,
    /// Where the tenant is to live.
    pub to: MoveTarget,
    /// Why, in words.
    pub why: String,
}

/// Why a tenant stays where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stay {
    /// It is in a database that it carries.
    Own,
    /// An import or a copy still fills it.
    Arriving,
    /// A move of it is not over.
    Moving,
    /// Its operator wants it so, by the setting.
    Fixed,
    /// No rule is about tenants that live so.
    NoRule,
    /// It was made or moved not long ago, and is left alone for so long.
    Recent(Duration),
    /// It lives at a location that this process was not given.
    Away(Location),
    /// Its place was never made: there is nothing to move.
    Empty,
    /// It is as large as it should be where it lives.
    Fits {
        /// Its records.
        records: u64,
        /// Bytes of its vectors.
        bytes: u64,
    },
    /// It was changed while it was looked at.
    Changed,
    /// It could not be looked at.
    Unseen(String),
}

impl Verdict {
    /// `move`, `blocked` or `stay`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Move(_) => "move",
            Self::Blocked(..) => "blocked",
            Self::Stay(_) => "stay",
        }
    }

    /// What a rule says, if one applies.
    pub fn decision(&self) -> Option<&Decision> {
        match self {
            Self::Move(decision) | Self::Blocked(decision, _) => Some(decision),
            Self::Stay(_) => None,
        }
    }
}

/// Why.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Move(decision) => f.write_str(&decision.why),
            Self::Blocked(decision, why) => write!(f, "{}; but {why}", decision.why),
            Self::Stay(why) => why.fmt(f),
        }
    }
}

impl Stay {
    pub(super) fn fits(sizes: &TenantSizes) -> Self {
        Self::Fits { records: sizes.records, bytes: sizes.vector_bytes }
    }
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = super::SETTING;
        match self {
            Self::Own => f.write_str("it is in a database of its own"),
            Self::Arriving => f.write_str("it is still being filled"),
            Self::Moving => f.write_str("it is being moved"),
            Self::Fixed => write!(f, "its setting {key} is {value}"),
            Self::NoRule => f.write_str("no rule is about tenants that live so"),
            Self::Recent(left) => {
                let seconds = left.as_millis().div_ceil(1_000);
                let (number, unit) = match seconds {
                    0..120 => (seconds, "s"),
                    120..7_200 => (seconds.div_ceil(60), "min"),
                    _ => (seconds.div_ceil(3_600), "h"),
                };
                write!(
                    f,
                    "it was made or moved not long ago, and stays for another {number} {unit}"
                )
            }
            Self::Away(location) => {
                write!(f, "it lives at {location}, and there is no such location here")
            }
            Self::Empty => f.write_str("its place was never used"),
            Self::Fits { records, bytes } => {
                write!(f, "no rule's bounds are met by {records} records, {bytes} bytes")
            }
            Self::Changed => f.write_str("it was changed while it was looked at"),
            Self::Unseen(why) => write!(f, "it cannot be looked at: {why}"),
        }
    }
}
