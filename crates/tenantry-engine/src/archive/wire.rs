//! What is in the entries of an archive: JSON of its own, so that no change of an API is a change
//! of the format. `docs/formats/archive.md` describes it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use data_encoding::HEXLOWER;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
    ser::SerializeSeq as _,
};
use std::{collections::BTreeMap, fmt, marker::PhantomData};
use tenantry_store::{ArchiveKey, CollectionInfo, PublicKey, Signature, TenantInfo, is_signed};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, Error, Limits, Metadata, Metric, Record,
    RecordId, RecordWrite, Result, Value, VectorName, VectorSpec, VectorStorage,
};

pub(super) const FORMAT: &str = "tenantry-archive";
pub(super) const VERSION: u32 = 1;
/// Items of a list: no metadata can have more, since each takes a byte at least.
const LIST_ITEMS_MAX: usize = Limits::METADATA_BYTES_MAX;
const ALGORITHM: &str = "ed25519";

/// `tenantry.json`
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FormatRow {
    pub(super) format: String,
    pub(super) version: u32,
}

impl FormatRow {
    pub(super) fn new() -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION }
    }
}

/// `tenant.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantRow {
    limits: LimitsRow,
    /// The operator's alone, as `settings`: not in what a tenant exports itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "unique_option")]
    pub(super) settings: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsRow {
    databases: u32,
    collections: u32,
    records_per_collection: u64,
    keys: u32,
    /// Only if it is not what everybody has: older programs do not know it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    vector_dimensions: Option<u32>,
}

impl TenantRow {
    pub(super) fn of(info: &TenantInfo, is_operators: bool) -> Self {
        // Members are not the archive's, nor how many there may be.
        let Limits {
            databases, collections, records_per_collection, keys, vector_dimensions, ..
        } = info.limits;
        let is_usual = vector_dimensions == Limits::default().vector_dimensions;
        let vector_dimensions = (!is_usual).then_some(vector_dimensions);
        Self {
            limits: LimitsRow {
                databases,
                collections,
                records_per_collection,
                keys,
                vector_dimensions,
            },
            weight: is_operators.then_some(info.weight),
            settings: is_operators.then(|| info.settings.clone()),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        let LimitsRow { databases, collections, records_per_collection, keys, .. } = self.limits;
        let usual = Limits::default();
        let vector_dimensions = self.limits.vector_dimensions.unwrap_or(usual.vector_dimensions);
        Limits { databases, collections, records_per_collection, keys, vector_dimensions, ..usual }
    }
}

/// A line of `databases.jsonl`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatabaseRow {
    pub(super) name: String,
}

/// `collections/…/collection.json`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CollectionRow {
    database: String,
    name: String,
    metric: MetricWord,
    storage: StorageWord,
    dimension: Option<u32>,
    #[serde(deserialize_with = "unique")]
    vectors: BTreeMap<String, VectorRow>,
    #[serde(deserialize_with = "unique_option")]
    metadata: Option<BTreeMap<String, ValueRow>>,
    #[serde(deserialize_with = "unique")]
    attributes: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorRow {
    metric: MetricWord,
    storage: StorageWord,
    dimension: Option<u32>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MetricWord {
    L2,
    Cosine,
    InnerProduct,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StorageWord {
    Full,
    Half,
    Int8,
}

impl From<VectorSpec> for VectorRow {
    fn from(spec: VectorSpec) -> Self {
        Self {
            metric: match spec.metric {
                Metric::L2 => MetricWord::L2,
                Metric::Cosine => MetricWord::Cosine,
                Metric::InnerProduct => MetricWord::InnerProduct,
            },
            storage: match spec.storage {
                VectorStorage::Full => StorageWord::Full,
                VectorStorage::Half => StorageWord::Half,
                VectorStorage::Int8 => StorageWord::Int8,
            },
            dimension: spec.dimension,
        }
    }
}

impl From<VectorRow> for VectorSpec {
    fn from(row: VectorRow) -> Self {
        Self {
            metric: match row.metric {
                MetricWord::L2 => Metric::L2,
                MetricWord::Cosine => Metric::Cosine,
                MetricWord::InnerProduct => Metric::InnerProduct,
            },
            storage: match row.storage {
                StorageWord::Full => VectorStorage::Full,
                StorageWord::Half => VectorStorage::Half,
                StorageWord::Int8 => VectorStorage::Int8,
            },
            dimension: row.dimension,
        }
    }
}

impl CollectionRow {
    pub(super) fn of(info: &CollectionInfo, database: &DatabaseName) -> Self {
        let CollectionInfo { metric, storage, dimension, .. } = *info;
        let unnamed = VectorRow::from(VectorSpec { metric, storage, dimension });
        let metadata = info.metadata.as_ref();
        Self {
            database: database.as_str().to_owned(),
            name: info.name.as_str().to_owned(),
            metric: unnamed.metric,
            storage: unnamed.storage,
            dimension,
            vectors: info
                .vectors
                .iter()
                .map(|(name, one)| (name.as_str().to_owned(), one.spec.into()))
                .collect(),
            metadata: metadata.map(|metadata| {
                metadata.iter().map(|(key, value)| (key.clone(), ValueRow(value.clone()))).collect()
            }),
            attributes: info.attributes.clone(),
        }
    }

    pub(super) fn spec(self) -> Result<(DatabaseName, CollectionSpec)> {
        let unnamed =
            VectorRow { metric: self.metric, storage: self.storage, dimension: self.dimension };
        let unnamed = VectorSpec::from(unnamed);
        let vector = |(name, row): (String, VectorRow)| Ok((VectorName::parse(&name)?, row.into()));
        let spec = CollectionSpec {
            name: CollectionName::parse(self.name)?,
            metric: unnamed.metric,
            storage: unnamed.storage,
            dimension: unnamed.dimension,
            vectors: self.vectors.into_iter().map(vector).collect::<Result<_>>()?,
            metadata: self.metadata.map(|row| row.into_iter().map(|(k, v)| (k, v.0)).collect()),
            attributes: self.attributes,
        };
        Ok((DatabaseName::parse(self.database)?, spec))
    }
}

/// A line of `collections/…/records-….jsonl`, as it is written.
#[derive(Serialize)]
struct RecordOut<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<MetadataOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    vectors: BTreeMap<&'a str, String>,
}

struct MetadataOut<'a>(&'a Metadata);

