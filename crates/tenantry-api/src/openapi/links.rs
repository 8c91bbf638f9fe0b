//! Where to go on from an answer: what was made under a name is reached by the paths that have a
//! place for it.

use super::{names, operation};
use crate::routes::{ROUTES, Route};
use utoipa::openapi::{OpenApi, RefOr, link::LinkBuilder};

/// An operation whose answer names something, where in it, and the path of what is named. Other
/// names in that path are those of the request. Paths below that name something more are left out.
const NAMED: [(&str, &str, &str, &str); 11] = [
    ("POST", "/v1/admin/tenants", "name", "/v1/admin/tenants/{tenant}"),
    ("POST", "/v1/admin/tenants/{tenant}/copy", "name", "/v1/admin/tenants/{tenant}"),
    ("POST", "/v1/admin/tenants/{tenant}/import", "tenant/name", "/v1/admin/tenants/{tenant}"),
    ("PUT", "/v1/admin/plans/{plan}", "name", "/v1/admin/plans/{plan}"),
    ("POST", "/v1/admin/webhooks", "name", "/v1/admin/webhooks/{webhook}"),
    ("POST", "/v1/admin/keys", "id", "/v1/admin/keys/{key}"),
    ("POST", "/v1/keys", "id", "/v1/keys/{key}"),
    ("POST", "/v1/members", "id", "/v1/members/{member}"),
    ("POST", "/v1/groups", "name", "/v1/groups/{group}"),
    ("POST", "/v1/databases", "name", "/v1/databases/{database}"),
    (
        "POST",
        "/v1/databases/{database}/collections",
        "name",
        "/v1/databases/{database}/collections/{collection}",
    ),
];

/// Adds the links of all operations.
pub(super) fn add(document: &mut OpenApi) {
    for (method, path, pointer, named) in NAMED {
        let count = names(named).count();
        let all_named = |target: &&Route| names(target.path).count() == count;
        let below = ROUTES.iter().filter(|target| lies_below(target.path, named));
        for target in below.filter(all_named) {
            link(document, (method, path), pointer, named, target);
        }
    }
}

/// True for the path itself and for what continues it.
fn lies_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn link(
    document: &mut OpenApi,
    from: (&str, &str),
    pointer: &str,
    named: &'static str,
    target: &Route,
) {
    let Some(id) = operation(document, target).and_then(|found| found.operation_id.clone()) else {
        return;
    };
    let mut names: Vec<_> = names(named).collect();
    let Some(last) = names.pop() else { return };
    let link = LinkBuilder::new()
        .operation_id(id.clone())
        .parameter(last, format!("$response.body#/{pointer}"));
    let link = names
        .into_iter()
        .fold(link, |link, name| link.parameter(name, format!("$request.path.{name}")));
    let link = link.build();
    let Some(route) = ROUTES.iter().find(|route| (route.method, route.path) == from) else {
        return;
    };
    let Some(source) = operation(document, route) else { return };
    for (status, answer) in &mut source.responses.responses {
        if let RefOr::T(answer) = answer
            && status.starts_with('2')
        {
            answer.links.insert(id.clone(), RefOr::T(link.clone()));
        }
    }
}
