//! All routes, written once: the router, the public list and the OpenAPI document come from one
//! table.

use crate::{
    caller::authenticate,
    error::{Failure, render},
    handlers::{
        admin, archive, collection, database, group, member, moves, placement, plan, record,
        server, statistics, tenant, usage, webhook,
    },
    observe::{REQUEST_ID, request_id},
    query::refuse_unknown,
    signup,
};
use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Uri, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::{MethodFilter, on},
};
use tenantry_engine::{Callers, Engine};
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

        /// A router of those routes whose access is wanted.
        fn mount(wanted: impl Fn(Access) -> bool) -> Router<Engine> {
            let mut router = Router::new();
            $(
                if wanted(Access::$access) {
                    router = router.route($path, on(MethodFilter::$method, $module::$handler));
                }
            )*
            router.method_not_allowed_fallback(|| async { Failure::NoMethod })
        }

        /// What the handlers say about themselves; [`crate::openapi`] adds the rest.
        #[derive(OpenApi)]
        #[openapi(
            paths($($module::$handler),*),
            components(schemas(crate::error::ErrorBody<'static>, crate::wire::ExceptionIn)),
        )]
        pub(crate) struct Handlers;
    };
}

routes! {
    Public GET "/healthz" server::healthz;
    Public GET "/readyz" server::readyz;
    Public GET "/openapi.json" server::openapi_document;
    Public POST "/v1/signup" signup::sign_up;
    Operator GET "/metrics" server::show_metrics;

    Operator POST "/v1/admin/tenants" admin::create_tenant;
    Operator GET "/v1/admin/tenants" admin::list_tenants;
    Operator GET "/v1/admin/tenants/{tenant}" admin::show_tenant;
    Operator PATCH "/v1/admin/tenants/{tenant}" admin::change_tenant;
    Operator DELETE "/v1/admin/tenants/{tenant}" admin::delete_tenant;
    Operator POST "/v1/admin/tenants/{tenant}/suspend" admin::suspend_tenant;
    Operator POST "/v1/admin/tenants/{tenant}/resume" admin::resume_tenant;
    Operator POST "/v1/admin/tenants/{tenant}/restore" admin::restore_tenant;
    Operator GET "/v1/admin/tenants/{tenant}/advice" admin::advise_tenant;
    Operator GET "/v1/admin/tenants/{tenant}/statistics" statistics::show_tenant_statistics;
    Operator GET "/v1/admin/plans" plan::list_plans;
    Operator GET "/v1/admin/plans/{plan}" plan::show_plan;
    Operator PUT "/v1/admin/plans/{plan}" plan::put_plan;
    Operator DELETE "/v1/admin/plans/{plan}" plan::delete_plan;
    Operator GET "/v1/admin/plans/{plan}/tariffs" usage::list_tariffs;
    Operator PUT "/v1/admin/plans/{plan}/tariffs/{month}" usage::put_tariff;
    Operator GET "/v1/admin/webhooks" webhook::list_webhooks;
    Operator POST "/v1/admin/webhooks" webhook::create_webhook;
    Operator GET "/v1/admin/webhooks/{webhook}" webhook::show_webhook;
    Operator PATCH "/v1/admin/webhooks/{webhook}" webhook::change_webhook;
    Operator DELETE "/v1/admin/webhooks/{webhook}" webhook::delete_webhook;
    Operator POST "/v1/admin/webhooks/{webhook}/rotate" webhook::rotate_webhook;
    Operator POST "/v1/admin/webhooks/{webhook}/test" webhook::test_webhook;
    Operator GET "/v1/admin/webhooks/{webhook}/dead" webhook::list_dead_letters;
    Operator POST "/v1/admin/webhooks/{webhook}/dead/{event}/retry" webhook::retry_dead_letter;
    Operator DELETE "/v1/admin/webhooks/{webhook}/dead/{event}" webhook::discard_dead_letter;
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
    Operator GET "/v1/admin/usage" usage::operator_usage;
    Operator GET "/v1/admin/usage/tenants" usage::all_usage;
    Operator GET "/v1/admin/usage/balance" usage::usage_balance;
    Operator GET "/v1/admin/bill" usage::operator_bill;
    Operator GET "/v1/admin/bills" usage::all_bills;

    Read GET "/v1/tenant" tenant::show_own_tenant;
    Read GET "/v1/me" member::show_me;
    Admin POST "/v1/members" member::add_member;
    Admin GET "/v1/members" member::list_members;
    Admin GET "/v1/members/{member}" member::show_member;
    Admin PATCH "/v1/members/{member}" member::change_member;
    Admin DELETE "/v1/members/{member}" member::remove_member;
    Admin POST "/v1/groups" group::add_group;
    Admin GET "/v1/groups" group::list_groups;
    Admin GET "/v1/groups/{group}" group::show_group;
    Admin PATCH "/v1/groups/{group}" group::change_group;
    Admin DELETE "/v1/groups/{group}" group::remove_group;
    Admin POST "/v1/keys" tenant::create_key;
    Admin GET "/v1/keys" tenant::list_keys;
    Admin DELETE "/v1/keys/{key}" tenant::revoke_key;
    Admin GET "/v1/audit" tenant::tenant_audit;
    Admin GET "/v1/usage" usage::tenant_usage;
    Admin POST "/v1/usage/events" usage::report_usage;
    Admin GET "/v1/bill" usage::tenant_bill;
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

/// The native protocol, for everybody. Everything but the public routes, unknown ones included, asks
/// for a credential before anything else.
pub fn router(engine: Engine) -> Router {
    router_for(engine, Callers::All)
}

/// [`router`] of a listener that is for these callers: whoever else has a credential finds nothing
/// but the public routes.
pub fn router_for(engine: Engine, callers: Callers) -> Router {
    let is_there = |access| match access {
        Access::Public => false,
        Access::Operator => callers.include_operators(),
        Access::Read | Access::Write | Access::Admin => true,
    };
    let state = (engine.clone(), callers);
    let known = || from_fn(refuse_unknown);
    let protected = mount(is_there).fallback(no_route).layer(known());
    let protected = protected.layer(from_fn_with_state(state, authenticate));
    let public = mount(|access| access == Access::Public).layer(known());
    public.merge(protected).layer(from_fn(finish)).with_state(engine)
}

pub(crate) async fn no_route(path: Uri) -> Failure {
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
