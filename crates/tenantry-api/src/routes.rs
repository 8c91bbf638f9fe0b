//! All routes, written once: the router, the public list and the OpenAPI document come from one
//! table.

use crate::{
    caller::authenticate,
    error::{Failure, render},
    handlers::{
        admin, archive, collection, database, moves, placement, plan, record, server, tenant,
    },
    observe::{REQUEST_ID, request_id},
};
use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Uri, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::{MethodFilter, on},
};
use tenantry_engine::Engine;
use utoipa::OpenApi;

/// What a route needs of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing; the only routes that answer without a credential.
    Public,
    /// An operator key.
    Operator,
    /// A session in a tenant, reading.
    Read,
    /// A session in a tenant, writing.
    Write,
    /// A session in a tenant, administering.
    Admin,
}

/// One route of the native protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// What it needs.
    pub access: Access,
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`. `HEAD` is answered wherever `GET` is.
    pub method: &'static str,
    /// The path, with `{name}` for each percent-encoded name.
    pub path: &'static str,
}

macro_rules! routes {
    ($($access:ident $method:ident $path:literal $module:ident::$handler:ident;)*) => {
        /// All routes.
        pub const ROUTES: &[Route] = &[
            $(Route { access: Access::$access, method: stringify!($method), path: $path }),*
        ];

        /// A router of the public routes, or of all others.
        fn mount(public: bool) -> Router<Engine> {
            let mut router = Router::new();
            $(
                if matches!(Access::$access, Access::Public) == public {
                    router = router.route($path, on(MethodFilter::$method, $module::$handler));
                }
            )*
            router.method_not_allowed_fallback(|| async { Failure::NoMethod })
        }

        /// What the handlers say about themselves; [`crate::openapi`] adds the rest.
        #[derive(OpenApi)]
        #[openapi(
            paths($($module::$handler),*),
            components(schemas(crate::error::ErrorBody<'static>)),
        )]
        pub(crate) struct Handlers;
    };
}

routes! {
    Public GET "/healthz" server::healthz;
    Public GET "/readyz" server::readyz;
    Public GET "/openapi.json" server::openapi_document;
    Operator GET "/metrics" server::show_metrics;

    Operator POST "/v1/admin/tenants" admin::create_tenant;
    Operator GET "/v1/admin/tenants" admin::list_tenants;
    Operator GET "/v1/admin/tenants/{tenant}" admin::show_tenant;
    Operator PATCH "/v1/admin/tenants/{tenant}" admin::change_tenant;
    Operator DELETE "/v1/admin/tenants/{tenant}" admin::delete_tenant;
    Operator POST "/v1/admin/tenants/{tenant}/suspend" admin::suspend_tenant;
    Operator POST "/v1/admin/tenants/{tenant}/resume" admin::resume_tenant;
    Operator GET "/v1/admin/tenants/{tenant}/advice" admin::advise_tenant;
    Operator GET "/v1/admin/plans" plan::list_plans;
    Operator GET "/v1/admin/plans/{plan}" plan::show_plan;
    Operator PUT "/v1/admin/plans/{plan}" plan::put_plan;
    Operator DELETE "/v1/admin/plans/{plan}" plan::delete_plan;
    Operator POST "/v1/admin/tenants/{tenant}/move" moves::start_move;
    Operator GET "/v1/admin/tenants/{tenant}/move" moves::show_move;
    Operator DELETE "/v1/admin/tenants/{tenant}/move" moves::cancel_move;
    Operator GET "/v1/admin/moves" moves::list_moves;
    Operator POST "/v1/admin/placement/plan" placement::plan_moves;
    Operator POST "/v1/admin/tenants/{tenant}/import" archive::import_tenant;
    Operator POST "/v1/admin/tenants/{tenant}/copy" archive::copy_tenant;
    Operator GET "/v1/admin/signer" archive::show_signer;
    Operator POST "/v1/admin/signer" archive::sign_list;
    Operator GET "/v1/admin/leftovers" admin::list_leftovers;
    Operator DELETE "/v1/admin/leftovers/{tenant}" admin::abandon_leftover;
    Operator POST "/v1/admin/keys" admin::create_operator_key;
    Operator GET "/v1/admin/keys" admin::list_operator_keys;
    Operator DELETE "/v1/admin/keys/{key}" admin::revoke_operator_key;
    Operator GET "/v1/admin/audit" admin::operator_audit;

    Read GET "/v1/tenant" tenant::show_own_tenant;
    Admin POST "/v1/keys" tenant::create_key;
    Admin GET "/v1/keys" tenant::list_keys;
    Admin DELETE "/v1/keys/{key}" tenant::revoke_key;
    Admin GET "/v1/audit" tenant::tenant_audit;
    Admin GET "/v1/archive" archive::export_tenant;

    Admin POST "/v1/databases" database::create_database;
    Read GET "/v1/databases" database::list_databases;
    Read GET "/v1/databases/{database}" database::show_database;
    Admin DELETE "/v1/databases/{database}" database::delete_database;

    Write POST "/v1/databases/{database}/collections" collection::create_collection;
    Read GET "/v1/databases/{database}/collections" collection::list_collections;
    Read GET "/v1/databases/{database}/collections/{collection}" collection::show_collection;
    Read GET "/v1/databases/{database}/collections/{collection}/statistics"
        collection::show_statistics;
    Write PATCH "/v1/databases/{database}/collections/{collection}" collection::change_collection;
    Write DELETE "/v1/databases/{database}/collections/{collection}" collection::delete_collection;

    Write POST "/v1/databases/{database}/collections/{collection}/records/add" record::add_records;
    Write POST "/v1/databases/{database}/collections/{collection}/records/upsert"
        record::upsert_records;
    Write POST "/v1/databases/{database}/collections/{collection}/records/update"
        record::update_records;
    Read POST "/v1/databases/{database}/collections/{collection}/records/get" record::get_records;
    Write POST "/v1/databases/{database}/collections/{collection}/records/delete"
        record::delete_records;
    Read POST "/v1/databases/{database}/collections/{collection}/records/count"
        record::count_records;
    Read POST "/v1/databases/{database}/collections/{collection}/records/query"
        record::query_records;
}

/// The native protocol. Everything but the public routes, unknown ones included, asks for a
/// credential before anything else.
pub fn router(engine: Engine) -> Router {
    let protected =
        mount(false).fallback(no_route).layer(from_fn_with_state(engine.clone(), authenticate));
    mount(true).merge(protected).layer(from_fn(finish)).with_state(engine)
}

async fn no_route(path: Uri) -> Failure {
    if path.path().starts_with("/api/v") { Failure::ChromaRoute } else { Failure::NoRoute }
}

/// Middleware: bodies for failures, and the headers that every answer has.
async fn finish(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers_mut());
    let mut response = next.run(request).await;
    render(&mut response, id.to_str().unwrap_or_default());
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    // Answers hold tenants' data: no cache on the way may keep them, no browser guess their type.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
