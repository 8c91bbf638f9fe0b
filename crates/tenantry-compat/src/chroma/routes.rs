//! The table of routes. The router is made from it, so a route that is not listed does not exist.

use super::{
    auth, error,
    handler::{cloud, collection, database, record, system, tenant},
};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{MethodFilter, any, on},
};
use tenantry_engine::{Callers, Engine, Limits};

/// Declares a list of routes, grouped by the start of their paths, and the function that makes a
/// router of them.
macro_rules! routes {
    (
        $(#[$doc:meta])* $list:ident, $make:ident:
        $(at $start:literal { $($method:ident $rest:literal => $handler:path;)+ })+
    ) => {
        $(#[$doc])*
        pub const $list: &[(&str, &str)] =
            &[$($((stringify!($method), concat!($start, $rest)),)+)+];

        fn $make() -> Router<Engine> {
            Router::new()$($(
                .route(concat!($start, $rest), on(MethodFilter::$method, $handler))
            )+)+
        }
    };
}

routes! {
    /// Method and path of every route that answers without a credential.
    PUBLIC_ROUTES, public:
    at "/api/v2" {
        GET "" => system::heartbeat;
        GET "/heartbeat" => system::heartbeat;
        GET "/version" => system::version;
        GET "/healthcheck" => system::healthcheck;
        GET "/pre-flight-checks" => system::pre_flight_checks;
    }
}

routes! {
    /// Method and path of every route that only an operator may use.
    OPERATOR_ROUTES, operators:
    at "/api/v2" {
        POST "/reset" => system::reset;
        POST "/tenants" => tenant::create;
    }
}

routes! {
    /// Method and path of every other route that needs a credential.
    ROUTES, protected:
    at "/api/v2" {
        GET "/auth/identity" => system::identity;
        GET "/tenants/{tenant}" => tenant::get;
        PATCH "/tenants/{tenant}" => tenant::update;
        POST "/tenants/{tenant}/databases" => database::create;
        GET "/tenants/{tenant}/databases" => database::list;
        GET "/collections/{crn}" => cloud::by_resource_name;
    }
    at "/api/v2/tenants/{tenant}/databases/{database}" {
        GET "" => database::get;
        DELETE "" => database::delete;
        POST "/collections" => collection::create;
        GET "/collections" => collection::list;
        GET "/collections_count" => collection::count;
        GET "/collections/by-id/{id}" => collection::get_by_id;
    }
    // GET and DELETE take a name here, all others an id.
    at "/api/v2/tenants/{tenant}/databases/{database}/collections/{collection}" {
        GET "" => collection::get;
        DELETE "" => collection::delete;
        PUT "" => collection::modify;
        POST "/add" => record::add;
        POST "/upsert" => record::upsert;
        POST "/update" => record::update;
        POST "/get" => record::get;
        POST "/query" => record::query;
        POST "/delete" => record::delete;
        GET "/count" => record::count;
        GET "/indexing_status" => record::indexing_status;
        POST "/search" => cloud::search;
        POST "/fork" => cloud::fork;
        GET "/fork_count" => cloud::fork_count;
        POST "/functions/attach" => cloud::attach_function;
        GET "/functions/{function}" => cloud::get_function;
        POST "/attached_functions/{function}/detach" => cloud::detach_function;
    }
}

/// The dialect at the root of a listener, or nested under a prefix, for everybody.
pub fn router(engine: Engine) -> Router {
    router_for(engine, Callers::All)
}

/// [`router`] of a listener that is for these callers: whoever else has a credential finds nothing
/// but the public routes.
pub fn router_for(engine: Engine, callers: Callers) -> Router {
    let routes =
        if callers.include_operators() { protected().merge(operators()) } else { protected() };
    // The layer covers the fallback as well: without a credential no path tells that it exists.
    let protected = routes
        .route("/api/v1/{*rest}", any(system::gone))
        .fallback(async || auth::NO_ROUTE)
        .layer(DefaultBodyLimit::max(Limits::BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state((engine.clone(), callers), auth::authenticate));
    protected.merge(public()).layer(middleware::from_fn(error::trace)).with_state(engine)
}
