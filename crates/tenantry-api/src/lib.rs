//! The native REST protocol: `/v1`, `/v1/admin`, OpenAPI, health, metrics, and the layer that
//! observes every request of every protocol.
//!
//! A request travels `observe → finish (headers, error bodies) → authenticate → open session or
//! operator → path and query → body → handler`. Authentication reads headers alone; whether the
//! caller may act is settled by extractors before a byte of the body is read.
//! Handlers hold no decision: they turn JSON into the engine's types and back.

mod answer;
mod body;
mod caller;
mod dev;
mod error;
mod filter;
mod handlers;
mod held;
mod host;
mod metrics;
mod objects;
mod observe;
mod openapi;
mod prefix;
mod proxies;
mod query;
mod rates;
mod routes;
mod signup;
mod trace;
mod wire;

pub use dev::refuse_web_pages;
pub use filter::parse_bound;
pub use host::{Hosts, select_by_host};
pub use observe::{HttpTotals, REQUEST_ID, observe};
pub use openapi::openapi;
pub use prefix::name_by_path;
pub use proxies::{Peer, Proxies, note_clients};
pub use routes::{Access, ROUTES, Route, router, router_for};
pub use signup::with_sign_up;
pub use wire::{GET_RECORDS_DEFAULT, GET_RECORDS_MAX};
