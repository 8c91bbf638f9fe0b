//! Where tenants live while clients are run against the program: what follows for callers is the
//! same everywhere.

use crate::{
    postgres::Postgres,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Embedded,
    Postgres,
}

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
        Self::new(Backend::Postgres, "shared"),
        Self::new(Backend::Postgres, "schema"),
        Self::new(Backend::Postgres, "database"),
    ];

    const fn new(backend: Backend, isolation: &'static str) -> Self {
        Self { backend, isolation }
    }

    /// As `Display` writes it, with `-` between the two.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let name = |placement: &Self| placement.to_string().replace(' ', "-");
        let found = Self::ALL.iter().find(|placement| name(placement) == text);
        let all: Vec<_> = Self::ALL.iter().map(name).collect();
        found.copied().ok_or_else(|| format!("one of {}", all.join(", ")))
    }

    /// True if a PostgreSQL must run.
    pub(crate) fn needs_postgres(self) -> bool {
        self.backend == Backend::Postgres
    }

    /// Prepares it for one server; on PostgreSQL the database `name` is made.
    pub(crate) fn prepare(
        self,
        program: &Path,
        postgres: Option<&Postgres>,
        name: &str,
    ) -> Result<Variables> {
        let mut all = vec![("TENANTRY_DEFAULT_ISOLATION", self.isolation.to_owned())];
        if self.needs_postgres() {
            let postgres = postgres.context("PostgreSQL was not started")?;
            let name = format!("{name}_{}", self.isolation);
            let setup = ["postgres", "setup", "--json", "--name", &name];
            let mut setup = command(program, &setup);
            let told = output(setup.env("TENANTRY_SUPERUSER_URL", postgres.url()))?;
            let told: Value = serde_json::from_slice(&told).context("read what setup tells")?;
            let url = |which: &str| told[which].as_str().map(str::to_owned).context("no URL");
            all.push(("TENANTRY_BACKEND", "postgres".to_owned()));
            all.push(("TENANTRY_DATABASE_URL", url("database_url")?));
            all.push(("TENANTRY_DATABASE_ADMIN_URL", url("database_admin_url")?));
        }
        Ok(all)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = match self.backend {
            Backend::Embedded => "embedded",
            Backend::Postgres => "postgres",
        };
        write!(f, "{backend} {}", self.isolation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_are_named_as_they_are_shown() {
        assert_eq!(Placement::parse("embedded-shared"), Ok(Placement::USUAL));
        assert_eq!(Placement::parse("postgres-shared").unwrap().to_string(), "postgres shared");
        assert!(Placement::parse("shared").unwrap_err().contains("embedded-schema"));
    }
}
