//! The backend on PostgreSQL.

#![allow(dead_code, reason = "the backend that uses it comes next")]

mod fields;
mod filter;
