//! `configuration_json`: what Chroma keeps about a collection's index.
//!
//! Tenantry's own index needs none of these numbers; of all of it only `space` means something
//! here. The rest is kept as the collection's attribute [`ATTRIBUTE`] and given back, because
//! clients rebuild their embedding function from it.

use super::error::Failure;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};
use std::{sync::LazyLock, thread};
use tenantry_engine::{Metadata, Metric, Value};

/// The attribute that holds a collection's configuration, if it is not the default one.
pub(crate) const ATTRIBUTE: &str = "chroma.configuration";

/// How vectors are compared, in Chroma's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Space {
    #[default]
    L2,
    Cosine,
    Ip,
}

impl From<Space> for Metric {
    fn from(space: Space) -> Self {
        match space {
            Space::L2 => Self::L2,
            Space::Cosine => Self::Cosine,
            Space::Ip => Self::InnerProduct,
        }
    }
}

impl From<Metric> for Space {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::L2 => Self::L2,
            Metric::Cosine => Self::Cosine,
            Metric::InnerProduct => Self::Ip,
        }
    }
}

/// How a client makes vectors of texts. The server never does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum EmbeddingFunction {
    Legacy,
    Unknown,
    Known { name: String, config: serde_json::Value },
}

impl EmbeddingFunction {
    /// True for the one that a client without settings uses.
    pub(crate) fn is_default(&self) -> bool {
        matches!(self, Self::Known { name, .. } if name == "default")
    }
}

/// A graph's parameters, in the order in which `schema` shows them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Hnsw {
    pub(crate) ef_construction: usize,
    pub(crate) max_neighbors: usize,
    pub(crate) ef_search: usize,
    pub(crate) num_threads: usize,
    pub(crate) batch_size: usize,
    pub(crate) sync_threshold: usize,
    pub(crate) resize_factor: f64,
}

static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, Into::into));

impl Default for Hnsw {
    fn default() -> Self {
        Self {
            ef_construction: 100,
            max_neighbors: 16,
            ef_search: 100,
            num_threads: *PROCESSORS,
            batch_size: 100,
            sync_threshold: 1_000,
            resize_factor: 1.2,
        }
    }
}

/// A collection's configuration, complete.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Configuration {
    pub(crate) space: Space,
    pub(crate) hnsw: Hnsw,
    pub(crate) embedding_function: Option<EmbeddingFunction>,
}

impl Configuration {
    /// True if only a client's default embedding function, or nothing, was asked for.
    pub(crate) fn is_default(&self) -> bool {
        self.space == Space::default()
            && self.hnsw == Hnsw::default()
            && self.embedding_function.as_ref().is_none_or(EmbeddingFunction::is_default)
    }

    /// The form of `configuration_json`.
    pub(crate) fn view(&self) -> ConfigurationView<'_> {
        ConfigurationView(self)
    }

    /// Takes over what a change names. A change of `spann` means nothing for a graph.
    pub(crate) fn apply(&mut self, change: ChangeWire) -> Result<(), Failure> {
        if change.hnsw.is_some() && change.spann.is_some() {
            return Err(multiple());
        }
        let hnsw = change.hnsw.unwrap_or_default();
        let own = &mut self.hnsw;
        set(&mut own.ef_search, hnsw.ef_search);
        set(&mut own.max_neighbors, hnsw.max_neighbors);
        set(&mut own.num_threads, hnsw.num_threads);
        set(&mut own.resize_factor, hnsw.resize_factor);
        set(&mut own.sync_threshold, hnsw.sync_threshold);
        set(&mut own.batch_size, hnsw.batch_size);
        if change.embedding_function.is_some() {
            self.embedding_function = change.embedding_function;
        }
        Ok(())
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn multiple() -> Failure {
    Failure::invalid("Multiple vector index configurations provided")
}

/// A configuration as clients see it.
pub(crate) struct ConfigurationView<'a>(&'a Configuration);

#[derive(Serialize)]
struct HnswView {
    space: Space,
    ef_construction: usize,
    ef_search: usize,
    max_neighbors: usize,
    resize_factor: f64,
    sync_threshold: usize,
}

