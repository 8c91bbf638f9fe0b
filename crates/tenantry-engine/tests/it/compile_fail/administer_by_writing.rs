//! A handle for writing manages neither keys nor databases and reads no audit log.

use tenantry_engine::*;

pub async fn create_key(s: &Session<Write>, key: NewKey) {
    let _ = s.create_key(key).await; //~ E0599
}

pub async fn keys(s: &Session<Write>, id: KeyId) {
    let _ = s.keys().await; //~ E0599
    let _ = s.revoke_key(id).await; //~ E0599
}

pub async fn databases(s: &Session<Write>, name: &DatabaseName) {
    let _ = s.create_database(name).await; //~ E0599
    let _ = s.delete_database(name).await; //~ E0599
}

pub async fn audit(s: &Session<Read>) {
    let _ = s.audit(0, 1).await; //~ E0599
}

pub async fn at_any_writing_level<L: CanWrite>(s: &Session<L>, key: NewKey) {
    let _ = s.create_key(key).await; //~ E0599
}
