//! Where tenants live while clients are run against the program: what follows for callers is the
//! same everywhere.

use crate::{
    postgres::{self, Postgres},
    step::{command, output},
};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{fmt, path::Path};

/// A backend and what is done on it with tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    backend: Backend,
    isolation: &'static str,
    location: Location,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Embedded,
    Postgres,
}

/// Which database tenants are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Location {
    /// The installation's.
    Home,
    /// Another one, which the program is told by name.
    Named,
    /// One that each tenant carries.
    Own,
}

/// The name of the other database.
const LOCATION: &str = "elsewhere";
/// Tells `clients/chroma/python/server.py` to make each tenant a database, and with what name.
const OWN_DATABASES: &str = "TENANTRY_TEST_OWN_DATABASES";

/// What the program is told besides its flags.
pub(crate) type Variables = Vec<(&'static str, String)>;

impl Placement {
    /// Tenants as they are without a word about it.
    pub(crate) const USUAL: Self = Self::new(Backend::Embedded, "shared");

    /// All that clients are run against, the usual one first.
    pub(crate) const ALL: &'static [Self] = &[
        Self::USUAL,
        Self::new(Backend::Embedded, "schema"),
        Self::new(Backend::Embedded, "database"),
        Self { location: Location::Named, ..Self::new(Backend::Embedded, "shared") },
        Self::new(Backend::Postgres, "shared"),
        Self::new(Backend::Postgres, "schema"),
        Self::new(Backend::Postgres, "database"),
        Self { location: Location::Named, ..Self::new(Backend::Postgres, "shared") },
        Self { location: Location::Own, ..Self::new(Backend::Postgres, "database") },
    ];

    const fn new(backend: Backend, isolation: &'static str) -> Self {
        Self { backend, isolation, location: Location::Home }
    }

    /// As `Display` writes it, with `-` between the two.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let name = |placement: &Self| placement.to_string().replace(' ', "-");
        let found = Self::ALL.iter().find(|placement| name(placement) == text);
        let all: Vec<_> = Self::ALL.iter().map(name).collect();
        found.copied().ok_or_else(|| format!("one of {}", all.join(", ")))
    }

    /// False if tenants can only be made by whoever has a URL for them, which Chroma's protocol
    /// has no word for.
    pub(crate) fn takes_any_tenant(self) -> bool {
        self.location != Location::Own
    }

    /// True if a PostgreSQL must run.
    pub(crate) fn needs_postgres(self) -> bool {
        self.backend == Backend::Postgres || self.location != Location::Home
    }

    /// Prepares it for one server; on PostgreSQL the database `name` is made.
    pub(crate) fn prepare(
        self,
        program: &Path,
        postgres: Option<&Postgres>,
        name: &str,
    ) -> Result<Variables> {
        let mut all = vec![("TENANTRY_DEFAULT_ISOLATION", self.isolation.to_owned())];
        if !self.needs_postgres() {
            return Ok(all);
        }
        let postgres = postgres.context("PostgreSQL was not started")?;
        let name = match self.backend {
            Backend::Embedded => format!("{name}_beside"),
            Backend::Postgres => format!("{name}_{}", self.isolation),
        };
        if self.backend == Backend::Postgres {
            let (url, admin_url) = set_up(program, postgres, &name)?;
            all.push(("TENANTRY_BACKEND", "postgres".to_owned()));
            all.push(("TENANTRY_DATABASE_URL", url));
            all.push(("TENANTRY_DATABASE_ADMIN_URL", admin_url));
        }
        self.locate(program, postgres, &name, &mut all)?;
        Ok(all)
    }

    /// Prepares another database, if tenants are to be in one.
    fn locate(
        self,
        program: &Path,
        postgres: &Postgres,
        name: &str,
        all: &mut Variables,
    ) -> Result<()> {
        match self.location {
            Location::Home => {}
            Location::Named => {
                let (url, admin_url) = set_up(program, postgres, &format!("{name}_2"))?;
                all.push(("TENANTRY_LOCATION", format!("{LOCATION}={url}")));
                all.push(("TENANTRY_LOCATION_ADMIN", format!("{LOCATION}={admin_url}")));
                all.push(("TENANTRY_DEFAULT_LOCATION", LOCATION.to_owned()));
            }
            Location::Own => {
                all.push((OWN_DATABASES, format!("{name}_own")));
                all.push((postgres::VARIABLE, postgres.url().to_owned()));
            }
        }
        Ok(())
    }
}

/// Makes a database; the URLs of the role that serves and of the admin.
fn set_up(program: &Path, postgres: &Postgres, name: &str) -> Result<(String, String)> {
    let mut setup = command(program, &["postgres", "setup", "--json", "--name", name]);
    let told = output(setup.env("TENANTRY_SUPERUSER_URL", postgres.url()))?;
    let told: Value = serde_json::from_slice(&told).context("read what setup tells")?;
    let url = |which: &str| told[which].as_str().map(str::to_owned).context("no URL");
    Ok((url("database_url")?, url("database_admin_url")?))
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = match self.backend {
            Backend::Embedded => "embedded",
            Backend::Postgres => "postgres",
        };
        let word = match self.location {
            Location::Home => self.isolation,
            Location::Named => "location",
            Location::Own => "own",
        };
        write!(f, "{backend} {word}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_are_named_as_they_are_shown() {
        assert_eq!(Placement::parse("embedded-shared"), Ok(Placement::USUAL));
        assert_eq!(Placement::parse("postgres-shared").unwrap().to_string(), "postgres shared");
        assert!(Placement::parse("embedded-location").unwrap().needs_postgres());
        for (name, takes) in [("postgres-location", true), ("postgres-own", false)] {
            assert_eq!(Placement::parse(name).unwrap().takes_any_tenant(), takes);
        }
        assert!(Placement::parse("shared").unwrap_err().contains("embedded-schema"));
    }
}
