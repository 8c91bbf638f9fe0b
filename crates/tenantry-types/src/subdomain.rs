//! Names of tenants that are a part of an address.

use crate::{Error, Result, TenantName};

/// The longest label of a domain.
const LABEL_BYTES_MAX: usize = 63;
const LABEL_BYTES_MIN: usize = 3;

/// Labels that are the installation's own, or that people would take for it.
const RESERVED: &[&str] = &[
    "about",
    "abuse",
    "account",
    "accounts",
    "admin",
    "administrator",
    "api",
    "app",
    "assets",
    "auth",
    "autoconfig",
    "autodiscover",
    "billing",
    "blog",
    "cdn",
    "chroma",
    "console",
    "dashboard",
    "default",
    "demo",
    "dev",
    "docs",
    "email",
    "ftp",
    "git",
    "healthz",
    "help",
    "host",
    "hostmaster",
    "imap",
    "info",
    "internal",
    "isatap",
    "localhost",
    "login",
    "logout",
    "mail",
    "metrics",
    "milvus",
    "mta-sts",
    "mx",
    "news",
    "noreply",
    "ns",
    "ns1",
    "ns2",
    "oauth",
    "openai",
    "operator",
    "pinecone",
    "pop",
    "postmaster",
    "qdrant",
    "readyz",
    "register",
    "root",
    "security",
    "signup",
    "smtp",
    "ssl",
    "sso",
    "staging",
    "static",
    "status",
    "store",
    "support",
    "system",
    "tenant",
    "tenantry",
    "tenants",
    "test",
    "usenet",
    "v1",
    "v2",
    "webmail",
    "webmaster",
    "wpad",
    "www",
];

/// Labels of the installation itself.
const SILENT: [&str; 3] = ["admin", "api", "www"];

/// True for a label below the installation's domain that names no tenant, also if one is called so.
pub fn is_silent_subdomain(label: &str) -> bool {
    SILENT.contains(&label)
}

/// A tenant's name that is one label of a domain and that a stranger may choose: 3 to 63 lower-case
/// letters, digits and hyphens, none at either end and none in the third and fourth place together,
/// which would be another alphabet's, and no word that is reserved.
pub fn parse_subdomain(text: &str) -> Result<TenantName> {
    let refused = |why: String| Err(Error::invalid(format!("subdomain: {why}")));
    if !(LABEL_BYTES_MIN..=LABEL_BYTES_MAX).contains(&text.len()) {
        return refused(format!("{LABEL_BYTES_MIN} to {LABEL_BYTES_MAX} characters are allowed"));
    }
    let is_known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !text.bytes().all(is_known) {
        return refused("only a to z, 0 to 9 and - are allowed".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') || text.get(2..4) == Some("--") {
        return refused("- may not be first or last, nor third and fourth".to_owned());
    }
    if RESERVED.binary_search(&text).is_ok() {
        return refused(format!("{text} is reserved"));
    }
    TenantName::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_words_are_in_order_and_are_found() {
        assert!(RESERVED.is_sorted());
        assert!(RESERVED.iter().all(|word| parse_subdomain(word).is_err()));
        // What selects nobody is given to nobody.
        assert!(SILENT.iter().all(|word| RESERVED.contains(word) && is_silent_subdomain(word)));
        assert!(!is_silent_subdomain("acme"));
    }

    #[test]
    fn a_subdomain_is_one_label_in_lower_case() {
        let longest = "a".repeat(63);
        for good in ["acme", "a-1", "123", "a--b", &longest] {
            assert_eq!(parse_subdomain(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            "a",
            "ab",
            "Acme",
            "a.b",
            "a_b",
            "-ab",
            "ab-",
            "xn--a",
            "\u{e9}cole",
            "a b",
            "a/b",
            "www",
            "admin",
            "acme\n",
            &too_long,
        ] {
            assert!(parse_subdomain(bad).is_err(), "{bad:?}");
        }
    }
}
