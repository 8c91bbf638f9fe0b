//! What the store found has private fields.

use std::sync::Arc;
use tenantry_store::{CollectionInfo, CollectionRef, DatabaseInfo, DatabaseRef};

pub fn collection(of: CollectionRef, info: CollectionInfo) -> CollectionRef {
    CollectionRef { info: Arc::new(info), ..of } //~ E0451
}

pub fn database(of: DatabaseRef, info: DatabaseInfo) -> DatabaseRef {
    DatabaseRef { info: Arc::new(info), ..of } //~ E0451
}
