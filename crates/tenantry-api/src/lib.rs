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
mod error;
mod filter;
mod handlers;
mod metrics;
mod observe;
mod openapi;
mod rates;
mod routes;
mod wire;

pub use filter::parse_bound;
pub use observe::{HttpTotals, REQUEST_ID, observe};
pub use openapi::openapi;
pub use routes::{Access, ROUTES, Route, router};
pub use wire::{GET_RECORDS_DEFAULT, GET_RECORDS_MAX};
