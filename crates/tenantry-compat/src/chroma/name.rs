//! Chroma's grammar of names.
//!
//! One character more is allowed than by Chroma: `:`, so that names such as `user:42` need no
//! encoding. It is applied to names that are given to something, not to names that are looked up:
//! what was made through another protocol can be reached whatever it is called.

use super::error::Failure;
use std::net::Ipv4Addr;
use tenantry_engine::{CollectionName, DatabaseName, TenantName};

const CHARS_MIN: usize = 3;
const CHARS_MAX: usize = 512;

/// The name for a new collection; `field` is its key in the body.
pub(crate) fn collection(name: String, field: &str) -> Result<CollectionName, Failure> {
    check(&name).map_err(|why| Failure::invalid(format!("Validation error: {field}: {why}")))?;
    Ok(CollectionName::parse(name)?)
}

/// The name for a new database. A `+` joins a region and a name; both must be names.
pub(crate) fn database(name: String) -> Result<DatabaseName, Failure> {
    name.splitn(2, '+').try_for_each(check).map_err(Failure::invalid)?;
    Ok(DatabaseName::parse(name)?)
}

/// The name for a new tenant.
pub(crate) fn tenant(name: String) -> Result<TenantName, Failure> {
    if name.chars().count() < CHARS_MIN {
        return Err(Failure::invalid(
            "Validation error: name: a tenant's name has at least 3 characters",
        ));
    }
    Ok(TenantName::parse(name)?)
}

fn check(name: &str) -> Result<(), String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    if !(CHARS_MIN..=CHARS_MAX).contains(&bytes.len())
        || !bytes.iter().all(|b| inner(*b))
        || !edge(bytes.first())
        || !edge(bytes.last())
    {
        return Err(format!(
            "Expected a name containing 3-512 characters from [a-zA-Z0-9._:-], starting and \
             ending with a character in [a-zA-Z0-9]. Got: {}",
            shown(name)
        ));
    }
    if name.contains("..") {
        return Err(format!(
            "Expected a name that does not contains two consecutive periods (..). Got {name}"
        ));
    }
    if name.parse::<Ipv4Addr>().is_ok() {
        return Err(format!("Expected a name that is not a valid ip address. Got {name}"));
    }
    Ok(())
}

/// At most 100 characters of a caller's text.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collection_names_follow_chromas_grammar() {
        let long = "x".repeat(512);
        for good in ["abc", "a.b", "a_b-c.d", "user:1", "db:user", "A1z", "1.2.3", &long] {
            assert!(collection(good.to_owned(), "name").is_ok(), "{good}");
        }
        let longer = "x".repeat(513);
        for bad in [
            "", "ab", "_ab", "ab_", "a..b", "1.2.3.4", "a b", "a/b", ":ab", "ab:", "äbc", "a+b",
            &longer,
        ] {
            let failure = collection(bad.to_owned(), "name").unwrap_err();
            assert_eq!(failure.parts().0, 400, "{bad}");
            assert!(failure.parts().2.starts_with("Validation error: name: Expected a name"));
        }
    }

    #[test]
    fn a_region_may_precede_a_databases_name() {
        assert!(database("us9+east".to_owned()).is_ok());
        for bad in ["us+east", "us9+", "+east", "us9+a+b"] {
            assert!(database(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tenants_name_is_counted_in_characters() {
        assert!(tenant("äöü".to_owned()).is_ok() && tenant("a/ b".to_owned()).is_ok());
        assert!(tenant("ää".to_owned()).is_err());
    }
}
