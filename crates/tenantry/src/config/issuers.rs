//! The file of the issuers whose tokens are taken.

use super::{Span, one_line};
use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tenantry::{
    Role,
    token::{ClaimPath, ClaimSpec, FilterClaim, IssuerSpec, Issuers, KeysFrom, KeysOf, TenantBy},
};
use toml::Spanned;
use zeroize::Zeroizing;

const SKEW: Duration = Duration::from_secs(60);
const REFRESH: Duration = Duration::from_secs(600);
const REFRESH_MIN: Duration = Duration::from_secs(1);
/// Bytes of the largest file of a secret or of keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    issuer: Vec<Spanned<Words>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    name: String,
    iss: String,
    audience: String,
    secret_file: Option<PathBuf>,
    secret_env: Option<String>,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    discovery_url: Option<String>,
    refresh: Option<Span>,
    skew: Option<Span>,
    lifetime_max: Option<Span>,
    tenant_id: Option<PathWords>,
    tenant_name: Option<PathWords>,
    roles: Option<PathWords>,
    #[serde(default)]
    roles_split: bool,
    #[serde(default)]
    levels: BTreeMap<String, Level>,
    #[serde(default)]
    operator_roles: BTreeSet<String>,
    #[serde(default)]
    members: Membership,
    subject: Option<PathWords>,
    filter: Option<PathWords>,
    filter_required: Option<bool>,
}

/// A path with dots, or the names of one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PathWords {
    Dotted(String),
    Names(Vec<String>),
}

/// Whether tokens count for members only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Membership {
    #[default]
    Off,
    Required,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Read,
    Write,
    Admin,
}

impl From<Level> for Role {
    fn from(level: Level) -> Self {
        match level {
            Level::Read => Self::Read,
            Level::Write => Self::Write,
            Level::Admin => Self::Admin,
        }
    }
}

/// Reads the issuers; says what is wrong with them and where.
pub(crate) fn read_issuers(path: &Path) -> Result<Vec<IssuerSpec>> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).with_context(|| format!("read the token issuers {shown}"))?;
    parse(&text).map_err(|(line, why)| anyhow!("token issuers {shown}, line {line}: {why}"))
}

fn parse(text: &str) -> Result<Vec<IssuerSpec>, (usize, String)> {
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let file: File = toml::from_str(text).map_err(|error| {
        (error.span().map_or(1, |span| line(span.start)), one_line(error.message()))
    })?;
    if file.issuer.is_empty() {
        return Err((1, "there is no [[issuer]]".to_owned()));
    }
    let lines: Vec<_> = file.issuer.iter().map(|issuer| line(issuer.span().start)).collect();
    let mut specs = Vec::new();
    for (issuer, line) in file.issuer.into_iter().zip(&lines) {
        let words = issuer.into_inner();
        let name = words.name.clone();
        specs.push(words.spec().map_err(|why| (*line, format!("issuer {name:?}: {why}")))?);
    }
    match Issuers::new(specs.clone()) {
        Ok(_) => Ok(specs),
        Err((at, why)) => {
            let name = specs.get(at).map_or("", |spec| spec.name.as_str());
            Err((lines.get(at).copied().unwrap_or(1), format!("issuer {name:?}: {why}")))
        }
    }
}

impl PathWords {
    fn path(self, setting: &str) -> Result<ClaimPath, String> {
        let path = match self {
            Self::Dotted(text) => ClaimPath::parse(&text),
            Self::Names(names) => ClaimPath::new(names),
        };
        path.map_err(|why| format!("{setting}: {why}"))
    }
}

impl Words {
    fn spec(mut self) -> Result<IssuerSpec, String> {
        let keys = self.keys()?;
        let tenant = match (self.tenant_id, self.tenant_name) {
            (Some(path), None) => TenantBy::Id(path.path("tenant_id")?),
            (None, Some(path)) => TenantBy::Name(path.path("tenant_name")?),
            (Some(_), Some(_)) => return Err("give either tenant_id or tenant_name".to_owned()),
            (None, None) => {
                let why = "give tenant_id or tenant_name, the claim with the tenant, also if only \
                           operators are to have its tokens";
                return Err(why.to_owned());
            }
        };
        let filter = self.filter.map(|path| path.path("filter")).transpose()?;
        if filter.is_none() && self.filter_required.is_some() {
            return Err("filter_required is given without filter".to_owned());
        }
        let is_required = self.filter_required.unwrap_or(true);
        let needs_member = self.members == Membership::Required;
        let has_words = !self.levels.is_empty() || !self.operator_roles.is_empty();
        let roles = match (self.roles, has_words, needs_member) {
            (Some(roles), true, _) => roles.path("roles")?,
            // Then a token says nothing about them.
            (None, false, true) => ClaimPath::parse("roles")?,
            (_, _, true) => return Err("give roles and levels, or neither".to_owned()),
            (_, _, false) => {
                let why = "give roles and levels: without members = \"required\" a role is what a \
                           token says";
                return Err(why.to_owned());
            }
        };
        let parse = tenantry_api::parse_bound;
        let subject = self.subject.unwrap_or(PathWords::Dotted("sub".into()));
        Ok(IssuerSpec {
            name: self.name,
            iss: self.iss,
            audience: self.audience,
            keys,
            claims: ClaimSpec {
                tenant,
                roles,
                roles_split: self.roles_split,
                levels: self.levels.into_iter().map(|(word, level)| (word, level.into())).collect(),
                operator_roles: self.operator_roles,
                subject: subject.path("subject")?,
                filter: filter.map(|path| FilterClaim { path, is_required, parse }),
                needs_member,
            },
            skew: self.skew.map_or(SKEW, |span| span.0),
            lifetime_max: self.lifetime_max.map(|span| span.0),
        })
    }

