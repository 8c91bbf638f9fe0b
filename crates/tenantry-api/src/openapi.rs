//! The OpenAPI document: what the handlers say, completed from [`ROUTES`].

mod answers;
mod bounds;
mod links;

use crate::routes::{Access, Handlers, ROUTES, Route};
use utoipa::{
    OpenApi as _,
    openapi::{
        OpenApi, Ref, RefOr, Required, Schema,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Type},
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
        server::{Server, ServerBuilder, ServerVariableBuilder},
        tag::TagBuilder,
    },
};

/// The OpenAPI 3.1 document of the native protocol, as indented JSON with a final line break.
pub fn openapi() -> String {
    let mut text = document().to_pretty_json().expect("the document holds only texts and numbers");
    text.push('\n');
    text
}

pub(crate) fn document() -> OpenApi {
    let mut document = Handlers::openapi();
    "Tenantry".clone_into(&mut document.info.title);
    document.info.description = Some(
        "The native protocol. Conventions, errors, limits and the filter grammar are in the \
         reference."
            .to_owned(),
    );
    document.tags = Some(
        [
            ("server", "Health, metrics and this document"),
            (
                "admin",
                "The operator: tenants, plans, operator keys, webhooks, the operator's audit log",
            ),
            ("tenant", "A tenant: itself, its members and their groups, its keys, its audit log"),
            ("databases", "A tenant's databases"),
            ("collections", "The collections of a database"),
            ("records", "The records of a collection"),
        ]
        .map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build())
        .to_vec(),
    );
    document.servers = Some(servers().into());
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("tnt_…").build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
    components.add_security_scheme("api_key", header);
    answers::add(&mut document);
    for route in ROUTES {
        let optional = body_is_optional(&mut document, route);
        if let Some(operation) = operation(&mut document, route) {
            complete(operation, route);
            if let Some(RefOr::T(body)) = &mut operation.request_body
                && optional
            {
                body.required = Some(Required::False);
            }
        }
    }
    links::add(&mut document);
    bounds::set(&mut document);
    document
}

/// Where the paths begin.
fn servers() -> [Server; 2] {
    let tenant = ServerVariableBuilder::new()
        .default_value("acme")
        .description(Some("The tenant's name, percent-encoded UTF-8"));
    let below = ServerBuilder::new()
        .url("/t/{tenant}")
        .description(Some(
            "All of it in a tenant that the path names, as `X-Tenant-ID` does; without the \
             operator's routes and sign-up",
        ))
        .parameter("tenant", tenant)
        .build();
    [Server::new("/"), below]
}

/// The operation that a handler described for this route.
pub(crate) fn operation<'a>(document: &'a mut OpenApi, route: &Route) -> Option<&'a mut Operation> {
    let item = document.paths.paths.get_mut(route.path)?;
    match route.method {
        "GET" => item.get.as_mut(),
        "POST" => item.post.as_mut(),
        "PUT" => item.put.as_mut(),
        "PATCH" => item.patch.as_mut(),
        "DELETE" => item.delete.as_mut(),
        _ => None,
    }
}

/// True if every member of the body may be absent: an empty body reads as `{}`.
fn body_is_optional(document: &mut OpenApi, route: &Route) -> bool {
    let Some(RefOr::T(body)) = operation(document, route).and_then(|one| one.request_body.clone())
    else {
        return false;
    };
    let Some(RefOr::T(content)) = body.content.get("application/json") else { return false };
    let Some(RefOr::Ref(named)) = &content.schema else { return false };
    let name = named.ref_location.rsplit('/').next().unwrap_or_default();
    let schema = document.components.as_ref().and_then(|all| all.schemas.get(name));
    matches!(schema, Some(RefOr::T(Schema::Object(body))) if body.required.is_empty())
}

/// The names that a path has places for.
fn names(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

/// Adds what follows from the route alone: names in the path, the tenant header, credentials,
/// errors, headers of answers.
fn complete(operation: &mut Operation, route: &Route) {
    let mut parameters: Vec<_> = names(route.path)
        .map(|name| {
            let schema = of_name(name, route.path);
            parameter(name, ParameterIn::Path, Required::True, "Percent-encoded", schema)
        })
        .collect();
    if matches!(route.access, Access::Read | Access::Write | Access::Admin) {
        let text = "The tenant's name, percent-encoded UTF-8; the key's own if absent. Operators \
                    must send it";
        let visible = text_schema().pattern(Some("^[!-~]+$")).build();
        let (place, required) = (ParameterIn::Header, Required::False);
        parameters.push(parameter("X-Tenant-ID", place, required, text, visible.into()));
    }
    let known = operation.parameters.get_or_insert_default();
    parameters.append(known);
    *known = parameters;
    if known.is_empty() {
        operation.parameters = None;
    }
    if route.access != Access::Public {
        let none: [&str; 0] = [];
        operation.security = Some(vec![
            SecurityRequirement::new("bearer", none),
            SecurityRequirement::new("api_key", none),
        ]);
    }
    answers::refer(operation, route);
}

fn text_schema() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length(Some(1))
}

/// What stands in a path under this name.
fn of_name(name: &str, path: &str) -> RefOr<Schema> {
    match name {
        // Who is deleted has no name any more.
        "tenant" if path.starts_with("/v1/admin/leftovers/") => {
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build().into()
        }
        "event" => {
            let id = "^evt_[0-9a-f]{32}$";
            ObjectBuilder::new().schema_type(Type::String).pattern(Some(id)).build().into()
        }
        "month" => {
            let month = "^(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])$";
            ObjectBuilder::new().schema_type(Type::String).pattern(Some(month)).build().into()
        }
        "tenant" | "plan" | "webhook" | "group" | "database" | "collection" => {
            Ref::from_schema_name("Name").into()
        }
        "member" => Ref::from_schema_name("MemberName").into(),
        _ => text_schema().build().into(),
    }
}

fn parameter(
    name: &str,
    place: ParameterIn,
    required: Required,
    text: &str,
    schema: RefOr<Schema>,
) -> RefOr<Parameter> {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(text))
        .schema(Some(schema))
        .build();
    RefOr::T(parameter)
}
