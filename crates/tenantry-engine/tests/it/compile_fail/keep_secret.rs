//! A key's secret can be shown or hashed, and nothing else.

use tenantry_auth::ApiKey;

pub fn peek(key: &ApiKey) {
    let _ = &key.secret; //~ E0616
}

pub fn print(key: &ApiKey) -> String {
    format!("{key}") //~ E0277
}
