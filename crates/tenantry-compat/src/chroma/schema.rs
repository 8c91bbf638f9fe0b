//! `schema`: which indexes Chroma has for which metadata keys.
//!
//! Tenantry filters on every key without an index; a schema only says which filters to refuse.
//! A schema that differs from the default one is the collection's attribute [`ATTRIBUTE`]. The
//! keys that Chroma adds to it when a record first has them are kept apart, see
//! [`super::discovery`].

mod check;
mod fill;
mod permit;

pub(crate) use permit::permit;

use super::{
    config::{self, Configuration, EmbeddingFunction, Hnsw, Space},
    discovery,
    error::Failure,
    filter::DOCUMENT,
};
use fill::{fill, fill_option, fill_string, fill_vectors};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::collections::BTreeMap;
use tenantry_engine::{CollectionInfo, Error, Value};

/// The attribute that holds a collection's schema, if it is not the default one.
pub(crate) const ATTRIBUTE: &str = "chroma.schema";
const EMBEDDING: &str = "#embedding";

/// The kinds of value that have an index of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Str,
    Int,
    Float,
    Bool,
}

impl Kind {
    /// The kind of a value, or of a list's elements; `None` for an empty list.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Str(_) => Some(Self::Str),
            Value::Int(_) => Some(Self::Int),
            Value::Float(_) => Some(Self::Float),
            Value::Bool(_) => Some(Self::Bool),
            Value::List(items) => items.first().and_then(Self::of),
        }
    }
}

/// Declares a struct whose fields may all be missing and are left out when they are.
macro_rules! partial {
    ($name:ident { $($field:ident: $type:ty),+ }) => {
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(expecting = "an object", default)]
        struct $name {
            $(#[serde(skip_serializing_if = "Option::is_none")] $field: Option<$type>,)+
        }
    };
}

partial!(ValueTypes {
    string: StringIndexes,
    float_list: FloatListIndexes,
    sparse_vector: SparseVectorIndexes,
    int: IntIndexes,
    float: FloatIndexes,
    bool: BoolIndexes
});
partial!(StringIndexes { fts_index: Index<Nothing>, string_inverted_index: Index<Nothing> });
partial!(FloatListIndexes { vector_index: Index<VectorConfig> });
partial!(SparseVectorIndexes { sparse_vector_index: Index<SparseConfig> });
partial!(IntIndexes { int_inverted_index: Index<Nothing> });
partial!(FloatIndexes { float_inverted_index: Index<Nothing> });
partial!(BoolIndexes { bool_inverted_index: Index<Nothing> });

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(expecting = "an object")]
struct Index<C> {
    enabled: bool,
    config: C,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(expecting = "an object", deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(expecting = "an object", default, deny_unknown_fields)]
struct VectorConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    space: Option<Space>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_function: Option<EmbeddingFunction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hnsw: Option<Hnsw>,
    /// Replaced by a graph with default numbers, as Chroma's single node does.
    #[serde(skip_serializing)]
    spann: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(expecting = "an object", default, deny_unknown_fields)]
struct SparseConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_function: Option<EmbeddingFunction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bm25: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<serde_json::Value>,
}

/// A schema, as requests send it and answers show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct Schema {
    defaults: ValueTypes,
    keys: BTreeMap<String, ValueTypes>,
    #[serde(default, skip_serializing)]
    cmek: Option<IgnoredAny>,
    #[serde(default, skip_serializing)]
    source_attached_function_id: Option<IgnoredAny>,
}

impl Schema {
    /// The schema of a collection that was made with a configuration only.
    fn of(configuration: &Configuration) -> Self {
        let defaults = ValueTypes {
            string: Some(StringIndexes {
                fts_index: index(false),
                string_inverted_index: index(true),
            }),
            float_list: vectors(false, configuration, None),
            sparse_vector: Some(SparseVectorIndexes {
                sparse_vector_index: Some(Index { enabled: false, config: unknown_sparse() }),
            }),
            int: Some(IntIndexes { int_inverted_index: index(true) }),
            float: Some(FloatIndexes { float_inverted_index: index(true) }),
            bool: Some(BoolIndexes { bool_inverted_index: index(true) }),
        };
        let document = ValueTypes {
            string: Some(StringIndexes {
                fts_index: index(true),
                string_inverted_index: index(false),
            }),
            ..ValueTypes::default()
        };
        let embedding = ValueTypes {
            float_list: vectors(true, configuration, Some(DOCUMENT)),
            ..ValueTypes::default()
        };
        let keys = [(DOCUMENT, document), (EMBEDDING, embedding)];
        Self {
            defaults,
            keys: keys.map(|(key, types)| (key.to_owned(), types)).into(),
            cmek: None,
            source_attached_function_id: None,
        }
    }

