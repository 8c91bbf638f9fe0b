//! The OpenAPI document: what the handlers say, completed from [`ROUTES`].

use crate::routes::{Access, Handlers, ROUTES, Route};
use utoipa::{
    OpenApi as _,
    openapi::{
        ContentBuilder, OpenApi, Ref, RefOr, Required, ResponseBuilder,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Type},
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
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
            ("admin", "The operator: tenants, plans, operator keys, the operator's audit log"),
            ("tenant", "A tenant: itself, its keys, its audit log"),
            ("databases", "A tenant's databases"),
            ("collections", "The collections of a database"),
            ("records", "The records of a collection"),
        ]
        .map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build())
        .to_vec(),
    );
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("tnt_…").build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
    components.add_security_scheme("api_key", header);
    for route in ROUTES {
        if let Some(operation) = operation(&mut document, route) {
            complete(operation, route);
        }
    }
    document
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

/// Adds what follows from the route alone: names in the path, the tenant header, credentials,
/// errors.
fn complete(operation: &mut Operation, route: &Route) {
    let names = route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let mut parameters: Vec<_> = names
        .map(|name| parameter(name, ParameterIn::Path, Required::True, "Percent-encoded"))
        .collect();
    if matches!(route.access, Access::Read | Access::Write | Access::Admin) {
        let text = "The tenant's name, percent-encoded UTF-8; the key's own if absent";
        parameters.push(parameter("X-Tenant-ID", ParameterIn::Header, Required::False, text));
    }
    let known = operation.parameters.get_or_insert_default();
    parameters.append(known);
    *known = parameters;
    if known.is_empty() {
        operation.parameters = None;
    }
    if route.access == Access::Public {
        return;
    }
    let none: [&str; 0] = [];
    operation.security = Some(vec![
        SecurityRequirement::new("bearer", none),
        SecurityRequirement::new("api_key", none),
    ]);
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    let error =
        ResponseBuilder::new().description("An error").content("application/json", body).build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(error));
}

fn parameter(name: &str, place: ParameterIn, required: Required, text: &str) -> RefOr<Parameter> {
    let schema = ObjectBuilder::new().schema_type(Type::String).build();
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(text))
        .schema(Some(schema))
        .build();
    RefOr::T(parameter)
}
