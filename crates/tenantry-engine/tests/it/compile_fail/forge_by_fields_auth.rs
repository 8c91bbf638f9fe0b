//! Scopes, principals and authorities have private fields. (The compiler looks at this only in
//! programs that are right otherwise, so it has files of its own.)

use std::{marker::PhantomData, sync::Arc};
use tenantry_auth::{Admin, ApiKey, Authority, KeyOwner, Principal, Scope, Standing, TenantId};

pub fn scope(standing: Standing) -> Scope<Admin> {
    Scope {
        tenant: TenantId::new(1), //~ E0451
        actor: "me".into(), //~ E0451
        request: None, //~ E0451
        restriction: Arc::default(), //~ E0451
        standing, //~ E0451
        level: PhantomData, //~ E0451
    }
}

pub fn scope_from_another(scope: Scope<Admin>) -> Scope<Admin> {
    Scope { tenant: TenantId::new(2), ..scope } //~ E0451
}

pub fn principal(of: Principal) -> Principal {
    Principal { owner: KeyOwner::Operator { act_as: true }, ..of } //~ E0451
}

pub fn authority(of: Authority) -> Authority {
    Authority { ..of } //~ E0451
}

pub fn look_inside(key: ApiKey) {
    let ApiKey { secret: _, .. } = key; //~ E0451
}
