//! A world to test in: an engine on a folder of its own, with a clock that the test sets.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;
use tenantry_engine::*;
use zeroize::Zeroizing;

/// A clock that stands still until it is set.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn set(&self, now: u64) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// When every test begins.
pub(crate) const START: u64 = 1_800_000_000_000;

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<TestClock>,
    /// An operator with `act_as`, known by a key.
    pub(crate) operator: Principal,
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut EmbeddedConfig)) -> Self {
        Self::built(change, archive::ArchiveConfig::default(), Authority::new()).await
    }

    pub(crate) async fn with_archives(archives: archive::ArchiveConfig) -> Self {
        Self::built(|_| {}, archives, Authority::new()).await
    }

    /// One whose authority trusts these issuers of tokens.
    pub(crate) async fn trusting(issuers: token::Issuers) -> Self {
        let authority = Authority::new().with_issuers(issuers);
        Self::built(|_| {}, archive::ArchiveConfig::default(), authority).await
    }

    async fn built(
        change: impl FnOnce(&mut EmbeddedConfig),
        archives: archive::ArchiveConfig,
        authority: Authority,
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let clock = Arc::new(TestClock(AtomicU64::new(START)));
        let mut config = EmbeddedConfig::new(dir.path().join("data"));
        config.master_key = MasterKey::Bytes(Zeroizing::new([7; 32]));
        config.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        change(&mut config);
        let store = Store::open_embedded(config).unwrap();
        let handed = Arc::clone(&clock) as Arc<dyn Clock>;
        let config = EngineConfig { store, authority, clock: handed };
        let engine = Engine::start_with(config, archives);
        let key = engine.first_operator_key().await.unwrap().unwrap();
        let operator = engine.authenticate(Some(&key)).await.unwrap();
        Self { engine, clock, operator, dir }
    }

    /// The same after a restart, with an operator of another key.
    pub(crate) async fn again(self) -> Self {
        let Self { engine, clock, operator, dir } = self;
        let (_, key) = {
            let operators = engine.operator(&operator).unwrap();
            operators.create_key(true, "again", None).await.unwrap()
        };
        engine.shutdown().await.unwrap();
        drop((engine, operator));
        let mut config = EmbeddedConfig::new(dir.path().join("data"));
        config.master_key = MasterKey::Bytes(Zeroizing::new([7; 32]));
        config.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let store = Store::open_embedded(config).unwrap();
        let handed = Arc::clone(&clock) as Arc<dyn Clock>;
        let config = EngineConfig { store, authority: Authority::new(), clock: handed };
        let engine = Engine::start_with(config, archive::ArchiveConfig::default());
        let operator = engine.authenticate(Some(&key)).await.unwrap();
        Self { engine, clock, operator, dir }
    }

    pub(crate) fn operator(&self) -> Operator {
        self.engine.operator(&self.operator).unwrap()
    }

    /// Makes a tenant; an admin key of it.
    pub(crate) async fn tenant(&self, name: &str) -> String {
        self.operator().create_tenant(&TenantSpec::new(tenant(name))).await.unwrap();
        self.key(name, new_key(Role::Admin)).await
    }

    /// Makes a key of a tenant.
    pub(crate) async fn key(&self, name: &str, key: NewKey) -> String {
        let name = tenant(name);
        let select = Select::Named(&name);
        let session = self.engine.session::<Admin>(&self.operator, select).await.unwrap();
        session.create_key(key).await.unwrap().1
    }

    pub(crate) async fn who(&self, key: &str) -> Principal {
        self.engine.authenticate(Some(key)).await.unwrap()
    }

    /// The session of a key in its own tenant.
    pub(crate) async fn try_session<L: Level>(&self, key: &str) -> Result<Session<L>> {
        let who = self.engine.authenticate(Some(key)).await?;
        self.engine.session(&who, Select::Own).await
    }

    pub(crate) async fn session<L: Level>(&self, key: &str) -> Session<L> {
        self.try_session(key).await.unwrap()
    }

    /// The default database of a key's tenant.
    pub(crate) async fn database<L: Level>(&self, key: &str) -> Database<L> {
        self.session(key).await.database(&DatabaseName::default_database()).await.unwrap()
    }

    /// A collection of the default database, which is made if it is not there.
    pub(crate) async fn collection(&self, key: &str, name: &str) -> Collection<Write> {
        self.database::<Write>(key).await.create_collection(&spec(name), true).await.unwrap().0
    }
}

pub(crate) fn tenant(name: &str) -> TenantName {
    TenantName::parse(name).unwrap()
}

