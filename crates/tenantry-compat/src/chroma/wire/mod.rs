//! The bodies of requests and answers. Vectors and records pass through no intermediate tree:
//! requests are parsed into what the engine takes, answers are written from what it gives.

mod capped;
mod catalog;
mod embedding;
mod metadata;
mod read;
mod write;

pub(crate) use catalog::{
    CollectionView, CreateCollection, DatabaseView, ModifyCollection, NewName, Paging, TenantView,
};
pub(crate) use read::{Count, Delete, Get, GetView, Query, QueryView};
pub(crate) use write::{Verb, Write};
