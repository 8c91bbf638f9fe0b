//! Where somebody says that mail reaches them.

use crate::{Error, Result};
use std::fmt;

/// An address for mail as a stranger has given it: nobody has looked whether it is theirs. It is no
/// list of addresses and no name beside one. Logs do not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// The longest, in bytes.
    pub const BYTES_MAX: usize = 254;

    /// Parses an address.
    pub fn parse(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let refused = |why: &str| Err(Error::invalid(format!("email: {why}")));
        if text.len() > Self::BYTES_MAX {
            return refused(&format!("at most {} bytes are allowed", Self::BYTES_MAX));
        }
        // What makes more of it in a header of a mail.
        let is_foreign =
            |c: char| c.is_control() || c.is_whitespace() || "\"(),:;<>[\\]?&%".contains(c);
        if text.contains(is_foreign) {
            return refused(
                "one address alone is allowed, without a name, spaces, quotes or ?, & and %",
            );
        }
        let is_whole = text.split_once('@').is_some_and(|(whose, domain)| {
            !whose.is_empty() && !domain.is_empty() && !domain.contains('@')
        });
        if is_whole { Ok(Self(text)) } else { refused("a name, one @ and a domain are wanted") }
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Email(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_is_one_address_and_is_not_shown() {
        let longest = format!("{}@example.com", "a".repeat(242));
        for good in ["a@b", "ada+tenant@mail.example.com", "j\u{f6}rg@b\u{fc}ro.example", &longest]
        {
            let parsed = Email::parse(good).unwrap();
            assert_eq!((parsed.as_str(), format!("{parsed:?}")), (good, "Email(…)".to_owned()));
        }
        let too_long = format!("a{longest}");
        for bad in [
            "",
            "@",
            "ada",
            "@example.com",
            "ada@",
            "ada@example.com@example.com",
            "ada@example.com,bob@example.com",
            "ada,bob@example.com",
            "Ada <ada@example.com>",
            " ada@example.com",
            "ada@example.com\r\nBcc:bob",
            "ada\u{0}@example.com",
            "ada\u{85}@example.com",
            &too_long,
        ] {
            let refused = Email::parse(bad).unwrap_err();
            assert!(refused.public_message().starts_with("email: "), "{refused}");
        }
    }
}
