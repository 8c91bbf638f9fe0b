//! Which database a tenant is in, if there are several.

use crate::{Error, Result};
use std::fmt;
use zeroize::Zeroizing;

/// The name of a location that the configuration gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocationName {
    /// Zeros after the text.
    text: [u8; Self::BYTES_MAX],
    length: u8,
}

impl LocationName {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 24;

    /// Parses a name: 1 to 24 of `a`–`z`, `0`–`9` and `-`, the first of them a letter, and neither
    /// `home` nor `own`.
    pub fn parse(name: &str) -> Result<Self> {
        let refused = |why| Err(Error::invalid(format!("the location {name:?} {why}")));
        if name.len() > Self::BYTES_MAX {
            let (long, most) = (name.len(), Self::BYTES_MAX);
            let why = format!("location name: {long} bytes, at most {most} are allowed");
            return Err(Error::invalid(why));
        }
        if [HOME, OWN].contains(&name) {
            return refused("has a word as its name that means something else");
        }
        let is_known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(is_known) {
            return refused("does not exist: a name has letters a-z, digits and -, a letter first");
        }
        let mut text = [0; Self::BYTES_MAX];
        text[..name.len()].copy_from_slice(name.as_bytes());
        let length = u8::try_from(name.len()).map_err(|_| Error::internal("a long location"))?;
        Ok(Self { text, length })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // Only what was text is ever put in.
        str::from_utf8(&self.text[..self.length.into()]).unwrap_or_default()
    }
}

impl fmt::Display for LocationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for LocationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

const HOME: &str = "home";
const OWN: &str = "own";

/// Which database has a tenant's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Location {
    /// The one that the installation is in.
    #[default]
    Home,
    /// One that the configuration names.
    Named(LocationName),
    /// One whose URL the tenant carries.
    Own,
}

impl Location {
    /// The location with this word: `home`, `own` or a name.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            HOME => Ok(Self::Home),
            OWN => Ok(Self::Own),
            name => LocationName::parse(name).map(Self::Named),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home => f.write_str(HOME),
            Self::Named(name) => f.write_str(name.as_str()),
            Self::Own => f.write_str(OWN),
        }
    }
}

/// Text that is never shown, and overwritten when it is let go.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for whoever needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// The database that a tenant carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnDatabase {
    /// Its URL, with the role that serves.
    pub url: SecretText,
    /// The same database with the role that owns its tables; without it there are no graphs, and
    /// whoever owns the database migrates it.
    pub admin_url: Option<SecretText>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "eu-west-1", "abcdefghijklmnopqrstuvwx", "homes"] {
            assert_eq!(LocationName::parse(good).unwrap().as_str(), good);
            assert_eq!(Location::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "1a", "-a", "A", "aB", "a b", "ä", "a\0", "home", "own", &"a".repeat(25)] {
            assert!(LocationName::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Location::parse("home").unwrap(), Location::Home);
        assert_eq!(Location::parse("own").unwrap(), Location::Own);
        assert!(Location::parse("Home").is_err());
    }

    #[test]
    fn nothing_shows_a_secret() {
        let url = SecretText::new("postgresql://a:hush@h/d");
        let own = OwnDatabase { admin_url: Some(url.clone()), url };
        assert!(!format!("{own:?} {own:#?}").contains("hush"));
        assert!(own.url.reveal().contains("hush"));
    }
}
