//! Where a listener listens.

use serde::Deserialize;
use std::{
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// An address to listen on: `127.0.0.1:7700`, `[::1]:7700`, `localhost:7700`, `0.0.0.0:7700`.
/// Names other than `localhost` are not looked up, since an answer could change what is exposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Address(pub(crate) SocketAddr);

impl Default for Address {
    fn default() -> Self {
        Self(SocketAddr::from((Ipv4Addr::LOCALHOST, 7_700)))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
            None => text.to_owned(),
        };
        numeric.parse().map(Self).map_err(|_| {
            format!("{text:?} is not an address: write it like 127.0.0.1:7700 or [::1]:7700")
        })
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