    /// Puts the default in each place that a request left open.
    fn complete(&mut self) {
        let Self { defaults, mut keys, .. } = Self::of(&Configuration::default());
        fill(&mut self.defaults, defaults);
        for name in [DOCUMENT, EMBEDDING] {
            let default = keys.remove(name).unwrap_or_default();
            let own = self.keys.entry(name.to_owned()).or_default();
            if name == DOCUMENT {
                fill_option(&mut own.string, default.string, fill_string);
            } else {
                fill_option(&mut own.float_list, default.float_list, fill_vectors);
            }
        }
    }

    /// True if nothing but a client's default embedding function was asked for.
    fn is_default(&self) -> bool {
        let mut bare = self.clone();
        for config in bare.vector_configs() {
            if config.embedding_function.as_ref().is_some_and(EmbeddingFunction::is_default) {
                config.embedding_function = None;
            }
        }
        bare == Self::of(&Configuration::default())
    }

    /// The two places that say how vectors are indexed.
    fn vector_configs(&mut self) -> impl Iterator<Item = &mut VectorConfig> {
        let places = [Some(&mut self.defaults), self.keys.get_mut(EMBEDDING)];
        places
            .into_iter()
            .flatten()
            .filter_map(|types| types.float_list.as_mut()?.vector_index.as_mut())
            .map(|index| &mut index.config)
    }

    /// The configuration that this schema amounts to.
    fn configuration(&self) -> Configuration {
        let config = self
            .keys
            .get(EMBEDDING)
            .and_then(|types| types.float_list.as_ref()?.vector_index.as_ref())
            .map(|index| index.config.clone())
            .unwrap_or_default();
        Configuration {
            space: config.space.unwrap_or_default(),
            hnsw: config.hnsw.unwrap_or_default(),
            embedding_function: config.embedding_function,
        }
    }

    /// Takes over a changed configuration; the spaces stay.
    fn adopt(&mut self, configuration: &Configuration) {
        for config in self.vector_configs() {
            config.hnsw = Some(configuration.hnsw.clone());
            config.embedding_function.clone_from(&configuration.embedding_function);
        }
    }

    /// Adds the default index for a key that a record has.
    pub(crate) fn discover(&mut self, key: &str, kind: Kind) {
        let Self { defaults, keys, .. } = self;
        let own = keys.entry(key.to_owned()).or_default();
        match kind {
            Kind::Str if own.string.is_none() => own.string.clone_from(&defaults.string),
            Kind::Int if own.int.is_none() => own.int.clone_from(&defaults.int),
            Kind::Float if own.float.is_none() => own.float.clone_from(&defaults.float),
            Kind::Bool if own.bool.is_none() => own.bool.clone_from(&defaults.bool),
            Kind::Str | Kind::Int | Kind::Float | Kind::Bool => {}
        }
    }

    /// Whether a key may be filtered by values of a kind.
    fn allows(&self, key: &str, kind: Kind) -> bool {
        let of = |types: &ValueTypes| -> Option<bool> {
            Some(match kind {
                Kind::Str => types.string.as_ref()?.string_inverted_index.as_ref()?.enabled,
                Kind::Int => types.int.as_ref()?.int_inverted_index.as_ref()?.enabled,
                Kind::Float => types.float.as_ref()?.float_inverted_index.as_ref()?.enabled,
                Kind::Bool => types.bool.as_ref()?.bool_inverted_index.as_ref()?.enabled,
            })
        };
        self.keys.get(key).and_then(of).or_else(|| of(&self.defaults)).unwrap_or(true)
    }

    /// Whether texts may be searched.
    fn allows_text(&self) -> bool {
        let document = self.keys.get(DOCUMENT).and_then(|types| types.string.as_ref());
        document.and_then(|string| string.fts_index.as_ref()).is_none_or(|index| index.enabled)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "fields of a schema are optional")]
