//! In which request somebody acts, what its path names, and why, for logs.

use std::{fmt, sync::Arc};
use tenantry_types::{Error, Result, TenantName};

/// Bytes of the longest id of a request.
const REQUEST_BYTES_MAX: usize = 64;

/// The id of a request as its caller or the server gave it. It leads to a request and proves
/// nothing. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// 1 to 64 visible ASCII characters; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_sane = (1..=REQUEST_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_sane.then(|| Self(text.into()))
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The tenant that the start of a request's path names, before the path that is served, or why it
/// names none. It proves nothing. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTenant(Arc<std::result::Result<TenantName, String>>);

impl PathTenant {
    /// What was read there.
    pub fn new(read: Result<TenantName>) -> Self {
        Self(Arc::new(read.map_err(|why| why.public_message().to_owned())))
    }

    /// The tenant's name, if it is one.
    pub fn name(&self) -> Result<&TenantName> {
        match &*self.0 {
            Ok(name) => Ok(name),
            Err(why) => Err(Error::invalid(why.as_str())),
        }
    }
}

/// Why an operator acts in a tenant, in its own words. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StatedReason(Arc<str>);

impl StatedReason {
    /// Bytes of the longest.
    pub const BYTES_MAX: usize = 200;

    /// One line of text, without the spaces around it.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            let most = Self::BYTES_MAX;
            let message = format!("a reason has 1 to {most} bytes, not {}", text.len());
            return Err(Error::invalid(message));
        }
        if text.chars().any(char::is_control) {
            return Err(Error::invalid("a reason has no control characters"));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who acts, and in which request: what a log says of whoever has done something.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    actor: &'a str,
    request: Option<&'a RequestId>,
}

impl<'a> Author<'a> {
    /// Of a request, if it is one.
    pub fn new(actor: &'a str, request: Option<&'a RequestId>) -> Self {
        Self { actor, request }
    }

    /// Work that is done in no request: the server's own, and what goes on after the request that
    /// asked for it.
    pub const fn work(actor: &'a str) -> Self {
        Self { actor, request: None }
    }

    /// As logs show it.
    pub fn actor(self) -> &'a str {
        self.actor
    }

    /// In which request, if it is one.
    pub fn request(self) -> Option<&'a RequestId> {
        self.request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_a_request_is_short_and_visible() {
        for sane in ["a", "01-abc/DEF~", &"x".repeat(64)] {
            assert_eq!(RequestId::parse(sane).unwrap().as_str(), sane);
        }
        for bad in ["", " ", "a b", "\u{1b}", "\u{fc}", &"x".repeat(65)] {
            assert_eq!(RequestId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        let long = "\u{fc}".repeat(StatedReason::BYTES_MAX / 2);
        for (given, read) in [(" ticket 4711 ", "ticket 4711"), (long.as_str(), long.as_str())] {
            assert_eq!(StatedReason::parse(given).unwrap().as_str(), read);
        }
        for bad in ["", "  ", "a\nb", "a\u{85}b", &format!("{long}x")] {
            assert!(StatedReason::parse(bad).is_err(), "{bad:?}");
        }
    }
}
