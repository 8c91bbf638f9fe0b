//! Whether keys are demanded is settled when an authority is made.

use tenantry_auth::Authority;

pub fn open_later(authority: &mut Authority) {
    authority.keyless = loop {}; //~ E0616
}
