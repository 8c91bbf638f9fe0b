//! Routes that only Chroma's cloud serves. Chroma's single-node server refuses them too; a
//! collection that the caller cannot reach is refused first.

use super::super::{
    error::{Answer, Failure},
    extract::{ById, Caller},
};
use axum::extract::State;
use tenantry_engine::{Engine, Read, Select, Write};

pub(crate) async fn search(_: ById<Read>) -> Answer {
    refuse("Search operations")
}

pub(crate) async fn fork(_: ById<Write>) -> Answer {
    refuse("Collection forks")
}

pub(crate) async fn fork_count(_: ById<Read>) -> Answer {
    refuse("Collection forks")
}

pub(crate) async fn attach_function(_: ById<Write>) -> Answer {
    refuse("Attached functions")
}

pub(crate) async fn get_function(_: ById<Read>) -> Answer {
    refuse("Attached functions")
}

pub(crate) async fn detach_function(_: ById<Write>) -> Answer {
    refuse("Attached functions")
}

pub(crate) async fn by_resource_name(State(engine): State<Engine>, Caller(who): Caller) -> Answer {
    if who.tenant().is_some() {
        engine.session::<Read>(&who, Select::Own).await?;
    }
    refuse("Collection resource names")
}

fn refuse(what: &str) -> Answer {
    Err(Failure::unsupported(format!("{what} are not implemented")))
}
