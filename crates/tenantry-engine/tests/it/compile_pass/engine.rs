//! What a program may do with the engine's handles.

use tenantry_engine::*;

pub async fn read(engine: &Engine, who: &Principal, name: &TenantName) -> Result<usize> {
    let session: Session<Read> = engine.session(who, Select::Named(name)).await?;
    let database = session.database(&DatabaseName::default_database()).await?;
    let collection = database.collection(&CollectionName::parse("c")?).await?;
    collection.query(&QueryRequest {
        using: Some(VectorName::parse("title")?),
        vectors: Vec::new(),
        k: 1,
        select: Selector::default(),
        include: Include::default(),
        exact: false,
    }).await?;
    collection.get(&GetRequest::default()).await?;
    collection.count(None).await
}

pub async fn write<L: CanWrite>(database: &Database<L>, spec: &CollectionSpec) -> Result<()> {
    let (collection, _) = database.create_collection(spec, true).await?;
    collection.write(WriteMode::Upsert, Vec::new()).await?;
    collection.delete(&Selector::default(), None).await?;
    collection.change(&CollectionChange::default()).await?.remove().await
}

pub async fn administer(session: &Session<Admin>, key: NewKey, name: &DatabaseName) -> Result<()> {
    session.create_database(name).await?;
    session.delete_database(name).await?;
    let (row, _text) = session.create_key(key).await?;
    session.revoke_key(row.id).await?;
    session.audit(0, 1).await?;
    session.keys().await.map(drop)
}

pub async fn operate(engine: &Engine, who: &Principal, spec: &TenantSpec) -> Result<()> {
    engine.operator(who)?.create_tenant(spec).await.map(drop)
}

pub fn at_any_level<L: Level>(session: &Session<L>) -> TenantId {
    session.tenant().id
}
