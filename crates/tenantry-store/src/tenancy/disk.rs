//! What values look like on disk: postcard-encoded enums whose variant is the version.
//!
//! Private to this backend, so that no change of an API is a change of the format. Field and
//! variant order is the format: append new variants, never reorder. `docs/formats/embedded.md`
//! describes it, and a committed fixture is opened by a test for ever.

mod budget;
mod collection;
mod log;
mod member;
mod plan;
mod record;
mod usage;
mod webhook;

pub(crate) use budget::DiskThresholds;
pub(crate) use collection::DiskCollection;
pub(crate) use log::{DiskAudit, DiskChange, DiskTold, Touched};
pub(crate) use member::{DiskGroup, DiskMember, DiskMemberCounts};
pub(crate) use plan::{DiskPlan, DiskTerms};
pub(crate) use record::{
    Body, DiskStatistics, Kept, Stamp, Statistics, VectorsOf, decode_vector, encode_vector,
};
pub(crate) use usage::{
    DiskCounted, DiskEvent, DiskEventDay, DiskJournal, DiskKept, DiskSeen, DiskTariff, DiskUsage,
};
pub(crate) use webhook::{DiskDeadLetter, DiskDelivery, DiskWebhook, Signed};

use super::usage::Counted;
use crate::{DatabaseInfo, TenantInfo};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use tenantry_auth::TenantId;
use tenantry_types::{
    DatabaseId, DatabaseName, DatabaseNumber, Error, Exceptions, Isolation, Limits, Location,
    Metadata, OwnDatabase, Result, SecretText, TenantName, TenantState, Timestamp, Value,
};
use zeroize::{Zeroize as _, Zeroizing};

/// Encodes a row.
pub(crate) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    postcard::to_stdvec(row).expect("rows hold nothing that postcard cannot encode")
}

/// Decodes a row that was opened, so damage here means a bug or a newer version.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((row, [])) => Ok(row),
        Ok(_) => Err(unreadable(what)),
        Err(why) => Err(Error::corrupt(format!("row of {what} cannot be read")).with_source(why)),
    }
}

pub(super) fn unreadable(what: &str) -> Error {
    Error::corrupt(format!("row of {what} holds an unknown value; written by a newer version?"))
}

/// The installation's or a tenant's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DiskHead {
    V1(Head),
    /// With the number of the last note that the log has taken over; only of tenants apart.
    V2(Head, u64),
    /// The same of a tenant that was moved, or is being moved.
    V3(Head, DiskMoved),
    /// The same of one whose log is of version 2 by now; its parts may say nothing.
    V4(Head, DiskMoved),
    /// The same of one that is counted, whatever its log is.
    V5(Head, DiskMoved, bool, DiskCounted),
}

/// What only tenants have that were moved, or are being moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskMoved {
    told: u64,
    stay: u32,
    hold: Option<u64>,
}

impl DiskHead {
    pub(crate) fn from_head(head: &Head) -> Self {
        let Head { told, stay, hold, is_bound, .. } = *head;
        if let Some(counted) = &head.usage {
            let (moved, counted) = (DiskMoved { told, stay, hold }, DiskCounted::new(counted));
            return Self::V5(head.clone(), moved, is_bound, counted);
        }
        match (told, stay, hold) {
            _ if is_bound => Self::V4(head.clone(), DiskMoved { told, stay, hold }),
            (0, 0, None) => Self::V1(head.clone()),
            (told, 0, None) => Self::V2(head.clone(), told),
            (told, stay, hold) => Self::V3(head.clone(), DiskMoved { told, stay, hold }),
        }
    }

    pub(crate) fn into_head(self) -> Result<Head> {
        Ok(match self {
            Self::V1(head) => head,
            Self::V2(head, told) => Head { told, ..head },
            Self::V3(head, DiskMoved { told, stay, hold }) => Head { told, stay, hold, ..head },
            Self::V4(head, DiskMoved { told, stay, hold }) => {
                Head { told, stay, hold, is_bound: true, ..head }
            }
            Self::V5(head, DiskMoved { told, stay, hold }, is_bound, counted) => {
                let usage = Some(Box::new(counted.read()?));
                Head { told, stay, hold, is_bound, usage, ..head }
            }
        })
    }
}

