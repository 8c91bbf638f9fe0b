//! What a program may do with what the store found.

use tenantry_store::{CollectionRef, DatabaseRef};

pub fn names(database: &DatabaseRef, collection: &CollectionRef) -> (String, String) {
    (database.info().name.to_string(), collection.info().name.to_string())
}