impl Serialize for ConfigurationView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Configuration { space, hnsw, embedding_function } = self.0;
        let mut out = serializer.serialize_struct("Configuration", 3)?;
        out.serialize_field(
            "hnsw",
            &HnswView {
                space: *space,
                ef_construction: hnsw.ef_construction,
                ef_search: hnsw.ef_search,
                max_neighbors: hnsw.max_neighbors,
                resize_factor: hnsw.resize_factor,
                sync_threshold: hnsw.sync_threshold,
            },
        )?;
        out.serialize_field("spann", &())?;
        out.serialize_field("embedding_function", embedding_function)?;
        out.end()
    }
}

/// `configuration` of a request that creates a collection.
#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct ConfigurationWire {
    #[serde(default)]
    hnsw: Option<HnswWire>,
    #[serde(default)]
    spann: Option<SpannWire>,
    #[serde(default)]
    embedding_function: Option<EmbeddingFunction>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object", deny_unknown_fields)]
struct HnswWire {
    space: Option<Space>,
    ef_construction: Option<usize>,
    ef_search: Option<usize>,
    max_neighbors: Option<usize>,
    num_threads: Option<usize>,
    resize_factor: Option<f64>,
    sync_threshold: Option<usize>,
    batch_size: Option<usize>,
}

/// Parameters of a kind of index that neither Chroma's single node nor Tenantry has: checked for
/// their form; only `space` is used.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are the grammar")]
struct SpannWire {
    search_nprobe: Option<u32>,
    write_nprobe: Option<u32>,
    space: Option<Space>,
    ef_construction: Option<usize>,
    ef_search: Option<usize>,
    max_neighbors: Option<usize>,
    reassign_neighbor_count: Option<u32>,
    split_threshold: Option<u32>,
    merge_threshold: Option<u32>,
}

/// `new_configuration` of a request that changes a collection.
#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct ChangeWire {
    #[serde(default)]
    hnsw: Option<HnswChangeWire>,
    #[serde(default)]
    spann: Option<SpannChangeWire>,
    #[serde(default)]
    embedding_function: Option<EmbeddingFunction>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are the grammar")]
