//! One function a route: JSON to the engine's types and back.
//!
//! The first argument of every protected handler is its right: [`crate::caller::AsOperator`], or
//! [`crate::caller::Open`] at the level that the route needs.

pub(crate) mod admin;
pub(crate) mod archive;
pub(crate) mod collection;
pub(crate) mod database;
pub(crate) mod group;
pub(crate) mod member;
pub(crate) mod moves;
pub(crate) mod placement;
pub(crate) mod plan;
pub(crate) mod record;
pub(crate) mod server;
pub(crate) mod statistics;
pub(crate) mod tenant;
pub(crate) mod usage;
pub(crate) mod webhook;
