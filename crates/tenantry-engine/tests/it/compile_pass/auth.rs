//! What a program may do with scopes.

use tenantry_auth::{Admin, Authority, Level, OperatorScope, Principal, Read, Scope, TenantId, Write};

pub fn narrow(scope: &Scope<Admin>) -> (Scope<Read>, Scope<Write>) {
    (scope.to_read(), scope.to_write())
}

pub fn ask<L: Level>(authority: &Authority, who: &Principal) -> Option<Scope<L>> {
    authority.authorize(who, TenantId::new(1), "a").ok()
}

pub fn operator(authority: &Authority, who: &Principal) -> Option<OperatorScope> {
    authority.authorize_operator(who).ok()
}