impl Serialize for MetadataOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, ValueOut(value))))
    }
}

/// The same, as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordRow {
    id: String,
    #[serde(default)]
    document: Option<String>,
    #[serde(default)]
    uri: Option<String>,
    #[serde(default, deserialize_with = "unique")]
    metadata: BTreeMap<String, ValueRow>,
    #[serde(default)]
    vector: Option<String>,
    #[serde(default, deserialize_with = "unique")]
    vectors: BTreeMap<String, String>,
}

/// Appends the line of a record.
pub(super) fn put_record(line: &mut Vec<u8>, record: &Record) -> Result<()> {
    let metadata = record.metadata.as_deref().filter(|metadata| !metadata.is_empty());
    let row = RecordOut {
        id: record.id.as_str(),
        document: record.document.as_deref(),
        uri: record.uri.as_deref(),
        metadata: metadata.map(MetadataOut),
        vector: record.vector.as_deref().map(put_vector),
        vectors: record.vectors.iter().map(|(name, v)| (name.as_str(), put_vector(v))).collect(),
    };
    put_line(line, &row)
}

/// Appends a line of JSON.
pub(super) fn put_line(line: &mut Vec<u8>, row: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *line, row)
        .map_err(|why| Error::internal("write JSON").with_source(why))?;
    line.push(b'\n');
    Ok(())
}

fn put_vector(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

fn read_vector(text: &str) -> Result<Vec<f32>> {
    let wrong = || Error::invalid("a vector is not base64 of 32-bit floats");
    let bytes = STANDARD.decode(text).map_err(|_| wrong())?;
    let (floats, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    Ok(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

impl RecordRow {
    pub(super) fn write(self) -> Result<RecordWrite> {
        let named =
            |(name, text): (String, String)| Ok((VectorName::parse(&name)?, read_vector(&text)?));
        Ok(RecordWrite {
            id: RecordId::parse(self.id)?,
            vector: self.vector.as_deref().map(read_vector).transpose()?,
            vectors: self.vectors.into_iter().map(named).collect::<Result<_>>()?,
            document: self.document,
            uri: self.uri,
            metadata: self.metadata.into_iter().map(|(key, row)| (key, Some(row.0))).collect(),
        })
    }
}

/// A record as it is written where it is copied.
pub(super) fn copied(record: Record) -> RecordWrite {
    let metadata = record.metadata.as_deref().cloned().unwrap_or_default();
    RecordWrite {
        id: record.id,
        vector: record.vector,
        vectors: record.vectors,
        document: record.document.as_deref().map(str::to_owned),
        uri: record.uri,
        metadata: metadata.into_iter().map(|(key, value)| (key, Some(value))).collect(),
    }
}

/// One entry of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryRow {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) blake3: String,
}

/// What an archive holds, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Databases.
    pub databases: u64,
    /// Collections of all databases.
    pub collections: u64,
    /// Records of all collections.
    pub records: u64,
}

/// `manifest.json`
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) counts: Counts,
    pub(super) entries: Vec<EntryRow>,
}

/// `signature.json`, and the last line of a list of archives
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignatureRow {
    algorithm: String,
    public_key: String,
    signature: String,
}

impl SignatureRow {
    pub(super) fn of(key: &ArchiveKey, message: &[u8]) -> Result<Self> {
        Ok(Self {
            algorithm: ALGORITHM.to_owned(),
            public_key: HEXLOWER.encode(&key.public()?),
            signature: HEXLOWER.encode(&key.sign(message)?),
        })
    }

