//! `POST /v1/signup`: a stranger makes a tenant, where the operator has said so.

use crate::{
    body::{declares_json, parse},
    caller::request_id,
    error::{Failure, Result},
    host::Hosts,
    proxies::Peer,
};
use axum::{Extension, Json, Router, body::to_bytes, extract::Request, http::StatusCode};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tenantry_engine::{Email, Error, ErrorKind, PathTenant, SignUp, parse_subdomain};
use utoipa::ToSchema;

/// Bytes of the largest body.
const BODY_BYTES_MAX: usize = 4 << 10;

/// The tenant that a stranger wishes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignUpIn {
    /// The label below the installation's domain, which becomes the tenant's name: 3 to 63 of a to
    /// z, 0 to 9 and -.
    subdomain: String,
    /// Where mail reaches whoever signs up: one address without a name, of at most 254 bytes. It is
    /// handed on to the operator's webhooks, and nobody has looked whether it is theirs.
    #[schema(min_length = 3, max_length = 254)]
    email: Option<String>,
}

/// A new tenant, and its key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignUpOut {
    /// The tenant's name.
    tenant: String,
    /// What says what it may have.
    plan: Option<String>,
    /// An administrator's key, shown once.
    key: String,
    /// Where the tenant's people log in, at the product.
    login_url: String,
}

/// What the route needs, among a request's extensions.
#[derive(Debug)]
struct Shared {
    sign_up: SignUp,
    hosts: Arc<Hosts>,
}

/// Lets strangers make tenants with what [`crate::router`] has given.
pub fn with_sign_up(router: Router, sign_up: SignUp, hosts: Arc<Hosts>) -> Router {
    router.layer(Extension(Arc::new(Shared { sign_up, hosts })))
}

/// Make a tenant, without a credential
///
/// Only a server that runs with `--signup` does so, a few times an hour for one address.
#[utoipa::path(post, path = "/v1/signup", tag = "tenant", request_body = SignUpIn,
    responses((status = 201, description = "The new tenant, with its first key", body = SignUpOut)))]
pub(crate) async fn sign_up(request: Request) -> Result<(StatusCode, Json<SignUpOut>)> {
    let (parts, body) = request.into_parts();
    // Nor below a path that names a tenant.
    let is_below = parts.extensions.get::<PathTenant>().is_some();
    let shared = parts.extensions.get::<Arc<Shared>>().filter(|_| !is_below);
    let Some(shared) = shared else {
        let why = "nobody signs up here";
        return Err(Error::new(ErrorKind::NotFound, why).into());
    };
    let peer = parts.extensions.get::<Peer>().copied();
    let address = peer.map(|peer| shared.hosts.client(peer, &parts.headers));
    shared.sign_up.look(address)?;
    if !declares_json(&parts.headers)? {
        return Err(Failure::NotJson);
    }
    let body = to_bytes(body, BODY_BYTES_MAX).await;
    let body = body.map_err(|_| Failure::invalid("body: too large, or it ended early"))?;
    let asked: SignUpIn = parse(&body)?;
    let name = parse_subdomain(&asked.subdomain)?;
    let email = asked.email.map(Email::parse).transpose()?;
    // What asks for no name that could be given costs nothing but reading it.
    shared.sign_up.admit(address)?;
    let (info, key) = shared.sign_up.make(name, email, request_id(&parts.headers)).await?;
    let tenant = info.name.to_string();
    let answer = SignUpOut {
        login_url: format!("https://{tenant}{}/login", shared.hosts.suffix()),
        plan: info.plan.map(|plan| plan.to_string()),
        tenant,
        key,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}