struct SpannChangeWire {
    search_nprobe: Option<u32>,
    ef_search: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object", default, deny_unknown_fields)]
struct HnswChangeWire {
    ef_search: Option<usize>,
    max_neighbors: Option<usize>,
    num_threads: Option<usize>,
    resize_factor: Option<f64>,
    sync_threshold: Option<usize>,
    batch_size: Option<usize>,
}

/// The configuration that a request asks for, from its body or, in the form of older clients,
/// from `hnsw:` keys of the collection's metadata. A body's `hnsw` hides all of those.
pub(crate) fn requested(
    wire: Option<ConfigurationWire>,
    metadata: Option<&Metadata>,
) -> Result<Configuration, Failure> {
    let ConfigurationWire { hnsw, spann, embedding_function } = wire.unwrap_or_default();
    let mut asked = match (hnsw, spann) {
        (Some(_), Some(_)) => return Err(multiple()),
        (Some(hnsw), None) => hnsw.complete(),
        (None, Some(spann)) => {
            Configuration { space: spann.space.unwrap_or_default(), ..Configuration::default() }
        }
        (None, None) => metadata.map_or_else(|| Ok(Configuration::default()), legacy)?,
    };
    asked.embedding_function = embedding_function;
    Ok(asked)
}

impl HnswWire {
    fn complete(self) -> Configuration {
        let mut all = Configuration { space: self.space.unwrap_or_default(), ..Default::default() };
        set(&mut all.hnsw.ef_construction, self.ef_construction);
        set(&mut all.hnsw.ef_search, self.ef_search);
        set(&mut all.hnsw.max_neighbors, self.max_neighbors);
        set(&mut all.hnsw.num_threads, self.num_threads);
        set(&mut all.hnsw.resize_factor, self.resize_factor);
        set(&mut all.hnsw.sync_threshold, self.sync_threshold);
        set(&mut all.hnsw.batch_size, self.batch_size);
        all
    }
}

fn legacy(metadata: &Metadata) -> Result<Configuration, Failure> {
    let mut all = Configuration::default();
    for (key, value) in metadata {
        if let Some(parameter) = key.strip_prefix("hnsw:") {
            legacy_parameter(&mut all, parameter, value).ok_or_else(|| {
                Failure::invalid("Failed to parse hnsw parameters from segment metadata")
            })?;
        }
    }
    Ok(all)
}

fn legacy_parameter(all: &mut Configuration, parameter: &str, value: &Value) -> Option<()> {
    let place = match parameter {
        "space" => {
            let Value::Str(text) = value else { return None };
            all.space = match text.as_str() {
                "l2" => Space::L2,
                "cosine" => Space::Cosine,
                "ip" => Space::Ip,
                _ => return None,
            };
            return Some(());
        }
        "resize_factor" => {
            all.hnsw.resize_factor = match value {
                Value::Float(float) => *float,
                Value::Int(int) => *int as f64,
                Value::Bool(_) | Value::Str(_) | Value::List(_) => return None,
            };
            return Some(());
        }
        "construction_ef" => &mut all.hnsw.ef_construction,
        "search_ef" => &mut all.hnsw.ef_search,
        "M" => &mut all.hnsw.max_neighbors,
        "num_threads" => &mut all.hnsw.num_threads,
        "batch_size" => &mut all.hnsw.batch_size,
        "sync_threshold" => &mut all.hnsw.sync_threshold,
        _ => return None,
    };
    let Value::Int(int) = value else { return None };
    *place = usize::try_from(*int).ok()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(wire: serde_json::Value, metadata: &[(&str, Value)]) -> Result<Configuration, u16> {
        let wire = serde_json::from_value(wire).map_err(|_| 422_u16)?;
        let metadata: Metadata =
            metadata.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        requested(wire, Some(&metadata)).map_err(|f| f.parts().0)
    }

    #[test]
    fn the_default_is_shown_as_chroma_shows_it() {
        let shown = serde_json::to_string(&Configuration::default().view()).unwrap();
        assert_eq!(
            shown,
            concat!(
                r#"{"hnsw":{"space":"l2","ef_construction":100,"ef_search":100,"max_neighbors":16,"#,
                r#""resize_factor":1.2,"sync_threshold":1000},"#,
                r#""spann":null,"embedding_function":null}"#
            )
        );
    }

    #[test]
    fn a_body_wins_over_legacy_metadata() {
        let ip = ("hnsw:space", Value::Str("ip".to_owned()));
        let m = ("hnsw:M", Value::Int(5));
        let legacy = ask(json!(null), &[ip.clone(), m.clone()]).unwrap();
        assert_eq!((legacy.space, legacy.hnsw.max_neighbors), (Space::Ip, 5));
        let body = ask(json!({"hnsw": {"ef_search": 7}}), &[ip, m]).unwrap();
        assert_eq!((body.space, body.hnsw.max_neighbors), (Space::L2, 16));
        assert_eq!(body.hnsw.ef_search, 7);
        let spann = ask(json!({"spann": {"space": "cosine", "ef_search": 7}}), &[]).unwrap();
        assert_eq!(spann, Configuration { space: Space::Cosine, ..Configuration::default() });
    }

    #[test]
    fn malformed_configurations_are_refused() {
        for (body, status) in [
            (json!({"hnsw": {"space": "zz"}}), 422),
            (json!({"hnsw": {"foo": 1}}), 422),
            (json!({"hnsw": {"ef_search": -1}}), 422),
            (json!({"hnsw": 5}), 422),
            (json!({"spann": {"zz": 1}}), 422),
            (json!({"embedding_function": {"type": "bogus"}}), 422),
            (json!({"embedding_function": {"type": "known", "name": "x"}}), 422),
            (json!({"hnsw": {}, "spann": {}}), 400),
        ] {
            assert_eq!(ask(body.clone(), &[]), Err(status), "{body}");
        }
        for (key, value) in [
            ("hnsw:space", Value::Str("foobar".to_owned())),
            ("hnsw:foo", Value::Int(1)),
            ("hnsw:M", Value::Float(5.5)),
            ("hnsw:num_threads", Value::Int(-1)),
        ] {
            assert_eq!(ask(json!(null), &[(key, value)]), Err(400), "{key}");
        }
    }

    #[test]
    fn a_change_replaces_what_it_names() {
        let mut all = Configuration::default();
        let change = json!({"hnsw": {"ef_search": 7}, "embedding_function": {"type": "legacy"}});
        all.apply(serde_json::from_value(change).unwrap()).unwrap();
        assert_eq!((all.hnsw.ef_search, all.hnsw.max_neighbors), (7, 16));
        assert_eq!(all.embedding_function, Some(EmbeddingFunction::Legacy));
        assert!(serde_json::from_value::<ChangeWire>(json!({"hnsw": {"space": "l2"}})).is_err());
    }
}
