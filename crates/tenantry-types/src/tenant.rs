//! What the operator says about a tenant.

use crate::{Error, Limits, Location, OwnDatabase, PlanName, Result, TenantName};
use std::collections::BTreeMap;

/// Where a tenant stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TenantState {
    /// Served.
    Active,
    /// Refused with [`crate::ErrorKind::Suspended`] until resumed; nothing is lost.
    Suspended,
    /// Being filled by an import or as a copy: its name is taken, and it answers like no tenant.
    Provisioning,
    /// Erased: its data key is gone and its bytes are being removed. Answers like no tenant.
    Deleted,
}

/// Where a tenant lives on its backend; ordered from the weakest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Isolation {
    /// In one keyspace with others, told apart by the key's first eight bytes.
    #[default]
    Shared,
    /// In a keyspace of its own.
    Schema,
    /// In a database of its own.
    Database,
}

impl Isolation {
    /// All, from the weakest.
    pub const ALL: [Self; 3] = [Self::Shared, Self::Schema, Self::Database];

    /// Its word in settings, commands and protocols.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Schema => "schema",
            Self::Database => "database",
        }
    }

    /// The isolation with this word.
    pub fn parse(word: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|one| one.word() == word);
        found.ok_or_else(|| {
            Error::invalid(format!(
                "the isolation {word:?} does not exist: it is shared, schema or database"
            ))
        })
    }
}

/// What a caller gives a request, or an event, so that a repetition is known: 1 to 255 visible ASCII
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The longest, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// Parses one.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_as("idempotency key", text)
    }

    /// The same of a part of a request that is called so.
    pub(crate) fn parse_as(what: &str, text: &str) -> Result<Self> {
        let is_sane = (1..=Self::BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_sane {
            let why = format!("{what}: 1 to {} visible ASCII characters", Self::BYTES_MAX);
            return Err(Error::invalid(why));
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The tenant to create.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantSpec {
    /// The name, unique among living tenants.
    pub name: TenantName,
    /// The share of the machine relative to other tenants, 1 to 1,000; 100 is usual.
    pub weight: u16,
    /// The tenant's limits.
    pub limits: Limits,
    /// The plan that it has from the commit on that makes it.
    pub plan: Option<PlanName>,
    /// Free settings by key, at most 64 KiB in all.
    pub settings: BTreeMap<String, String>,
    /// Whether the tenant starts with [`crate::DEFAULT_DATABASE`].
    pub default_database: bool,
    /// Where it lives; `None` leaves it to the installation's default.
    pub isolation: Option<Isolation>,
    /// Which database it is in; `None` leaves it to the installation's default, or to
    /// `own_database` if that is given. [`Location::Own`] needs one, and others refuse one.
    pub location: Option<Location>,
    /// The database that the tenant carries.
    pub own_database: Option<OwnDatabase>,
    /// By what the request that makes it is known again; kept with the tenant.
    pub made_by: Option<[u8; 32]>,
}

impl TenantSpec {
    /// A tenant with usual weight, default limits and the default database.
    pub fn new(name: TenantName) -> Self {
        Self {
            name,
            weight: 100,
            limits: Limits::default(),
            plan: None,
            settings: BTreeMap::new(),
            default_database: true,
            isolation: None,
            location: None,
            own_database: None,
            made_by: None,
        }
    }
}
