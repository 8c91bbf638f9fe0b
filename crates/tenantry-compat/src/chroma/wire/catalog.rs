//! Bodies about tenants, databases and collections.

use super::{
    super::{
        config::{ChangeWire, Configuration, ConfigurationWire, requested},
        error::Failure,
        name, schema,
    },
    metadata::{CollectionFields, MetadataView},
};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};
use tenantry_engine::{
    CollectionChange, CollectionInfo, CollectionSpec, DatabaseInfo, Page, Result as EngineResult,
};

/// The body that names a new tenant or database.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct NewName {
    /// The name.
    pub(crate) name: String,
}

/// The query string of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Paging {
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    offset: Option<u32>,
}

impl From<Paging> for Page {
    fn from(paging: Paging) -> Self {
        Self {
            limit: paging.limit.map(|limit| limit as usize),
            offset: paging.offset.unwrap_or(0) as usize,
        }
    }
}

/// A tenant as answers show it.
#[derive(Debug, Serialize)]
pub(crate) struct TenantView<'a> {
    /// The name that the path has.
    pub(crate) name: &'a str,
    /// A name in Chroma's cloud; none here.
    pub(crate) resource_name: Option<&'a str>,
}

/// A database as answers show it.
#[derive(Debug, Serialize)]
pub(crate) struct DatabaseView<'a> {
    id: String,
    name: &'a str,
    tenant: &'a str,
}

impl<'a> DatabaseView<'a> {
    /// A database of the tenant that the path calls `tenant`.
    pub(crate) fn new(info: &'a DatabaseInfo, tenant: &'a str) -> Self {
        Self { id: info.id.to_string(), name: info.name.as_str(), tenant }
    }
}

/// The body that makes a collection.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct CreateCollection {
    name: String,
    #[serde(default)]
    metadata: Option<CollectionFields>,
    #[serde(default)]
    configuration: Option<ConfigurationWire>,
    #[serde(default)]
    schema: Option<schema::Schema>,
    /// Return a collection of this name if there is one.
    #[serde(default)]
    pub(crate) get_or_create: bool,
}

impl CreateCollection {
    /// The collection to make.
    pub(crate) fn into_spec(self) -> Result<CollectionSpec, Failure> {
        let name = name::collection(self.name, "name")?;
        let metadata = self.metadata.map(CollectionFields::into_new).transpose()?;
        let configuration = requested(self.configuration, metadata.as_ref())?;
        let (configuration, attributes) = schema::reconcile(configuration, self.schema)?;
        let metric = configuration.space.into();
        Ok(CollectionSpec { metric, metadata, attributes, ..CollectionSpec::new(name) })
    }
}

/// The body that changes a collection.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct ModifyCollection {
    #[serde(default)]
    new_name: Option<String>,
    #[serde(default)]
    new_metadata: Option<CollectionFields>,
    #[serde(default)]
    new_configuration: Option<ChangeWire>,
}

impl ModifyCollection {
    /// The change to make of the collection.
    pub(crate) fn into_change(self, info: &CollectionInfo) -> Result<CollectionChange, Failure> {
        let Self { new_name, new_metadata, new_configuration } = self;
        let attributes = new_configuration.map(|change| schema::change(info, change));
        Ok(CollectionChange {
            name: new_name.map(|new| name::collection(new, "new_name")).transpose()?,
            metadata: new_metadata.map(CollectionFields::into_replacement).transpose()?,
            attributes: attributes.transpose()?.unwrap_or_default(),
        })
    }
}

/// A collection as answers show it.
pub(crate) struct CollectionView<'a> {
    info: &'a CollectionInfo,
    configuration: Configuration,
    schema: schema::Schema,
    tenant: &'a str,
    database: &'a str,
}

impl<'a> CollectionView<'a> {
    /// A collection of the tenant and database that the path names. `sees_all` is false for a
    /// caller to whom some records, and so their metadata keys, are hidden.
    pub(crate) fn new(
        info: &'a CollectionInfo,
        tenant: &'a str,
        database: &'a str,
        sees_all: bool,
    ) -> EngineResult<Self> {
        let (configuration, schema) = schema::of(info, sees_all)?;
        Ok(Self { info, configuration, schema, tenant, database })
    }
}

impl Serialize for CollectionView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Collection", 10)?;
        out.serialize_field("id", &format_args!("{}", self.info.id))?;
        out.serialize_field("name", self.info.name.as_str())?;
        out.serialize_field("configuration_json", &self.configuration.view())?;
        out.serialize_field("schema", &self.schema)?;
        out.serialize_field("metadata", &MetadataView::of(self.info.metadata.as_ref()))?;
        out.serialize_field("dimension", &self.info.dimension)?;
        out.serialize_field("tenant", self.tenant)?;
        out.serialize_field("database", self.database)?;
        out.serialize_field("log_position", &0)?;
        out.serialize_field("version", &0)?;
        out.end()
    }
}
