//! Databases beside the installation's, by name.
//!
//! What was given is repeated nowhere unless it is a name: a URL in the wrong place holds a
//! password all the same.

use super::{Secret, Settings};
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args as _;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny},
};
use std::collections::BTreeMap;
use tenantry::{
    Location, LocationName,
    postgres::{DatabaseUrl, LocationConfig},
};

/// What a file may say: a table, or what flags and variables say.
#[derive(Deserialize)]
#[serde(untagged)]
enum Toml {
    Table(BTreeMap<String, Value>),
    List(Vec<Secret>),
    Text(Secret),
}

/// What a table has beside a name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Url(Secret),
    Other(IgnoredAny),
}

impl Value {
    fn url(&self) -> Option<&str> {
        match self {
            Self::Url(url) => Some(url.reveal()),
            Self::Other(_) => None,
        }
    }

    /// True if a URL is meant, right or wrong.
    fn is_url(&self) -> bool {
        self.url().is_some_and(|url| url.contains("://"))
    }
}

/// Reads `NAME=URL` in each form that a file may have.
pub(super) fn from_toml<'de, D>(from: D) -> Result<Option<Vec<Secret>>, D::Error>
where
    D: Deserializer<'de>,
{
    let no_form =
        || D::Error::custom("write it as a table of NAME = \"URL\", or as a list of \"NAME=URL\"");
    let given = Toml::deserialize(from).map_err(|_| no_form())?;
    Ok(Some(match given {
        Toml::Table(all) => {
            // In TOML what follows the head of a table is in it.
            let strays = |(name, value): &(&String, &Value)| {
                is_setting(name) && (LocationName::parse(name.as_str()).is_err() || !value.is_url())
            };
            if let Some((name, _)) = all.iter().find(strays) {
                return Err(D::Error::custom(format!(
                    "{name} is in this table: settings come before the first line in [brackets]"
                )));
            }
            let pair =
                |(name, value): (String, Value)| Some(format!("{name}={}", value.url()?).into());
            all.into_iter().map(pair).collect::<Option<_>>().ok_or_else(no_form)?
        }
        Toml::List(all) => all,
        Toml::Text(one) => vec![one],
    }))
}

fn is_setting(name: &str) -> bool {
    let all = Settings::augment_args(clap::Command::default());
    all.get_arguments().any(|setting| setting.get_id() == name)
}

/// The locations that the settings describe, and the default one; `home` is the installation's
/// own database, if it is in one.
pub(super) fn locations(
    home: Option<&DatabaseUrl>,
    given: &Settings,
) -> Result<(Vec<LocationConfig>, Option<LocationName>)> {
    let mut all: Vec<LocationConfig> = Vec::new();
    for (name, url) in pairs("location", given.location.as_deref())? {
        // Two names of one database would be one place for two, and home is claimed already.
        let shown = url.to_string();
        let same = all.iter().find(|other| other.url.to_string() == shown);
        let same = same.map(|other| other.name.to_string());
        let is_home = home.is_some_and(|home| home.to_string() == shown);
        let same = same.or_else(|| is_home.then(|| "home".to_owned()));
        if let Some(other) = same {
            bail!("location: {name} is the same database as {other}, {shown}");
        }
        all.push(LocationConfig { name, url, admin_url: None });
    }
    for (name, url) in pairs("location_admin", given.location_admin.as_deref())? {
        let known = all.iter_mut().find(|location| location.name == name);
        let known = known.with_context(|| unknown("location_admin", name))?;
        known.admin_url = Some(url);
    }
    let Some(default) = &given.default_location else { return Ok((all, None)) };
    match Location::parse(default) {
        Ok(Location::Home) => Ok((all, None)),
        Ok(Location::Own) => {
            bail!("default_location: each tenant's own database is given with the tenant")
        }
        Ok(Location::Named(name)) => {
            ensure!(
                all.iter().any(|location| location.name == name),
                unknown("default_location", name)
            );
            Ok((all, Some(name)))
        }
        Err(_) => Err(no_name("default_location")),
    }
}

/// `NAME=URL`, as often as it is given, one or several with spaces between them in each text.
fn pairs(setting: &str, given: Option<&[Secret]>) -> Result<Vec<(LocationName, DatabaseUrl)>> {
    let mut all: Vec<(LocationName, DatabaseUrl)> = Vec::new();
    for pair in given.unwrap_or_default().iter().flat_map(|text| text.reveal().split_whitespace()) {
        let Some((name, url)) = pair.split_once('=') else {
            bail!("{setting}: write each as NAME=URL, with spaces between several")
        };
        let name = LocationName::parse(name).map_err(|_| no_name(setting))?;
        let url = DatabaseUrl::parse(url).with_context(|| format!("{setting}: {name}"))?;
        ensure!(all.iter().all(|(other, _)| *other != name), "{setting}: {name} is given twice");
        all.push((name, url));
    }
    Ok(all)
}

fn no_name(setting: &str) -> anyhow::Error {
    anyhow!(
        "{setting}: that is no name of a location, which has 1 to {} of a-z, 0-9 and -, a letter \
         first, and is neither home nor own; URLs follow it as NAME=URL",
        LocationName::BYTES_MAX
    )
}

fn unknown(setting: &str, name: LocationName) -> String {
    format!(
        "{setting}: there is no location {name}; give its URL by --location {name}=URL, to a \
         command by --database-location"
    )
}
