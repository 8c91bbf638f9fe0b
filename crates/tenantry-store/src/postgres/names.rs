//! Names of roles, databases and schemas, and what their versions must be.

use std::{fmt, sync::Arc};
use tenantry_types::{Error, Result};

/// The schema of the tables that tenants share, in the installation's database.
pub(crate) const ROOT_SCHEMA: &str = "tenantry";
/// The schema of pgvector in every database of an installation.
pub(crate) const VECTOR_SCHEMA: &str = "tenantry_ext";
/// The tables of a place.
pub(crate) const TABLES: [&str; 3] = ["catalog", "records", "vectors"];

const NAME_BYTES_MAX: usize = 31;
/// With it the name of a place has 44 bytes; PostgreSQL cuts names at 63.
const PREFIX_BYTES_MAX: usize = 24;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The names of an installation's own roles and databases, all made from one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(String);

impl Names {
    /// Takes `[a-z][a-z0-9_]{0,30}`.
    ///
    /// # Errors
    /// [`tenantry_types::ErrorKind::Invalid`] for anything else, and for what PostgreSQL or
    /// tenants' own places could be called.
    pub fn parse(name: &str) -> Result<Self> {
        let is_word = is_identifier(name) && name.len() <= NAME_BYTES_MAX;
        if !is_word || name.starts_with("pg_") || name.starts_with("ten_") {
            return Err(Error::invalid(format!(
                "the name [{}] must be 1 to {NAME_BYTES_MAX} of a to z, 0 to 9 and _, must begin \
                 with a letter and not with pg_ or ten_",
                name.escape_debug()
            )));
        }
        Ok(Self(name.to_owned()))
    }

    /// The database of the root, of all tenants that are together, and of tenants' schemas.
    pub fn database(&self) -> &str {
        &self.0
    }

    /// The database that tenants' own databases are made from.
    pub fn template(&self) -> String {
        format!("{}_template", self.0)
    }

    /// The role that makes and removes places; it owns everything.
    pub fn admin(&self) -> String {
        format!("{}_admin", self.0)
    }

    /// The role that serves; it owns nothing.
    pub fn service(&self) -> String {
        format!("{}_service", self.0)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self("tenantry".to_owned())
    }
}

/// What stands before the names of all places that are made through one database, so that people
/// tell them from others. The default is nothing.
///
/// Names with different prefixes are different, and none of them has the form of another's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlacePrefix(Arc<str>);

impl PlacePrefix {
    /// Takes `[a-z][a-z0-9_]{0,22}_`.
    ///
    /// # Errors
    /// [`tenantry_types::ErrorKind::Invalid`] for anything else, and for what PostgreSQL keeps for
    /// itself.
    pub fn parse(text: &str) -> Result<Self> {
        let is_word = is_identifier(text) && text.len() <= PREFIX_BYTES_MAX;
        if !is_word || !text.ends_with('_') || text.starts_with("pg_") {
            return Err(Error::invalid(format!(
                "the prefix of places [{}] must be 2 to {PREFIX_BYTES_MAX} of a to z, 0 to 9 and \
                 _, must begin with a letter and not with pg_, and must end with _",
                text.escape_debug()
            )));
        }
        Ok(Self(text.into()))
    }

    /// Empty if there is none.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if places are called without one.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// What the name of a place looks like, as a regular expression of PostgreSQL. It can stand
    /// between quotes.
    pub(crate) fn pattern(&self) -> String {
        format!("^{}ten_[a-z2-7]{{16}}$", self.0)
    }
}

/// The one name of a tenant's role, schema and database. It says nothing about the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PlaceName(Arc<str>);

impl PlaceName {
    /// The name that belongs to a keyed hash of the tenant's id.
    pub(crate) fn of_hash(prefix: &PlacePrefix, hash: &[u8; 32]) -> Self {
        Self(format!("{}ten_{}", prefix.0, base32(hash.split_at(10).0)).into())
    }

    /// A name that was read from the server; `None` if it is not that of a place with exactly
    /// this prefix.
    pub(crate) fn parse(prefix: &PlacePrefix, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(&*prefix.0)?.strip_prefix("ten_")?;
        let is_ours = rest.len() == 16 && rest.bytes().all(|byte| ALPHABET.contains(&byte));
        is_ours.then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes as lower-case base32 without padding; every five bytes are eight characters.
pub(crate) fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for &byte in bytes {
        held = held << 8 | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits & 31) as usize]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits) & 31) as usize]));
    }
    text
}

/// True for what stands in SQL as it is, but for reserved words.
fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 63
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// An identifier in quotes, ready for SQL. Everything that is put into SQL goes through here.
pub(crate) fn quoted(identifier: &str) -> Result<String> {
    if !is_identifier(identifier) {
        let shown = identifier.escape_debug();
        return Err(Error::internal(format!("[{shown}] may not stand in a statement")));
    }
    Ok(format!("\"{identifier}\""))
}

