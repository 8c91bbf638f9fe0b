//! What a caller presents.

use crate::{
    ApiKey,
    key::{invalid_key, is_key_like},
    token::{Token, invalid_token},
};
use tenantry_types::Result;

/// What a caller presents to prove who it is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Nothing.
    None,
    /// An API key.
    Key(ApiKey),
    /// A token of an issuer.
    Token(Token),
}

impl Credential {
    /// Parses the text that a request carries. A text that is neither a key nor a token is refused
    /// exactly like a wrong key, and one that is too long for a token like a wrong token.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if is_key_like(text) {
            return ApiKey::parse(text).map(Self::Key).ok_or_else(invalid_key);
        }
        match Token::parse(text) {
            Some(token) => Ok(Self::Token(token)),
            None if text.len() > Token::BYTES_MAX => Err(invalid_token()),
            None => Err(invalid_key()),
        }
    }
}
