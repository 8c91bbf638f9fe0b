//! What the store found cannot be made up.

use tenantry_store::{CollectionRef, DatabaseRef};

pub fn exchange_collection(one: &mut CollectionRef, other: CollectionRef) {
    one.info = other.info; //~ E0616
}

pub fn exchange(one: &mut DatabaseRef, other: DatabaseRef) {
    one.info = other.info; //~ E0616
}
