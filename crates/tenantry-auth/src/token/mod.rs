//! Tokens (JWT, RFC 7519) of issuers that the operator trusts.
//!
//! ```text
//! text → Token: three parts, at most 8 KiB
//!   → Issuers: whose it is, signed by a key of this issuer, within its time
//!     → tenant, role, subject, filter: what the issuer's claims mean here
//! ```
//!
//! Nothing that a token says of itself is believed before its signature is, and the algorithm never.

mod cache;
mod claims;
mod issuer;
mod issuers;
mod json;
mod keys;

pub use claims::{ClaimPath, ClaimSpec, ClaimedTenant, FilterClaim, TenantBy};
pub use issuer::{FetchedKeys, IssuerSpec, KeysFrom, KeysOf, is_fetchable, keys_url};
pub use issuers::Issuers;
pub use keys::SECRET_BYTES_MIN;

pub(crate) use claims::Claimed;

use std::fmt;
use tenantry_types::{Error, ErrorKind};
use zeroize::Zeroizing;

/// A text with the form of a token. It proves nothing yet; `Debug` hides it.
#[derive(Clone)]
pub struct Token {
    text: Zeroizing<String>,
    /// Where the first and the second dot are.
    dots: (usize, usize),
}

impl Token {
    /// Bytes of the longest token.
    pub const BYTES_MAX: usize = 8 << 10;

    /// Three parts of base64url with dots between them, of which the last may be empty, as in a
    /// token that nobody has signed.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > Self::BYTES_MAX {
            return None;
        }
        let mut found = text.match_indices('.').map(|(at, _)| at);
        let dots = (found.next()?, found.next()?);
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_one = found.next().is_none()
            && dots.0 > 0
            && dots.1 > dots.0 + 1
            && text.bytes().all(|byte| byte == b'.' || is_base64(byte));
        is_one.then(|| Self { text: Zeroizing::new(text.to_owned()), dots })
    }

    fn text(&self) -> &str {
        &self.text
    }

    fn header(&self) -> &str {
        &self.text[..self.dots.0]
    }

    fn claims(&self) -> &str {
        &self.text[self.dots.0 + 1..self.dots.1]
    }

    /// What the signature covers.
    fn message(&self) -> &str {
        &self.text[..self.dots.1]
    }

    fn signature(&self) -> &str {
        &self.text[self.dots.1 + 1..]
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// It may be anybody's: only the log says why.
    Forged(&'static str),
    /// A trusted issuer has signed it, so its holder may know.
    Signed(&'static str),
    /// The issuer's keys are not known now.
    NoKeys,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Forged(why) => invalid_token().with_source(why),
            Refusal::Signed(why) => {
                Self::new(ErrorKind::Unauthenticated, format!("the token is not valid: {why}"))
            }
            Refusal::NoKeys => Self::new(
                ErrorKind::Unavailable,
                "the keys of the token's issuer are not known now; try again",
            ),
        }
    }
}

/// The one answer to every token that nobody trusted has signed, and to those whose tenant is not
/// there.
pub(crate) fn invalid_token() -> Error {
    Error::new(ErrorKind::Unauthenticated, "the token is not valid")
}

#[cfg(test)]
mod tests;
