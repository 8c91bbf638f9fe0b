//! Handles come from the engine alone.

use tenantry_engine::*;

pub fn by_identity(engine: &Engine) {
    let _ = engine.session::<Read>(TenantId::new(1), Select::Own); //~ E0308
}

pub fn engine_inside(engine: &Engine) {
    let _ = &engine.0; //~ E0616
}
