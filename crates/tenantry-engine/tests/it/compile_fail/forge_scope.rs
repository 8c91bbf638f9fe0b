//! A scope has no public constructor, and its parts cannot be exchanged.

use std::sync::Arc;
use tenantry_auth::{
    Admin, Author, OperatorScope, Principal, Scope, Standing, SystemScope, TenantId,
};

pub fn by_constructor(who: &Principal) -> Scope<Admin> {
    Scope::new(TenantId::new(1), who) //~ E0624
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
    OperatorScope::new(Author::work("me"), true, standing) //~ E0624
}

pub fn system() -> SystemScope {
    SystemScope::new("no reason") //~ E0624
}
