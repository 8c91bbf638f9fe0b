//! A handle for reading has no writing methods.

use tenantry_engine::*;

pub async fn write(c: &Collection<Read>) {
    let _ = c.write(WriteMode::Upsert, Vec::new()).await; //~ E0599
}

pub async fn delete(c: &Collection<Read>) {
    let _ = c.delete(&Selector::default(), None).await; //~ E0599
}

pub async fn change(c: &Collection<Read>) {
    let _ = c.change(&CollectionChange::default()).await; //~ E0599
}

pub async fn remove(c: Collection<Read>) {
    let _ = c.remove().await; //~ E0599
}

pub async fn create(d: &Database<Read>, spec: &CollectionSpec) {
    let _ = d.create_collection(spec, true).await; //~ E0599
}

pub async fn at_any_level<L: Level>(c: &Collection<L>) {
    let _ = c.write(WriteMode::Upsert, Vec::new()).await; //~ E0599
}
