//! What an operation answers beside its success: errors and headers, which follow from its route.

use crate::routes::{Access, Route};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, OpenApi, Ref, RefOr, ResponseBuilder,
    header::Header,
    path::Operation,
    schema::{ObjectBuilder, Type},
};

/// The errors that there are, with their names among the components. `error.rs` decides which kind
/// has which status.
const ERRORS: [(u16, &str, &str); 11] = [
    (400, "Invalid", "The request is wrong; the message says what and where"),
    (401, "Unauthenticated", "No valid credential was sent"),
    (403, "Denied", "The credential may not do this, or its tenant is suspended"),
    (404, "NotFound", "There is no such thing for this credential"),
    (409, "Conflict", "There is one already, or something stands against it"),
    (413, "TooLarge", "The request or its answer is above a limit"),
    (415, "NotJson", "The body is not declared as JSON"),
    (429, "LimitExceeded", "A limit or a rate is used up, or too much work is waiting"),
    (500, "Internal", "The server's log has the detail, under the id of the request"),
    (501, "Unsupported", "This is deliberately not offered"),
    (503, "Unavailable", "Not now; ask again"),
];

const REQUEST_ID: &str = "x-request-id";
const RETRY_AFTER: &str = "Retry-After";
/// What answers to a tenant with rates have.
const RATES: [&str; 2] = ["RateLimit", "RateLimit-Policy"];

/// Adds the errors and headers that operations refer to.
pub(super) fn add(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (status, name, text) in ERRORS {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        let mut error = ResponseBuilder::new()
            .description(text)
            .content("application/json", body)
            .header_ref(REQUEST_ID, header_ref(REQUEST_ID));
        if matches!(status, 429 | 503) {
            error = error.header_ref(RETRY_AFTER, header_ref(RETRY_AFTER));
        }
        components.responses.insert(name.to_owned(), RefOr::T(error.build()));
    }
    let text = |text: &str| header(Type::String, text);
    for (name, header) in [
        (REQUEST_ID, text("The request's id: the caller's own if it sent a sane one")),
        (RETRY_AFTER, header(Type::Integer, "After how many seconds to ask again")),
        (RATES[0], text("What is left of the tenant's rates, if it has any")),
        (RATES[1], text("The tenant's rates, if it has any")),
    ] {
        components.headers.insert(name.to_owned(), RefOr::T(header));
    }
}

fn header(of: Type, text: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(of).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(text)).build()
}

fn header_ref(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// Refers to them from an operation that is complete otherwise.
pub(super) fn refer(operation: &mut Operation, route: &Route) {
    let of_tenant = matches!(route.access, Access::Read | Access::Write | Access::Admin);
    for answer in operation.responses.responses.values_mut() {
        let RefOr::T(answer) = answer else { continue };
        let rates: &[&str] = if of_tenant { &RATES } else { &[] };
        for name in rates.iter().copied().chain([REQUEST_ID]) {
            answer.headers.insert(name.to_owned(), RefOr::Ref(header_ref(name)));
        }
    }
    for (status, name, _) in ERRORS {
        if may_answer(status, operation, route) {
            let error = RefOr::Ref(Ref::from_response_name(name));
            operation.responses.responses.insert(status.to_string(), error);
        }
    }
}

/// True if the operation can be refused with this status. Said of each too much rather than too
/// little: the tests of this crate compare with every answer that they get.
fn may_answer(status: u16, operation: &Operation, route: &Route) -> bool {
    let of_tenant = matches!(route.access, Access::Read | Access::Write | Access::Admin);
    let has_body = operation.request_body.is_some();
    if route.access == Access::Public {
        // A host that is none is refused before anything else; only who signs up sends something.
        return status == 400 || has_body && !matches!(status, 401 | 501);
    }
    match status {
        // An operator may name a tenant that is deleted and can be restored.
        409 => of_tenant || route.method != "GET",
        413 => of_tenant || has_body,
        415 => reads_json(operation),
        501 => changes_root(route) || is_export(route),
        // The host may be none, or another tenant's.
        _ => true,
    }
}

fn reads_json(operation: &Operation) -> bool {
    let Some(RefOr::T(body)) = &operation.request_body else { return false };
    body.content.contains_key("application/json")
}

/// What only newer programs can read is refused until all are new.
fn changes_root(route: &Route) -> bool {
    let of_tenant = ["/v1/members", "/v1/groups", "/v1/usage/events"];
    let is_about =
        route.access == Access::Operator || of_tenant.iter().any(|top| route.path.starts_with(top));
    is_about && route.method != "GET"
}

/// An archive says in its head what it cannot hold.
fn is_export(route: &Route) -> bool {
    route.path == "/v1/archive"
}
