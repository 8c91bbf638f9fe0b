//! What of a request may name the tenant that it means.
//!
//! Whatever a credential says of its tenant binds it, listed or not: a list narrows what is listened
//! to and gives no right.

use crate::{Engine, Select};
use std::fmt;
use tenantry_auth::Principal;
use tenantry_types::{Error, Result, TenantName};

/// What of a request names a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// A label of the host below the base domain.
    Host,
    /// A header.
    Header,
    /// The start of a path, before what is served, or a part of a dialect's path.
    Path,
    /// The claim of a token.
    Claim,
}

impl NamedBy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Host, Self::Header, Self::Path, Self::Claim];

    /// Its word in settings.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Header => "header",
            Self::Path => "path",
            Self::Claim => "claim",
        }
    }
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What may name tenants. In which order it is listed decides nothing: of two that are listed none
/// wins over the other, they must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSources(Vec<NamedBy>);

impl Default for TenantSources {
    fn default() -> Self {
        Self(NamedBy::ALL.to_vec())
    }
}

impl TenantSources {
    /// Reads words with commas between them, each once.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut listed: Vec<NamedBy> = Vec::new();
        for word in text.split(',').map(str::trim) {
            let found = NamedBy::ALL.into_iter().find(|one| one.word() == word);
            let Some(one) = found else {
                return Err(format!("{word:?} is none of host, header, path and claim"));
            };
            if listed.contains(&one) {
                return Err(format!("{word} is listed twice"));
            }
            listed.push(one);
        }
        Ok(Self(NamedBy::ALL.into_iter().filter(|one| listed.contains(one)).collect()))
    }

    fn have(&self, by: NamedBy) -> bool {
        self.0.contains(&by)
    }
}

/// The header that names a tenant, percent-encoded, in every protocol.
pub const TENANT_HEADER: &str = "X-Tenant-ID";

/// The tenant that a request's values of [`TENANT_HEADER`] name.
pub fn named_by_header<'v>(
    values: impl IntoIterator<Item = &'v [u8]>,
) -> Result<Option<TenantName>> {
    let wrong = |why: &str| Error::invalid(format!("{TENANT_HEADER}: {why}"));
    let mut values = values.into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(wrong("send it once"));
    }
    if !value.is_ascii() {
        return Err(wrong("percent-encode the tenant's name"));
    }
    let name = percent_encoding::percent_decode(value).decode_utf8();
    let name = name.map_err(|_| wrong("not UTF-8 after percent-decoding"))?;
    TenantName::parse(name).map(Some).map_err(|why| wrong(why.public_message()))
}

impl Engine {
    /// Listens to these alone from now on when a request names a tenant. Counts once; all of them
    /// unless it is said.
    pub fn name_tenants_by(&self, sources: TenantSources) {
        let _ = self.0.sources.set(sources);
    }

    /// Whether this names tenants here.
    pub fn names_by(&self, by: NamedBy) -> bool {
        self.0.sources.get().is_none_or(|sources| sources.have(by))
    }

    /// What a request selects that says this name, or none, by a header or a path.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](tenantry_types::ErrorKind::Invalid) for a name that does not count here,
    /// whatever its tenant, since whoever sends one believes that it does; and for a token that is
    /// alone where its claim does not name its tenant.
    pub fn choose<'n>(
        &self,
        who: &Principal,
        by: NamedBy,
        name: Option<&'n TenantName>,
    ) -> Result<Select<'n>> {
        if let Some(name) = name {
            self.check_counts(by)?;
            return Ok(Select::Named(name));
        }
        let is_named = who.addressed().is_some() || self.single_tenant().is_some();
        if who.is_user() && !is_named && !self.names_by(NamedBy::Claim) {
            let why = "a token alone names no tenant on this server (tenant_sources): name its own";
            return Err(Error::invalid(why));
        }
        Ok(Select::Own)
    }

    /// The tenants that host, start of the path and header name around what somebody asks, as
    /// [`Engine::choose`]. A host that does not count is not looked at.
    pub(crate) fn addresses<'w>(&self, who: &'w Principal) -> Result<[Option<&'w TenantName>; 3]> {
        let mut path = None;
        if let Some(named) = who.path() {
            self.check_counts(NamedBy::Path)?;
            path = Some(named.name()?);
        }
        if who.header().is_some() {
            self.check_counts(NamedBy::Header)?;
        }
        Ok([who.host(), path, who.header()])
    }

    fn check_counts(&self, by: NamedBy) -> Result<()> {
        if self.names_by(by) {
            return Ok(());
        }
        let why = "names no tenant on this server (tenant_sources): leave it out";
        Err(Error::invalid(format!("the {by} {why}")))
    }
}

/// The one tenant that all who say a name mean, if one does.
///
/// # Errors
/// Says the first two that differ.
pub(crate) fn agreed<'n>(
    said: [(&str, Option<&'n TenantName>); 4],
) -> Result<Option<&'n TenantName>> {
    let mut said = said.into_iter().filter_map(|(by, name)| Some((by, name?)));
    let Some((by, name)) = said.next() else { return Ok(None) };
    match said.find(|(_, other)| *other != name) {
        None => Ok(Some(name)),
        Some((other, differs)) => {
            let why = format!("the {by} names the tenant {name}, the {other} {differs}: name one");
            Err(Error::invalid(why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_says_a_name_must_agree_with_all_others() {
        let [a, b] = ["a", "b"].map(|name| TenantName::parse(name).unwrap());
        let of =
            |host, path, request| agreed([("h", host), ("p", path), ("x", None), ("r", request)]);
        let (a, b) = (Some(&a), Some(&b));
        for one in [(None, None, a), (None, a, None), (a, None, None), (a, a, None), (a, a, a)] {
            assert_eq!(of(one.0, one.1, one.2).unwrap(), a);
        }
        assert_eq!(of(None, None, None).unwrap(), None);
        for (two, says) in [
            ((a, b, None), "the h names the tenant a, the p b"),
            ((a, None, b), "the h names the tenant a, the r b"),
            ((None, b, a), "the p names the tenant b, the r a"),
            ((a, a, b), "the h names the tenant a, the r b"),
        ] {
            let why = of(two.0, two.1, two.2).unwrap_err().to_string();
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn sources_are_listed_once_each_and_in_any_order() {
        assert_eq!(
            TenantSources::parse("host,header,path,claim").unwrap(),
            TenantSources::default()
        );
        let two = TenantSources::parse(" claim, host ").unwrap();
        assert_eq!(NamedBy::ALL.map(|by| two.have(by)), [true, false, false, true]);
        for (bad, says) in [
            ("", "is none of"),
            ("host,", "is none of"),
            ("Host", "is none of"),
            ("subdomain", "\"subdomain\" is none of"),
            ("host,path,host", "host is listed twice"),
        ] {
            let why = TenantSources::parse(bad).unwrap_err();
            assert!(why.contains(says), "{bad}: {why}");
        }
    }
}
