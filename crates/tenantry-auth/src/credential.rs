//! What a caller presents.

use crate::ApiKey;
use tenantry_types::Result;

/// What a caller presents to prove who it is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Nothing.
    None,
    /// An API key.
    Key(ApiKey),
}

impl Credential {
    /// Parses the text of a token. Text that is not a key is refused exactly like a wrong key.
    pub fn parse(token: &str) -> Result<Self> {
        ApiKey::parse(token.trim()).map(Self::Key).ok_or_else(crate::key::invalid_key)
    }
}
