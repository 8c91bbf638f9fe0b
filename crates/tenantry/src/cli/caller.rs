//! Who sends commands to a server, and why.

use super::client::segment;
use crate::config::Secret;
use anyhow::{Result, bail, ensure};
use clap::{ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};
use std::cell::Cell;
use tenantry::ApiKey;

#[derive(Debug, Clone, Args)]
struct CallerWords {
    /// API key for the server; better given by the variable, which no process list shows
    #[arg(long, env = "TENANTRY_KEY", value_name = "KEY", hide_env_values = true)]
    key: Option<String>,

    /// Token of a login, instead of a key; better given by the variable
    #[arg(long, env = "TENANTRY_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<Secret>,

    /// Why an operator acts in a tenant: the tenant's audit log has it first, and webhooks are told
    #[arg(long, env = "TENANTRY_REASON", value_name = "TEXT")]
    reason: Option<String>,
}

/// What is given of who asks. A flag beats the other's variable.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    key: Option<String>,
    token: Option<Secret>,
    pub(super) reason: Option<Reason>,
}

impl FromArgMatches for Caller {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let CallerWords { mut key, mut token, reason } = CallerWords::from_arg_matches(matches)?;
        let is_flag = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        match (is_flag("key"), is_flag("token")) {
            (true, false) => token = None,
            (false, true) => key = None,
            _ => {}
        }
        // A variable that is empty says nothing.
        let reason = reason.filter(|text| !text.trim().is_empty());
        let reason = reason.map(|text| Reason::new(&text, is_flag("reason")));
        Ok(Self { key, token, reason })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Caller {
    fn augment_args(command: Command) -> Command {
        CallerWords::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        CallerWords::augment_args_for_update(command)
    }
}

impl Caller {
    /// What is sent with every request. None of it is repeated in a refusal: it may be another
    /// secret, or most of a key.
    pub(super) fn credential(self) -> Result<Option<String>> {
        match (self.key, self.token) {
            (None, None) => Ok(None),
            (Some(key), None) => {
                ensure!(
                    ApiKey::parse(&key).is_some(),
                    "what --key or the variable TENANTRY_KEY gives is not an API key: a key reads \
                     tnt_, 16 characters, _, and 52 characters; a token is given by --token"
                );
                Ok(Some(key))
            }
            (None, Some(token)) => {
                let token = token.reveal().trim();
                ensure!(
                    is_token(token),
                    "what --token or the variable TENANTRY_TOKEN gives is not a token, which reads \
                     like eyJ….eyJ….…: a key is given by --key"
                );
                Ok(Some(token.to_owned()))
            }
            (Some(_), Some(_)) => bail!(
                "both a key and a token are given (by flags, or by TENANTRY_KEY and \
                 TENANTRY_TOKEN): give one, and unset the other's variable"
            ),
        }
    }
}

/// Whether it has the shape of a signed token: three parts in base64url. What it says is the server's
/// to know.
fn is_token(text: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_known);
    text.split('.').count() == 3 && text.split('.').all(is_part)
}

/// Why an operator acts in a tenant.
#[derive(Debug, Clone)]
pub(crate) struct Reason {
    /// As the value of its header.
    value: String,
    /// A variable is there for many commands, and some of them need none.
    is_flag: bool,
    was_heard: Cell<bool>,
}

impl Reason {
    fn new(text: &str, is_flag: bool) -> Self {
        Self { value: segment(text), is_flag, was_heard: Cell::new(false) }
    }

    /// The header's value for a request of this path. What operators do to tenants from outside has
    /// no reason anywhere; whoever copies one looks into it.
    pub(super) fn sent_to(&self, path: &str) -> &str {
        let is_outside = path.starts_with("/v1/admin/") && !path.ends_with("/copy");
        if !is_outside && path != "/v1/me" {
            self.was_heard.set(true);
        }
        &self.value
    }

    /// True if it was given for this very command, which had no use for it.
    pub(super) fn is_lost(&self) -> bool {
        self.is_flag && !self.was_heard.get()
    }
}
