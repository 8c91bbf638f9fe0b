//! A store with an operator, processes that use one and are ended, and chance with a seed.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};
use tenantry_auth::{
    Admin, Authority, Credential, OperatorScope, Principal, Scope, SystemScope, TenantId,
};
use tenantry_store::{
    AuditEntry, ChainVerifier, CollectionRef, DatabaseRef, EmbeddedConfig, Store,
};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, Error, GetRequest, Include, Isolation, Location,
    Metric, Record, RecordId, RecordWrite, Selector, TenantName, TenantSpec, Timestamp, Value,
};

/// An embedded store and the right to do everything in it.
pub(crate) struct Stand {
    pub(crate) store: Store,
    pub(crate) operator: OperatorScope,
    authority: Authority,
    principal: Principal,
}

impl Stand {
    pub(crate) async fn open(folder: &Path) -> Self {
        Self::try_open(EmbeddedConfig::new(folder)).await.expect("the store opens")
    }

    pub(crate) async fn try_open(config: EmbeddedConfig) -> Result<Self, Error> {
        Ok(Self::over(Store::open_embedded(config)?).await)
    }

    /// The same of any store.
    pub(crate) async fn over(store: Store) -> Self {
        let authority = Authority::development();
        let principal =
            authority.authenticate(Credential::None, &store, Timestamp(0)).await.expect("operator");
        let operator = authority.authorize_operator(&principal).expect("operator");
        Self { store, operator, authority, principal }
    }

    /// Closes the store, so that the folder can be opened again.
    pub(crate) fn close(self) {
        self.store.close();
    }

    pub(crate) fn scope(&self, tenant: TenantId) -> Scope<Admin> {
        self.authority.authorize(&self.principal, tenant, "tenant").expect("scope")
    }

    pub(crate) fn system(&self) -> SystemScope {
        self.authority.system("tests")
    }

    pub(crate) async fn create(&self, name: &str) -> Result<Scope<Admin>, Error> {
        let info = self.store.create_tenant(&self.operator, &TenantSpec::new(tenant(name))).await?;
        Ok(self.scope(info.id))
    }

    pub(crate) async fn create_in(
        &self,
        name: &str,
        isolation: Isolation,
    ) -> Result<Scope<Admin>, Error> {
        self.create_at(name, (isolation, Location::Home)).await
    }

    pub(crate) async fn create_at(
        &self,
        name: &str,
        (isolation, location): (Isolation, Location),
    ) -> Result<Scope<Admin>, Error> {
        let spec = TenantSpec {
            isolation: Some(isolation),
            location: Some(location),
            ..TenantSpec::new(tenant(name))
        };
        let info = self.store.create_tenant(&self.operator, &spec).await?;
        assert_eq!((info.isolation, info.location), (isolation, location));
        Ok(self.scope(info.id))
    }

    pub(crate) async fn default_database(&self, scope: &Scope<Admin>) -> DatabaseRef {
        let name = DatabaseName::default_database();
        self.store.database(scope, &name).await.expect("the default database")
    }

    /// The collection `c` of the default database, made if it is missing.
    pub(crate) async fn collection(&self, scope: &Scope<Admin>) -> Result<CollectionRef, Error> {
        let database = self.default_database(scope).await;
        Ok(self.store.create_collection(scope, &database, &spec("c", Metric::L2), true).await?.0)
    }

    /// A new tenant with a collection.
    pub(crate) async fn tenant_with_collection(&self, name: &str) -> (Scope<Admin>, CollectionRef) {
        let scope = self.create(name).await.expect("tenant");
        let collection = self.collection(&scope).await.expect("collection");
        (scope, collection)
    }

    /// Every record of a collection with all its parts.
    pub(crate) async fn all(
        &self,
        scope: &Scope<Admin>,
        collection: &CollectionRef,
    ) -> Result<Vec<Record>, Error> {
        let request = GetRequest { include: everything(), ..GetRequest::default() };
        Ok(self.store.get(scope, collection, &request).await?.value)
    }

    /// Checks the tenant's audit chain; returns its length.
    pub(crate) async fn verify_audit(&self, scope: &Scope<Admin>) -> usize {
        let log = self.store.audit(scope, 0, usize::MAX).await.expect("audit log");
        verify_chain(&log);
        log.len()
    }
}

/// Checks that each entry follows from the one before.
pub(crate) fn verify_chain(log: &[AuditEntry]) {
    let mut chain = ChainVerifier::new();
    for entry in log {
        let followed = chain.follow(entry);
        assert!(followed.is_ok(), "{followed:?} at {entry:?}");
    }
}

pub(crate) fn tenant(name: &str) -> TenantName {
    TenantName::parse(name).expect("a tenant's name")
}

pub(crate) fn spec(name: &str, metric: Metric) -> CollectionSpec {
    CollectionSpec {
        metric,
        ..CollectionSpec::new(CollectionName::parse(name).expect("a collection's name"))
    }
}

pub(crate) fn everything() -> Include {
    Include { vector: true, vectors: true, document: true, uri: true, metadata: true }
}

pub(crate) fn ids(ids: impl IntoIterator<Item = String>) -> Selector {
    let ids = ids.into_iter().map(|id| RecordId::parse(id).expect("an id")).collect();
    Selector { ids: Some(ids), filter: None }
}

/// A record with a vector, a text and whole numbers as metadata.
pub(crate) fn record(id: &str, vector: Vec<f32>, metadata: &[(&str, i64)]) -> RecordWrite {
    let value = |(key, value): &(&str, i64)| ((*key).to_owned(), Some(Value::Int(*value)));
    RecordWrite {
        vector: Some(vector),
        document: Some(format!("the text of {id}")),
        metadata: metadata.iter().map(value).collect(),
        ..RecordWrite::new(RecordId::parse(id).expect("an id"))
    }
}

pub(crate) fn whole_number(record: &Record, key: &str) -> i64 {
    match record.metadata.as_ref().and_then(|metadata| metadata.get(key)) {
        Some(Value::Int(value)) => *value,
        other => panic!("{key} of {:?} is {other:?}", record.id),
    }
}

/// This test binary again, running only the test `entry`, which does something else than return
/// at once because `variable` is set.
pub(crate) fn this_binary(entry: &str, variable: &str, value: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test binary"));
    command.args(arguments(entry)).env(variable, value).stdin(Stdio::null());
    command
}

pub(crate) fn arguments(entry: &str) -> [&str; 3] {
    [entry, "--exact", "--nocapture"]
}

/// A process that is killed when the test ends, however it ends.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Random numbers that are the same in every run (splitmix64).
#[derive(Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// An index of something with this many elements.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index")
    }
}
