//! A principal comes from an authority alone.

use std::sync::Arc;
use tenantry_auth::{KeyRow, Principal, Restriction, Role};

pub fn by_constructor(row: &KeyRow) -> Principal {
    Principal::from_key(row, 0) //~ E0624
}

pub fn as_development() -> Principal {
    Principal::development() //~ E0624
}

pub fn as_local() -> Principal {
    Principal::local() //~ E0624
}

pub fn promote(who: &mut Principal) {
    who.role = Role::Admin; //~ E0616
    who.restriction = Arc::new(Restriction::default()); //~ E0616
}
