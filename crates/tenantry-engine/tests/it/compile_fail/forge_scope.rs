//! A scope has no public constructor, and its parts cannot be exchanged.

use std::sync::Arc;
use tenantry_auth::{Admin, OperatorScope, Restriction, Scope, Standing, SystemScope, TenantId};

pub fn by_constructor(standing: Standing) -> Scope<Admin> {
    Scope::new(TenantId::new(1), "me", Arc::new(Restriction::default()), standing) //~ E0624
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

pub fn operator(standing: Standing) -> OperatorScope {
    OperatorScope::new("me", true, standing) //~ E0624
}

pub fn system() -> SystemScope {
    SystemScope::new("no reason") //~ E0624
}