/// Counters of one tenant; see [`DiskHead`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The last commit.
    pub(crate) sequence: u64,
    /// The highest database number assigned.
    pub(crate) last_database: u32,
    /// The highest collection number assigned.
    pub(crate) last_collection: u32,
    /// Databases that exist.
    pub(crate) databases: u32,
    /// Collections that exist.
    pub(crate) collections: u32,
    /// Keys that exist.
    pub(crate) keys: u32,
    /// The last audit entry.
    pub(crate) audit_sequence: u64,
    /// Its hash; zeros before the first.
    pub(crate) audit_hash: [u8; 32],
    /// The last note of the root that the log has taken over; see [`DiskHead::V2`].
    #[serde(skip)]
    pub(crate) told: u64,
    /// In which of the tenant's places these counters are; see `Placement`.
    #[serde(skip)]
    pub(crate) stay: u32,
    /// Change rows from this sequence on are kept for a move.
    #[serde(skip)]
    pub(crate) hold: Option<u64>,
    /// The last entry of the log is of version 2, and so must be all that follow.
    #[serde(skip)]
    pub(crate) is_bound: bool,
    /// What was counted; none of a tenant that never was.
    #[serde(skip)]
    pub(crate) usage: Option<Box<Counted>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskTenant {
    /// At home.
    V1(DiskTenantV1),
    /// With the word of its location.
    V2(DiskTenantV1, String),
    /// The same, while it is being filled; `home` is a word, too.
    V3(DiskTenantV1, String),
    /// With a plan or exceptions, wherever it is and filled or not.
    V4(DiskTenantV1, String, DiskTerms),
    /// The same of one that was renamed, is deleted, or whose making must be known again; with or
    /// without a plan.
    V5(DiskTenantV1, String, DiskTerms, DiskPast),
}

/// What a tenant's row says of how it came about, and when it ends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskPast {
    named_at: u64,
    made_by: Option<[u8; 32]>,
    erase_at: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskTenantV1 {
    name: String,
    suspended: bool,
    isolation: u8,
    weight: u16,
    limits: [u64; 4],
    settings: BTreeMap<String, String>,
    created_at: u64,
    schema_version: u32,
}

impl DiskTenant {
    pub(crate) fn from_info(info: &TenantInfo) -> Self {
        let row = DiskTenantV1 {
            name: info.name.as_str().to_owned(),
            suspended: info.state == TenantState::Suspended,
            isolation: match info.isolation {
                Isolation::Shared => 0,
                Isolation::Schema => 1,
                Isolation::Database => 2,
            },
            weight: info.weight,
            limits: [
                info.limits.databases.into(),
                info.limits.collections.into(),
                info.limits.records_per_collection,
                info.limits.keys.into(),
            ],
            settings: info.settings.clone(),
            created_at: info.created_at.0,
            schema_version: 1,
        };
        let terms = DiskTerms::of(info);
        let TenantInfo { named_at, made_by, erase_at, .. } = *info;
        if named_at != info.created_at || made_by.is_some() || erase_at.is_some() {
            let erase_at = erase_at.map(|at| at.0);
            let past = DiskPast { named_at: named_at.0, made_by, erase_at };
            return Self::V5(row, info.location.to_string(), terms, past);
        }
        if !terms.is_empty() {
            return Self::V4(row, info.location.to_string(), terms);
        }
        match info.location {
            location if info.state == TenantState::Provisioning => {
                Self::V3(row, location.to_string())
            }
            Location::Home => Self::V1(row),
            location @ (Location::Named(_) | Location::Own) => Self::V2(row, location.to_string()),
        }
    }

    pub(crate) fn into_info(self, id: TenantId) -> Result<TenantInfo> {
        let location = |word: &str| Location::parse(word).map_err(|_| unreadable("a tenant"));
        let (row, location, is_whole, terms, past) = match self {
            Self::V1(row) => (row, Location::Home, true, None, None),
            Self::V2(row, word) => (row, location(&word)?, true, None, None),
            Self::V3(row, word) => (row, location(&word)?, false, None, None),
            Self::V4(row, word, terms) => {
                (row, location(&word)?, terms.is_whole(), Some(terms), None)
            }
            Self::V5(row, word, terms, past) => {
                (row, location(&word)?, terms.is_whole(), Some(terms), Some(past))
            }
        };
        let DiskPast { named_at, made_by, erase_at } =
            past.unwrap_or(DiskPast { named_at: row.created_at, made_by: None, erase_at: None });
        let terms = terms.map(DiskTerms::read).transpose()?;
        let usual = (None, Exceptions::default(), Limits::default());
        let (plan, exceptions, own) = terms.unwrap_or(usual);
        let DiskTenantV1 { name, suspended, isolation, weight, limits, settings, .. } = row;
        let small = |n: u64| u32::try_from(n).map_err(|_| unreadable("a tenant"));
        let [databases, collections, records_per_collection, keys] = limits;
        Ok(TenantInfo {
            id,
            name: TenantName::parse(name)?,
            state: match (is_whole, suspended) {
                (false, _) => TenantState::Provisioning,
                (true, true) => TenantState::Suspended,
                (true, false) => TenantState::Active,
            },
            isolation: match isolation {
                0 => Isolation::Shared,
                1 => Isolation::Schema,
                2 => Isolation::Database,
                _ => return Err(unreadable("a tenant")),
            },
            location,
            weight,
            limits: Limits {
                databases: small(databases)?,
                collections: small(collections)?,
                records_per_collection,
                keys: small(keys)?,
                ..own
            },
            plan,
            exceptions,
            settings,
            created_at: Timestamp(row.created_at),
            named_at: Timestamp(named_at),
            made_by,
            erase_at: erase_at.map(Timestamp),
        })
    }
}