fn index(enabled: bool) -> Option<Index<Nothing>> {
    Some(Index { enabled, config: Nothing {} })
}

#[expect(clippy::unnecessary_wraps, reason = "fields of a schema are optional")]
fn vectors(enabled: bool, from: &Configuration, source: Option<&str>) -> Option<FloatListIndexes> {
    let config = VectorConfig {
        space: Some(from.space),
        embedding_function: from.embedding_function.clone(),
        source_key: source.map(str::to_owned),
        hnsw: Some(from.hnsw.clone()),
        spann: None,
    };
    Some(FloatListIndexes { vector_index: Some(Index { enabled, config }) })
}

fn unknown_sparse() -> SparseConfig {
    SparseConfig {
        embedding_function: Some(EmbeddingFunction::Unknown),
        bm25: Some(false),
        ..SparseConfig::default()
    }
}

/// What a new collection keeps: its metric follows from the configuration, the rest are
/// attributes. Refuses a schema that asks for what is not there, or beside a configuration.
pub(crate) fn reconcile(
    configuration: Configuration,
    schema: Option<Schema>,
) -> Result<(Configuration, BTreeMap<String, String>), Failure> {
    let Some(mut schema) = schema else { return keep(configuration, None) };
    check::check(&schema)?;
    schema.complete();
    if schema.is_default() {
        return keep(configuration, None);
    }
    if !configuration.is_default() {
        return Err(Failure::invalid(
            "Failed to reconcile schema: Cannot set both collection config and schema \
             simultaneously",
        ));
    }
    keep(schema.configuration(), Some(schema))
}

fn keep(
    configuration: Configuration,
    schema: Option<Schema>,
) -> Result<(Configuration, BTreeMap<String, String>), Failure> {
    let mut attributes = BTreeMap::new();
    if let Some(schema) = schema {
        attributes.insert(ATTRIBUTE.to_owned(), text(&schema)?);
    } else if configuration != Configuration::default() {
        attributes.insert(config::ATTRIBUTE.to_owned(), text(&configuration)?);
    }
    Ok((configuration, attributes))
}

fn text(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|e| Error::internal("write a collection's configuration").with_source(e))
}

/// The attributes that change when a collection's configuration does.
pub(crate) fn change(
    info: &CollectionInfo,
    change: config::ChangeWire,
) -> Result<BTreeMap<String, String>, Failure> {
    let (mut configuration, schema) = stored(info)?;
    configuration.apply(change)?;
    let schema = schema.map(|mut schema| {
        schema.adopt(&configuration);
        schema
    });
    keep_all(&configuration, schema.as_ref())
}

/// Like [`keep`], but writes a configuration that has become the default one again.
fn keep_all(
    configuration: &Configuration,
    schema: Option<&Schema>,
) -> Result<BTreeMap<String, String>, Failure> {
    let (key, value) = match schema {
        Some(schema) => (ATTRIBUTE, text(schema)?),
        None => (config::ATTRIBUTE, text(configuration)?),
    };
    Ok(BTreeMap::from([(key.to_owned(), value)]))
}

/// A collection's configuration and schema, with the keys that its records were seen to have.
pub(crate) fn of(
    info: &CollectionInfo,
    discovered: bool,
) -> Result<(Configuration, Schema), Error> {
    let (configuration, schema) = stored(info)?;
    let mut schema = schema.unwrap_or_else(|| Schema::of(&configuration));
    if discovered {
        for (key, kind) in discovery::seen(info) {
            schema.discover(key, kind);
        }
    }
    Ok((configuration, schema))
}

fn stored(info: &CollectionInfo) -> Result<(Configuration, Option<Schema>), Error> {
    if let Some(text) = info.attributes.get(ATTRIBUTE) {
        let schema: Schema = read(text)?;
        return Ok((schema.configuration(), Some(schema)));
    }
    let configuration = match info.attributes.get(config::ATTRIBUTE) {
        Some(text) => read(text)?,
        // Made with Chroma's defaults, or through another protocol.
        None => Configuration { space: info.metric.into(), ..Configuration::default() },
    };
    Ok((configuration, None))
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|e| Error::corrupt("a collection's Chroma configuration").with_source(e))
}

#[cfg(test)]
mod tests;