    fn keys(&mut self) -> Result<KeysOf, String> {
        let refresh = self.refresh.map_or(REFRESH, |span| span.0);
        let given = (
            self.secret_file.take(),
            self.secret_env.take(),
            self.jwks_file.take(),
            self.jwks_url.take(),
            self.discovery_url.take(),
        );
        let keys = match given {
            (Some(path), None, None, None, None) => KeysOf::Secret(secret(read(&path)?)),
            (None, Some(name), None, None, None) => {
                let text = std::env::var(&name)
                    .map_err(|_| format!("secret_env: the variable {name} is not set"))?;
                KeysOf::Secret(secret(Zeroizing::new(text.into_bytes())))
            }
            (None, None, Some(path), None, None) => KeysOf::Set(read(&path)?.to_vec()),
            (None, None, None, Some(url), None) => KeysOf::Fetched(KeysFrom::Url(url), refresh),
            (None, None, None, None, Some(url)) => {
                KeysOf::Fetched(KeysFrom::Discovery(url), refresh)
            }
            _ => {
                let why = "give one of secret_file, secret_env, jwks_file, jwks_url and \
                           discovery_url";
                return Err(why.to_owned());
            }
        };
        let is_fetched = matches!(keys, KeysOf::Fetched(..));
        if self.refresh.is_some() && !is_fetched {
            return Err("refresh is for keys with a URL".to_owned());
        }
        if refresh < REFRESH_MIN {
            return Err("refresh must be at least 1s".to_owned());
        }
        Ok(keys)
    }
}

