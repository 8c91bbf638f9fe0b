//! A scope has no public constructor, and its parts cannot be exchanged.

use std::sync::Arc;
use tenantry_auth::{Admin, OperatorScope, Restriction, Scope, SystemScope, TenantId};

pub fn by_constructor() -> Scope<Admin> {
    Scope::new(TenantId::new(1), "me", Arc::new(Restriction::default())) //~ E0624
}

pub fn by_default() -> Scope<Admin> {
    Default::default() //~ E0277
}

pub fn move_to_another_tenant(scope: &mut Scope<Admin>) {
    scope.tenant = TenantId::new(2); //~ E0616
}

pub fn widen(scope: &mut Scope<Admin>) {
    scope.restriction = Arc::default(); //~ E0616
}

pub fn operator() -> OperatorScope {
    OperatorScope::new("me", true) //~ E0624
}

pub fn system() -> SystemScope {
    SystemScope::new("no reason") //~ E0624
}