pub(crate) fn database(name: &str) -> DatabaseName {
    DatabaseName::parse(name).unwrap()
}

pub(crate) fn collection(name: &str) -> CollectionName {
    CollectionName::parse(name).unwrap()
}

pub(crate) fn id(id: &str) -> RecordId {
    RecordId::parse(id).unwrap()
}

pub(crate) fn vector_name(name: &str) -> VectorName {
    VectorName::parse(name).unwrap()
}

pub(crate) fn spec(name: &str) -> CollectionSpec {
    CollectionSpec::new(collection(name))
}

pub(crate) fn new_key(role: Role) -> NewKey {
    NewKey { role, restriction: Restriction::default(), label: String::new(), expires_at: None }
}

/// A key of this role that is bound to a filter.
pub(crate) fn bound_key(role: Role, filter: Filter) -> NewKey {
    let restriction = Restriction { objects: None, filter: Some(filter) };
    NewKey { restriction, ..new_key(role) }
}

/// A key of this role that is limited to objects.
pub(crate) fn limited_key(role: Role, objects: impl Into<AllowedSet>) -> NewKey {
    let restriction = Restriction { objects: Some(objects.into()), filter: None };
    NewKey { restriction, ..new_key(role) }
}

pub(crate) fn text(value: &str) -> Value {
    Value::Str(value.to_owned())
}

pub(crate) fn is(key: &str, value: Value) -> Filter {
    Filter::Field { key: key.to_owned(), test: FieldTest::Eq(value) }
}

pub(crate) fn test(key: &str, test: FieldTest) -> Filter {
    Filter::Field { key: key.to_owned(), test }
}

/// A record to write; add to it with the methods of [`Build`].
pub(crate) fn write(name: &str) -> RecordWrite {
    RecordWrite::new(id(name))
}

pub(crate) trait Build: Sized {
    fn vector(self, vector: &[f32]) -> Self;
    fn named(self, name: &str, vector: &[f32]) -> Self;
    fn text(self, text: &str) -> Self;
    fn set(self, key: &str, value: Value) -> Self;
    fn unset(self, key: &str) -> Self;
}

impl Build for RecordWrite {
    fn vector(mut self, vector: &[f32]) -> Self {
        self.vector = Some(vector.to_vec());
        self
    }

    fn named(mut self, name: &str, vector: &[f32]) -> Self {
        self.vectors.insert(vector_name(name), vector.to_vec());
        self
    }

    fn text(mut self, text: &str) -> Self {
        self.document = Some(text.to_owned());
        self
    }

    fn set(mut self, key: &str, value: Value) -> Self {
        self.metadata.insert(key.to_owned(), Some(value));
        self
    }

    fn unset(mut self, key: &str) -> Self {
        self.metadata.insert(key.to_owned(), None);
        self
    }
}

/// Everything of a record.
pub(crate) const ALL: Include =
    Include { vector: true, vectors: true, document: true, uri: true, metadata: true };

pub(crate) fn by_ids(ids: &[&str]) -> Selector {
    Selector { ids: Some(ids.iter().map(|one| id(one)).collect()), filter: None }
}

pub(crate) fn by_filter(filter: Filter) -> Selector {
    Selector { ids: None, filter: Some(filter) }
}

/// The ids of the selected records, in insertion order.
pub(crate) async fn ids<L: Level>(collection: &Collection<L>, select: Selector) -> Vec<String> {
    let request = GetRequest { select, ..GetRequest::default() };
    collection.get(&request).await.unwrap().into_iter().map(|r| r.id.into_string()).collect()
}

pub(crate) async fn all_ids<L: Level>(collection: &Collection<L>) -> Vec<String> {
    ids(collection, Selector::default()).await
}

/// The whole record, if it is there.
pub(crate) async fn find<L: Level>(collection: &Collection<L>, name: &str) -> Option<Record> {
    let request = GetRequest { select: by_ids(&[name]), include: ALL, ..GetRequest::default() };
    collection.get(&request).await.unwrap().pop()
}

pub(crate) fn query(vector: &[f32], k: usize) -> QueryRequest {
    QueryRequest { vectors: vec![vector.to_vec()], k, ..QueryRequest::default() }
}

/// Kind and words of a refusal: all that a caller learns from it.
pub(crate) fn shown<T>(outcome: Result<T>) -> (ErrorKind, String) {
    match outcome {
        Ok(_) => panic!("this must be refused"),
        Err(error) => (error.kind(), error.public_message().to_owned()),
    }
}

pub(crate) fn kind<T>(outcome: Result<T>) -> ErrorKind {
    shown(outcome).0
}