/// The oldest pgvector that is taken.
const PGVECTOR_MIN: (u32, u32) = (0, 8);

/// Why a server of this version (as `server_version_num` has it) is refused, if it is.
pub(crate) fn server_refusal(version: u32, shown: &str) -> Option<String> {
    match version {
        0..160_000 => Some(format!(
            "PostgreSQL 16 or newer is needed, this is {shown}: before 16 a role that makes roles \
             can give itself the server's own rights"
        )),
        160_000..160_010 | 170_000..170_006 => Some(format!(
            "PostgreSQL {shown} has known holes in row-level security and statistics \
             (CVE-2024-10976, CVE-2025-8713): update it to 16.10, 17.6 or newer"
        )),
        _ => None,
    }
}

/// Why this version of pgvector is refused, if it is.
pub(crate) fn pgvector_refusal(version: &str) -> Option<String> {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (found < PGVECTOR_MIN).then(|| {
        format!(
            "pgvector 0.8 or newer is needed, this is {}: install a newer one on the server and \
             run `tenantry postgres setup`",
            version.escape_debug()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for name in ["tenantry", "a", "a_1", "abcdefghijklmnopqrstuvwxyz01234"] {
            assert!(Names::parse(name).is_ok(), "{name}");
        }
        for name in ["", "1a", "_a", "A", "a-b", "a\"b", "pg_a", "ten_a", &"a".repeat(32), "é"] {
            assert!(Names::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_place_is_called_by_eighty_bits_of_its_hash() {
        let mut hash = [0_u8; 32];
        let none = PlacePrefix::default();
        assert_eq!(PlaceName::of_hash(&none, &hash).as_str(), "ten_aaaaaaaaaaaaaaaa");
        hash[..10].copy_from_slice(b"foobarfoob");
        let name = PlaceName::of_hash(&none, &hash);
        assert_eq!(name.as_str(), "ten_mzxw6ytbojtg633c");
        let same = data_encoding::BASE32_NOPAD.encode(b"foobarfoob").to_lowercase();
        assert_eq!(name.as_str(), format!("ten_{same}"));
        assert_eq!(PlaceName::parse(&none, name.as_str()), Some(name));
        for other in ["ten_", "ten_AAAAAAAAAAAAAAAA", "ten_aaaaaaaaaaaaaaa1", "tenantry"] {
            assert_eq!(PlaceName::parse(&none, other), None);
        }
    }

    #[test]
    fn a_prefix_is_a_word_that_ends_with_an_underscore() {
        for text in ["a_", "shop_", "shop_2_", "ten_", "a__", "abcdefghijklmnopqrstuvw_"] {
            assert_eq!(PlacePrefix::parse(text).unwrap().as_str(), text);
        }
        let long = format!("{}_", "a".repeat(24));
        for text in [
            "", "_", "a", "shop", "2_", "_a_", "A_", "a-_", "a\"_", "a'_", "a._", "pg_", "pg_a_",
            "é_", &long,
        ] {
            assert!(PlacePrefix::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_place_is_known_by_its_own_prefix_alone() {
        let all = ["", "a_", "aa_", "a_a_", "ten_", "a_ten_", "ten_a_", "abcdefghijklmnopqrstuvw_"];
        let prefix = |text: &str| match text {
            "" => PlacePrefix::default(),
            text => PlacePrefix::parse(text).unwrap(),
        };
        for one in all {
            let name = PlaceName::of_hash(&prefix(one), &[7; 32]);
            assert_eq!(name.as_str(), format!("{one}ten_a4dqobyha4dqobyh"));
            assert!(quoted(name.as_str()).is_ok() && name.as_str().len() <= 44);
            for other in all {
                let found = PlaceName::parse(&prefix(other), name.as_str());
                assert_eq!(found.is_some(), one == other, "{name} with [{other}]");
            }
        }
        assert_eq!(prefix("a_").pattern(), "^a_ten_[a-z2-7]{16}$");
        assert_eq!(prefix("").pattern(), "^ten_[a-z2-7]{16}$");
    }

    #[test]
    fn only_identifiers_stand_in_statements() {
        assert_eq!(quoted("user").unwrap(), "\"user\"");
        for text in ["", "a\"", "a b", "a;", "A", &"a".repeat(64)] {
            assert!(quoted(text).is_err(), "{text}");
        }
    }

    #[test]
    fn servers_that_are_too_old_or_have_known_holes_are_refused() {
        for (version, refused) in [
            (150_014, true),
            (160_009, true),
            (160_010, false),
            (170_000, true),
            (170_005, true),
            (170_006, false),
            (180_000, false),
        ] {
            assert_eq!(server_refusal(version, "x").is_some(), refused, "{version}");
        }
        for (version, refused) in
            [("0.7.4", true), ("0.8.0", false), ("0.10.0", false), ("1.0", false), ("", true)]
        {
            assert_eq!(pgvector_refusal(version).is_some(), refused, "{version}");
        }
    }
}
