//! Settings that nobody may see.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::{convert::Infallible, str::FromStr};
use tenantry::{SecretText, postgres::DatabaseUrl};

/// Text that is never shown. It is looked at late, because whoever parses a flag repeats it in
/// its refusal.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "String")]
pub(crate) struct Secret(SecretText);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(SecretText::new(text))
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(SecretText::new(text)))
    }
}

impl Secret {
    /// The text, for whoever needs it.
    pub(crate) fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// As a URL of a database. `setting` is what gave it.
    pub(super) fn url(&self, setting: &str) -> Result<DatabaseUrl> {
        DatabaseUrl::parse(self.reveal()).with_context(|| setting.to_owned())
    }
}
