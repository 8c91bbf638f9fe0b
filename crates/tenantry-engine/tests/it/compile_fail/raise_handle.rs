//! A handle's level is part of its type, and no handle turns into a higher one.

use tenantry_engine::*;

pub fn session(read: Session<Read>) -> Session<Admin> {
    read //~ E0308
}

pub fn database(read: Database<Read>) -> Database<Write> {
    read //~ E0308
}

pub async fn collection(d: &Database<Read>, name: &CollectionName) -> Result<Collection<Write>> {
    d.collection(name).await //~ E0308
}