/// The secret without the end of the line that an editor puts behind it.
fn secret(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let wrong = |why: std::io::Error| format!("read {shown}: {why}");
    if fs::metadata(path).map_err(wrong)?.len() > FILE_BYTES_MAX {
        return Err(format!("{shown} has more than {FILE_BYTES_MAX} bytes"));
    }
    fs::read(path).map(Zeroizing::new).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One issuer, whose keys are given by these lines.
    fn issuer(keys: &str, more: &str) -> String {
        format!(
            "[[issuer]]\nname = \"login\"\niss = \"https://login.example\"\naudience = \"here\"\n\
             roles = [\"https://login.example/roles\"]\n{keys}\n{more}\n\
             [issuer.levels]\nviewer = \"read\"\nowner = \"admin\"\n"
        )
    }

    const URL: &str = "jwks_url = \"https://login.example/keys\"";
    const BY_ID: &str = "tenant_id = \"app_metadata.tenant\"";

    #[test]
    fn an_issuer_is_read() {
        let [spec] = &parse(&issuer(URL, BY_ID)).unwrap()[..] else { panic!("one issuer") };
        let named = ClaimPath::new(vec!["https://login.example/roles".into()]).unwrap();
        assert_eq!((&spec.claims.roles, spec.skew, spec.lifetime_max), (&named, SKEW, None));
        assert_eq!(
            spec.claims.tenant,
            TenantBy::Id(ClaimPath::parse("app_metadata.tenant").unwrap())
        );
        assert_eq!(spec.claims.subject, ClaimPath::parse("sub").unwrap());
        assert_eq!(spec.claims.levels["owner"], Role::Admin);
        let more = format!("{BY_ID}\nfilter = \"filter\"\nskew = \"5s\"\nlifetime_max = \"1h\"");
        let [spec] = &parse(&issuer(URL, &more)).unwrap()[..] else { panic!("one issuer") };
        assert!(spec.claims.filter.as_ref().unwrap().is_required);
        assert_eq!(spec.skew, Duration::from_secs(5));
        assert_eq!(spec.lifetime_max, Some(Duration::from_secs(3_600)));
    }

    #[test]
    fn tokens_may_count_for_members_only_and_then_say_nothing_of_roles() {
        let required = |text: &str| format!("{BY_ID}\nmembers = \"required\"\n{text}");
        let [spec] = &parse(&issuer(URL, &required(""))).unwrap()[..] else { panic!("one issuer") };
        assert!(spec.claims.needs_member && spec.claims.levels.len() == 2);
        let bare = format!(
            "[[issuer]]\nname = \"login\"\niss = \"https://login.example\"\n\
             audience = \"here\"\n{URL}\n{}",
            required("")
        );
        let [spec] = &parse(&bare).unwrap()[..] else { panic!("one issuer") };
        assert!(spec.claims.needs_member && spec.claims.levels.is_empty());
        let half = format!("{bare}\nroles = \"roles\"");
        assert!(parse(&half).unwrap_err().1.contains("or neither"));
        let off = bare.replace("\"required\"", "\"off\"");
        assert!(parse(&off).unwrap_err().1.contains("a role is what a token says"));
        let unknown = bare.replace("\"required\"", "\"on\"");
        assert!(parse(&unknown).unwrap_err().1.contains("on"));
    }

    #[test]
    fn an_issuer_makes_operators_by_the_roles_that_are_listed_and_by_none_otherwise() {
        let [spec] = &parse(&issuer(URL, BY_ID)).unwrap()[..] else { panic!("one issuer") };
        assert!(spec.claims.operator_roles.is_empty());
        let staff = format!("{BY_ID}\noperator_roles = [\"cross_tenant_admin\"]");
        let [spec] = &parse(&issuer(URL, &staff)).unwrap()[..] else { panic!("one issuer") };
        assert_eq!(spec.claims.operator_roles, BTreeSet::from(["cross_tenant_admin".to_owned()]));
        // Alone, and beside members, whose roles a token does not say.
        let bare = issuer(URL, &staff);
        let (bare, _) = bare.split_once("[issuer.levels]").unwrap();
        for text in [bare.to_owned(), format!("{bare}members = \"required\"\n")] {
            let [spec] = &parse(&text).unwrap()[..] else { panic!("one issuer") };
            assert!(spec.claims.levels.is_empty() && spec.claims.operator_roles.len() == 1);
        }
        let unsaid = bare.replace("roles = [\"https://login.example/roles\"]", "");
        assert!(parse(&unsaid).unwrap_err().1.contains("give roles and levels"));
        let both = format!("{BY_ID}\noperator_roles = [\"owner\"]");
        assert!(parse(&issuer(URL, &both)).unwrap_err().1.contains("operator_roles"));
    }

    #[test]
    fn the_guides_issuers_can_be_read() {
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/tokens.md");
        let guide = fs::read_to_string(guide).unwrap();
        let whole = guide.split("```toml\n[[issuer]]").skip(1).map(|rest| rest.split("```").next());
        let names: Vec<_> = whole
            .map(|text| parse(&format!("[[issuer]]{}", text.unwrap())).unwrap().remove(0).name)
            .collect();
        assert_eq!(names, ["login", "staff"]);
    }

    #[test]
    fn a_secret_is_a_file_without_the_end_of_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let line = format!("secret_file = \"{}\"", path.display());
        for (text, is_taken) in [
            ("x".repeat(32) + "\n", true),
            ("x".repeat(31) + "\n", false),
            ("x".repeat(30) + "\r\n", false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(parse(&issuer(&line, BY_ID)).is_ok(), is_taken);
        }
        fs::write(&path, "y".repeat(40)).unwrap();
        let shown = format!("{:?}", parse(&issuer(&line, BY_ID)).unwrap());
        assert!(!shown.contains("yyy") && !shown.contains("121, 121"), "{shown}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let two = format!("{}\n{}", issuer(URL, BY_ID), issuer(URL, BY_ID));
        for (text, line, says) in [
            (String::new(), 1, "no [[issuer]]"),
            (issuer(URL, &format!("{BY_ID}\nsecret = \"x\"")), 8, "secret"),
            (issuer("", BY_ID), 1, "give one of"),
            (issuer(&format!("{URL}\nsecret_env = \"X\""), BY_ID), 1, "give one of"),
            (issuer("secret_env = \"TENANTRY_NO_SUCH\"", BY_ID), 1, "not set"),
            (issuer("secret_file = \"/nowhere/secret\"", BY_ID), 1, "/nowhere/secret"),
            (issuer("jwks_url = \"http://login.example/keys\"", BY_ID), 1, "not an https URL"),
            (issuer(URL, ""), 1, "issuer \"login\": give tenant_id or tenant_name"),
            (issuer(URL, &format!("{BY_ID}\ntenant_name = \"org\"")), 1, "either tenant_id"),
            (issuer(URL, &format!("{BY_ID}\nskew = \"6m\"")), 1, "skew"),
            (issuer(URL, &format!("{BY_ID}\nrefresh = \"0s\"")), 1, "refresh"),
            (issuer(URL, &format!("{BY_ID}\nfilter_required = true")), 1, "filter_required"),
            (issuer(URL, "tenant_id = \"a..b\""), 1, "tenant_id"),
            (two, 12, "another issuer"),
        ] {
            let (at, why) = parse(&text).unwrap_err();
            assert!(at == line && why.contains(says), "{text}: line {at}: {why}");
        }
    }
}
