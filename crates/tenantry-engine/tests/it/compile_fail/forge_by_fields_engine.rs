//! Handles have private fields.

use tenantry_engine::*;

pub fn session(of: Session<Admin>, info: std::sync::Arc<TenantInfo>) -> Session<Admin> {
    Session { tenant: info, ..of } //~ E0451
}

pub fn database(of: Database<Admin>) -> Database<Admin> {
    Database { ..of } //~ E0451
}

pub fn collection(of: Collection<Write>) -> Collection<Write> {
    Collection { ..of } //~ E0451
}