/// The database that a tenant carries, sealed with the installation's key.
#[derive(Serialize, Deserialize)]
pub(crate) enum DiskOwn {
    V1 { url: String, admin_url: Option<String> },
}

impl DiskOwn {
    pub(crate) fn encode(own: &OwnDatabase) -> Zeroizing<Vec<u8>> {
        let text = |secret: &SecretText| secret.reveal().to_owned();
        let mut row = Self::V1 { url: text(&own.url), admin_url: own.admin_url.as_ref().map(text) };
        let bytes = Zeroizing::new(encode(&row));
        let Self::V1 { url, admin_url } = &mut row;
        url.zeroize();
        admin_url.zeroize();
        bytes
    }

    pub(crate) fn into_own(self) -> OwnDatabase {
        let Self::V1 { url, admin_url } = self;
        OwnDatabase { url: SecretText::new(url), admin_url: admin_url.map(SecretText::new) }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskDatabase {
    V1 { id: [u8; 16], name: String, created_at: u64 },
}

impl DiskDatabase {
    pub(crate) fn from_info(info: &DatabaseInfo) -> Self {
        Self::V1 {
            id: info.id.0,
            name: info.name.as_str().to_owned(),
            created_at: info.created_at.0,
        }
    }

    pub(crate) fn into_info(self, number: DatabaseNumber) -> Result<DatabaseInfo> {
        let Self::V1 { id, name, created_at } = self;
        Ok(DatabaseInfo {
            number,
            id: DatabaseId(id),
            name: DatabaseName::parse(name)?,
            created_at: Timestamp(created_at),
        })
    }
}

/// A metadata value. Append variants only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum DiskValue {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<DiskValue>),
}

impl From<&Value> for DiskValue {
    fn from(value: &Value) -> Self {
        match value {
            Value::Bool(v) => Self::Bool(*v),
            Value::Int(v) => Self::Int(*v),
            Value::Float(v) => Self::Float(*v),
            Value::Str(v) => Self::Str(v.clone()),
            Value::List(items) => Self::List(items.iter().map(Self::from).collect()),
        }
    }
}

impl From<DiskValue> for Value {
    fn from(value: DiskValue) -> Self {
        match value {
            DiskValue::Bool(v) => Self::Bool(v),
            DiskValue::Int(v) => Self::Int(v),
            DiskValue::Float(v) => Self::Float(v),
            DiskValue::Str(v) => Self::Str(v),
            DiskValue::List(items) => Self::List(items.into_iter().map(Self::from).collect()),
        }
    }
}

fn metadata_to_disk(metadata: &Metadata) -> BTreeMap<String, DiskValue> {
    metadata.iter().map(|(k, v)| (k.clone(), v.into())).collect()
}

fn metadata_from_disk(metadata: BTreeMap<String, DiskValue>) -> Metadata {
    metadata.into_iter().map(|(k, v)| (k, v.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_types::PlanName;

    #[test]
    fn counters_are_written_as_before_there_were_moves_unless_there_is_one() {
        let head = Head { sequence: 300, ..Head::default() };
        let old = encode(&DiskHead::V1(head.clone()));
        assert_eq!(old[..3], [0, 0xac, 2]);
        assert_eq!(encode(&DiskHead::from_head(&head)), old);
        let told = Head { told: 7, ..head.clone() };
        assert_eq!(DiskHead::from_head(&told), DiskHead::V2(told.clone(), 7));
        for (told, stay, hold) in [(0, 1, None), (0, 0, Some(1)), (9, 2, Some(u64::MAX))] {
            let head = Head { told, stay, hold, ..head.clone() };
            let bytes = encode(&DiskHead::from_head(&head));
            assert_eq!(bytes[0], 2);
            assert_eq!(decode::<DiskHead>(&bytes, "counters").unwrap().into_head().unwrap(), head);
        }
    }

    #[test]
    fn counters_say_that_a_log_is_of_version_2() {
        for (told, stay, hold) in [(0, 0, None), (7, 0, None), (9, 2, Some(u64::MAX))] {
            let head = Head { told, stay, hold, is_bound: true, ..Head::default() };
            let bytes = encode(&DiskHead::from_head(&head));
            assert_eq!(bytes[0], 3);
            assert_eq!(decode::<DiskHead>(&bytes, "counters").unwrap().into_head().unwrap(), head);
        }
    }

    #[test]
    fn counters_say_what_was_counted_once_something_was() {
        let mut counted = Counted::begin(Timestamp(7), true);
        counted.advance(Timestamp(4_000_000));
        for (told, stay, is_bound) in [(0, 0, false), (7, 0, true), (9, 2, true)] {
            let usage = Some(Box::new(counted.clone()));
            let head = Head { told, stay, is_bound, usage, ..Head::default() };
            let bytes = encode(&DiskHead::from_head(&head));
            assert_eq!(bytes[0], 4);
            let read: DiskHead = decode(&bytes, "counters").unwrap();
            assert_eq!(read.into_head().unwrap(), head);
        }
    }

    #[test]
    fn a_tenant_at_home_is_written_as_before_there_were_locations() {
        let info = |location| TenantInfo {
            id: TenantId::new(7),
            name: TenantName::parse("n").unwrap(),
            state: TenantState::Suspended,
            isolation: Isolation::Schema,
            location,
            weight: 100,
            limits: Limits {
                databases: 1,
                collections: 2,
                records_per_collection: 3,
                keys: 4,
                ..Limits::default()
            },
            plan: None,
            exceptions: Exceptions::default(),
            settings: BTreeMap::new(),
            created_at: Timestamp(5),
            named_at: Timestamp(5),
            made_by: None,
            erase_at: None,
        };
        let old = [1, b'n', 1, 1, 100, 1, 2, 3, 4, 0, 5, 1];
        for (word, version, location) in
            [("home", 0, &b""[..]), ("eu-1", 1, b"\x04eu-1"), ("own", 1, b"\x03own")]
        {
            let info = info(Location::parse(word).unwrap());
            let row = encode(&DiskTenant::from_info(&info));
            assert_eq!(row, [&[version], &old[..], location].concat());
            let read: DiskTenant = decode(&row, "a tenant").unwrap();
            assert_eq!(read.into_info(info.id).unwrap(), info);
            // While it is filled, its location is said wherever it is.
            let info = TenantInfo { state: TenantState::Provisioning, ..info };
            let row = encode(&DiskTenant::from_info(&info));
            assert_eq!((row[0], row[3]), (2, 0));
            assert!(row.ends_with(word.as_bytes()));
            let read: DiskTenant = decode(&row, "a tenant").unwrap();
            assert_eq!(read.into_info(info.id).unwrap(), info);
            // With a plan all of it is said.
            let info = TenantInfo { plan: Some(PlanName::parse("p").unwrap()), ..info };
            let row = encode(&DiskTenant::from_info(&info));
            let end = [&[u8::try_from(word.len()).unwrap()], word.as_bytes(), b"\0\x01\x01p\0"];
            assert_eq!((row[0], row[3]), (3, 0));
            assert!(row.ends_with(&end.concat()));
            let read: DiskTenant = decode(&row, "a tenant").unwrap();
            assert_eq!(read.into_info(info.id).unwrap(), info);
            // Known again.
            let again = TenantInfo { made_by: Some([6; 32]), ..info.clone() };
            let row = encode(&DiskTenant::from_info(&again));
            assert!(row[0] == 4 && row.ends_with(&[&[5, 1], &[6; 32][..], &[0]].concat()));
            let read: DiskTenant = decode(&row, "a tenant").unwrap();
            assert_eq!(read.into_info(info.id).unwrap(), again);
            // Deleted, and to be erased.
            let deleted = TenantInfo { erase_at: Some(Timestamp(7)), ..info.clone() };
            let row = encode(&DiskTenant::from_info(&deleted));
            assert!(row[0] == 4 && row.ends_with(&[5, 0, 1, 7]));
            let read: DiskTenant = decode(&row, "a tenant").unwrap();
            assert_eq!(read.into_info(info.id).unwrap(), deleted);
            // Renamed, also without a plan.
            for plan in [info.plan.clone(), None] {
                let info = TenantInfo { plan, named_at: Timestamp(9), ..info.clone() };
                let row = encode(&DiskTenant::from_info(&info));
                assert_eq!((row[0], row[3]), (4, 0));
                assert!(row.ends_with(&[9, 0, 0]));
                let read: DiskTenant = decode(&row, "a tenant").unwrap();
                assert_eq!(read.into_info(info.id).unwrap(), info);
            }
        }
    }

    #[test]
    fn the_urls_of_a_tenants_database_are_written_as_ever() {
        let text = |text: &str| SecretText::new(text.to_owned());
        for (admin_url, row) in
            [(None, &b"\x00\x02ab\x00"[..]), (Some("c"), b"\x00\x02ab\x01\x01c")]
        {
            let own = OwnDatabase { url: text("ab"), admin_url: admin_url.map(text) };
            assert_eq!(*DiskOwn::encode(&own), row);
            let read: DiskOwn = decode(row, "a database").unwrap();
            assert_eq!(read.into_own(), own);
        }
    }
}
