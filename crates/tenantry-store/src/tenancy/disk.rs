//! What values look like on disk: postcard-encoded enums whose variant is the version.
//!
//! Private to this backend, so that no change of an API is a change of the format. Field and
//! variant order is the format: append new variants, never reorder. `docs/formats/embedded.md`
//! describes it, and a committed fixture is opened by a test for ever.

mod log;
mod plan;
mod record;

pub(crate) use log::{DiskAudit, DiskChange, DiskTold, Touched};
pub(crate) use plan::{DiskPlan, DiskTerms};
pub(crate) use record::{Body, DiskStatistics, Stamp, Statistics, decode_vector, encode_vector};

use crate::{CollectionInfo, DatabaseInfo, TenantInfo, VectorInfo};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use tenantry_auth::TenantId;
use tenantry_types::{
    CollectionId, CollectionName, CollectionNumber, DatabaseId, DatabaseName, DatabaseNumber,
    Error, Isolation, Limits, Location, Metadata, Metric, OwnDatabase, Result, SecretText,
    TenantName, TenantState, Timestamp, Value, VectorName, VectorSpec, VectorStorage,
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
        match (told, stay, hold) {
            _ if is_bound => Self::V4(head.clone(), DiskMoved { told, stay, hold }),
            (0, 0, None) => Self::V1(head.clone()),
            (told, 0, None) => Self::V2(head.clone(), told),
            (told, stay, hold) => Self::V3(head.clone(), DiskMoved { told, stay, hold }),
        }
    }

    pub(crate) fn into_head(self) -> Head {
        match self {
            Self::V1(head) => head,
            Self::V2(head, told) => Head { told, ..head },
            Self::V3(head, DiskMoved { told, stay, hold }) => Head { told, stay, hold, ..head },
            Self::V4(head, DiskMoved { told, stay, hold }) => {
                Head { told, stay, hold, is_bound: true, ..head }
            }
        }
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
        if let Some(terms) = DiskTerms::of(info) {
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
        let (row, location, is_whole, terms) = match self {
            Self::V1(row) => (row, Location::Home, true, None),
            Self::V2(row, word) => (row, location(&word)?, true, None),
            Self::V3(row, word) => (row, location(&word)?, false, None),
            Self::V4(row, word, terms) => (row, location(&word)?, terms.is_whole(), Some(terms)),
        };
        let terms = terms.map(DiskTerms::read).transpose()?;
        let (plan, exceptions) = terms.unwrap_or_default();
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
            },
            plan,
            exceptions,
            settings,
            created_at: Timestamp(row.created_at),
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

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskCollection {
    V1 {
        database: u32,
        id: [u8; 16],
        name: String,
        metric: u8,
        dimension: Option<u32>,
        metadata: Option<BTreeMap<String, DiskValue>>,
        attributes: BTreeMap<String, String>,
        created_at: u64,
        /// Named vectors: name → number, metric, dimension. Never written but empty.
        vectors: BTreeMap<String, (u16, u8, Option<u32>)>,
    },
    V2(Box<DiskCollectionV2>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskCollectionV2 {
    database: u32,
    id: [u8; 16],
    name: String,
    metadata: Option<BTreeMap<String, DiskValue>>,
    attributes: BTreeMap<String, String>,
    created_at: u64,
    /// The unnamed vector, whose number is 0.
    vector: DiskVector,
    /// Named vectors.
    vectors: BTreeMap<String, (u16, DiskVector)>,
    /// The highest number that a named vector was given.
    last_vector: u16,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct DiskVector {
    metric: u8,
    dimension: Option<u32>,
    storage: u8,
}

impl From<VectorSpec> for DiskVector {
    fn from(spec: VectorSpec) -> Self {
        Self {
            metric: match spec.metric {
                Metric::L2 => 0,
                Metric::Cosine => 1,
                Metric::InnerProduct => 2,
            },
            dimension: spec.dimension,
            storage: match spec.storage {
                VectorStorage::Full => 0,
                VectorStorage::Half => 1,
                VectorStorage::Int8 => 2,
            },
        }
    }
}

impl DiskVector {
    fn spec(self) -> Result<VectorSpec> {
        Ok(VectorSpec {
            metric: match self.metric {
                0 => Metric::L2,
                1 => Metric::Cosine,
                2 => Metric::InnerProduct,
                _ => return Err(unreadable("a collection")),
            },
            dimension: self.dimension,
            storage: match self.storage {
                0 => VectorStorage::Full,
                1 => VectorStorage::Half,
                2 => VectorStorage::Int8,
                _ => return Err(unreadable("a collection")),
            },
        })
    }
}

impl DiskCollection {
    pub(crate) fn from_info(info: &CollectionInfo) -> Self {
        let CollectionInfo { metric, dimension, storage, .. } = *info;
        let vector = |(name, one): (&VectorName, &VectorInfo)| {
            (name.as_str().to_owned(), (one.number, one.spec.into()))
        };
        Self::V2(Box::new(DiskCollectionV2 {
            database: info.database.0,
            id: info.id.0,
            name: info.name.as_str().to_owned(),
            metadata: info.metadata.as_ref().map(metadata_to_disk),
            attributes: info.attributes.clone(),
            created_at: info.created_at.0,
            vector: VectorSpec { metric, dimension, storage }.into(),
            vectors: info.vectors.iter().map(vector).collect(),
            last_vector: info.last_vector,
        }))
    }

    /// What it says, as the last version says it.
    fn last(self) -> DiskCollectionV2 {
        match self {
            Self::V1 {
                database,
                id,
                name,
                metric,
                dimension,
                metadata,
                attributes,
                created_at,
                vectors,
            } => DiskCollectionV2 {
                database,
                id,
                name,
                metadata,
                attributes,
                created_at,
                vector: DiskVector { metric, dimension, storage: 0 },
                last_vector: vectors.values().map(|(number, ..)| *number).max().unwrap_or(0),
                vectors: vectors
                    .into_iter()
                    .map(|(name, (number, metric, dimension))| {
                        (name, (number, DiskVector { metric, dimension, storage: 0 }))
                    })
                    .collect(),
            },
            Self::V2(row) => *row,
        }
    }

    pub(crate) fn into_info(self, number: CollectionNumber) -> Result<CollectionInfo> {
        let row = self.last();
        let VectorSpec { metric, dimension, storage } = row.vector.spec()?;
        let vector = |(name, (number, one)): (String, (u16, DiskVector))| {
            let name = VectorName::parse(&name).map_err(|_| unreadable("a collection"))?;
            Ok((name, VectorInfo { number, spec: one.spec()? }))
        };
        Ok(CollectionInfo {
            database: DatabaseNumber(row.database),
            number,
            id: CollectionId(row.id),
            name: CollectionName::parse(row.name)?,
            metric,
            dimension,
            storage,
            vectors: row.vectors.into_iter().map(vector).collect::<Result<_>>()?,
            last_vector: row.last_vector,
            metadata: row.metadata.map(metadata_from_disk),
            attributes: row.attributes,
            created_at: Timestamp(row.created_at),
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
    use tenantry_types::{Exceptions, PlanName};

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
            assert_eq!(decode::<DiskHead>(&bytes, "counters").unwrap().into_head(), head);
        }
    }

    #[test]
    fn counters_say_that_a_log_is_of_version_2() {
        for (told, stay, hold) in [(0, 0, None), (7, 0, None), (9, 2, Some(u64::MAX))] {
            let head = Head { told, stay, hold, is_bound: true, ..Head::default() };
            let bytes = encode(&DiskHead::from_head(&head));
            assert_eq!(bytes[0], 3);
            assert_eq!(decode::<DiskHead>(&bytes, "counters").unwrap().into_head(), head);
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
            limits: Limits { databases: 1, collections: 2, records_per_collection: 3, keys: 4 },
            plan: None,
            exceptions: Exceptions::default(),
            settings: BTreeMap::new(),
            created_at: Timestamp(5),
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