    /// Who has signed this message, if it is that one which was signed.
    pub(super) fn signer(&self, message: &[u8]) -> Option<PublicKey> {
        let by: PublicKey = hex(&self.public_key)?;
        let signature: Signature = hex(&self.signature)?;
        (self.algorithm == ALGORITHM && is_signed(&by, message, &signature)).then_some(by)
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// A metadata value: JSON's own kinds tell them apart, a float by its point or its exponent.
#[derive(Debug, Clone, PartialEq)]
struct ValueRow(Value);

struct ValueOut<'a>(&'a Value);

impl Serialize for ValueOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Str(value) => serializer.serialize_str(value),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&ValueOut(item))?;
                }
                list.end()
            }
        }
    }
}

impl Serialize for ValueRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        ValueOut(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ValueRow {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        from.deserialize_any(ValueVisitor { may_be_list: true })
    }
}

/// A scalar within a list.
struct Scalar(Value);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        from.deserialize_any(ValueVisitor { may_be_list: false }).map(|row| Self(row.0))
    }
}

struct ValueVisitor {
    may_be_list: bool,
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = ValueRow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.may_be_list { "a scalar or a list of scalars" } else { "a scalar" })
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<ValueRow, E> {
        Ok(ValueRow(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<ValueRow, E> {
        Ok(ValueRow(Value::Int(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> std::result::Result<ValueRow, E> {
        let value = i64::try_from(value).map_err(|_| E::custom("an integer beyond 64 bits"))?;
        Ok(ValueRow(Value::Int(value)))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<ValueRow, E> {
        Ok(ValueRow(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<ValueRow, E> {
        Ok(ValueRow(Value::Str(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> std::result::Result<ValueRow, E> {
        Ok(ValueRow(Value::Str(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<ValueRow, A::Error> {
        if !self.may_be_list {
            return Err(de::Error::custom("a list within a list"));
        }
        let mut list = Vec::new();
        while let Some(Scalar(item)) = items.next_element()? {
            if list.len() == LIST_ITEMS_MAX {
                return Err(de::Error::custom("a list has too many items"));
            }
            list.push(item);
        }
        Ok(ValueRow(Value::List(list)))
    }
}

/// A map in which no key occurs twice.
struct Unique<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut entries: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = entries.next_entry::<String, V>()? {
            if map.insert(key, value).is_some() {
                return Err(de::Error::custom("a key occurs twice"));
            }
        }
        Ok(map)
    }
}

fn unique<'de, D, V>(from: D) -> std::result::Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    from.deserialize_map(Unique(PhantomData))
}

fn unique_option<'de, D, V>(from: D) -> std::result::Result<Option<BTreeMap<String, V>>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Maybe<V>(PhantomData<V>);

    impl<'de, V: Deserialize<'de>> Visitor<'de> for Maybe<V> {
        type Value = Option<BTreeMap<String, V>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object or null")
        }

        fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E>(self) -> std::result::Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(
            self,
            from: D,
        ) -> std::result::Result<Self::Value, D::Error> {
            unique(from).map(Some)
        }
    }

    from.deserialize_option(Maybe(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::read::read;

    fn round(value: &Value) -> Value {
        let text = serde_json::to_vec(&ValueOut(value)).unwrap();
        read::<ValueRow>(&text).unwrap().0
    }

    #[test]
    fn every_kind_of_value_comes_back_as_it_was() {
        for value in [
            Value::Bool(true),
            Value::Int(i64::MIN),
            Value::Int(i64::MAX),
            Value::Float(1.0),
            Value::Float(1e300),
            Value::Float(5e-324),
            Value::Str("\u{0}\"\\🦀\u{2028}".into()),
            Value::List(vec![]),
            Value::List(vec![Value::Float(2.0), Value::Float(0.1)]),
            Value::List(vec![Value::Int(2)]),
        ] {
            assert_eq!(round(&value), value);
        }
        let Value::Float(zero) = round(&Value::Float(-0.0)) else { panic!("no float") };
        assert!(zero.is_sign_negative());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in ["9223372036854775808", "null", "{}", "[[1]]", "[1", "1e999"] {
            assert!(read::<ValueRow>(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in [
            r#"{"id":"a","metadata":{"k":1,"k":2}}"#,
            r#"{"id":"a","id":"b"}"#,
            r#"{"id":"a","more":1}"#,
            r#"{"id":"a","vectors":{"n":"","n":""}}"#,
            r#"{"id":1}"#,
            "{}",
        ] {
            assert!(read::<RecordRow>(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["AAA=", "AAAAgA", "AAAA AAA=", "?"] {
            assert!(read_vector(bad).is_err(), "{bad}");
        }
        assert_eq!(read_vector("AACAPw==").unwrap(), [1.0]);
    }
}
