//! A scope goes down a level, never up, and an operator's scope is none of a tenant.

use tenantry_auth::{Admin, OperatorScope, Read, Scope, Write};

pub fn up(scope: &Scope<Read>) -> Scope<Write> {
    scope.to_write() //~ E0599
}

pub fn assign(scope: Scope<Write>) -> Scope<Admin> {
    scope //~ E0308
}

pub fn through_the_private_door(scope: &Scope<Read>) -> Scope<Admin> {
    scope.at() //~ E0624
}

pub fn from_the_operator(scope: OperatorScope) -> Scope<Admin> {
    scope //~ E0308
}
