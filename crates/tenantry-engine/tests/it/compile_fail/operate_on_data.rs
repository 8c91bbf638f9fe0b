//! The operator's handle reaches no tenant's data.

use tenantry_engine::*;

pub async fn database(o: &Operator, name: &DatabaseName) {
    let _ = o.database(name).await; //~ E0599
}

pub async fn session(o: &Operator, name: &TenantName) {
    let _ = o.session::<Admin>(name).await; //~ E0599
}

pub async fn tenant_audit(o: &Operator, name: &TenantName) {
    let _ = o.audit(name, 1).await; //~ E0308
}
