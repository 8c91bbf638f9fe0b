//! `/v1/admin/webhooks`: endpoints of the operator's that are told what happens.

use crate::{
    answer::{Created, created},
    body::{Body, Names, Search},
    caller::AsOperator,
    error::Result,
    wire::{
        DeadLettersOut, DeadSearch, EventOut, WebhookCreateIn, WebhookOut, WebhookPatchIn,
        WebhookSecretOut, WebhooksOut,
    },
};
use axum::{Json, http::StatusCode};
use tenantry_engine::{EventId, WebhookName};

/// List webhooks in the order of their names
///
/// There are at most 16.
#[utoipa::path(get, path = "/v1/admin/webhooks", tag = "admin",
    responses((status = 200, description = "All webhooks", body = WebhooksOut)))]
pub(crate) async fn list_webhooks(AsOperator(operator): AsOperator) -> Result<Json<WebhooksOut>> {
    let found = operator.webhooks().await?;
    Ok(Json(WebhooksOut { webhooks: found.into_iter().map(WebhookOut::from).collect() }))
}

/// Make a webhook
///
/// Its secret is shown this once. Messages are signed as Standard Webhooks says, sent at least once
/// and for a day at most.
#[utoipa::path(post, path = "/v1/admin/webhooks", tag = "admin", request_body = WebhookCreateIn,
    responses((status = 201, description = "The new webhook", body = WebhookSecretOut)))]
pub(crate) async fn create_webhook(
    AsOperator(operator): AsOperator,
    Body(body): Body<WebhookCreateIn>,
) -> Result<Created<WebhookSecretOut>> {
    let (name, url, events) = body.parts()?;
    Ok(created(operator.create_webhook(name, url, events).await?.into()))
}

/// Show a webhook
#[utoipa::path(get, path = "/v1/admin/webhooks/{webhook}", tag = "admin",
    responses((status = 200, description = "The webhook", body = WebhookOut)))]
pub(crate) async fn show_webhook(
    AsOperator(operator): AsOperator,
    Names(webhook): Names<String>,
) -> Result<Json<WebhookOut>> {
    Ok(Json(operator.webhook(&WebhookName::parse(webhook)?).await?.into()))
}

/// Change where a webhook is, what it is told, or whether it is told anything
#[utoipa::path(patch, path = "/v1/admin/webhooks/{webhook}", tag = "admin",
    request_body = WebhookPatchIn,
    responses((status = 200, description = "The changed webhook", body = WebhookOut)))]
pub(crate) async fn change_webhook(
    AsOperator(operator): AsOperator,
    Names(webhook): Names<String>,
    Body(body): Body<WebhookPatchIn>,
) -> Result<Json<WebhookOut>> {
    let name = WebhookName::parse(webhook)?;
    Ok(Json(operator.change_webhook(&name, body.change()?).await?.into()))
}

/// Delete a webhook, with all that waits for it
#[utoipa::path(delete, path = "/v1/admin/webhooks/{webhook}", tag = "admin",
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_webhook(
    AsOperator(operator): AsOperator,
    Names(webhook): Names<String>,
) -> Result<StatusCode> {
    operator.delete_webhook(&WebhookName::parse(webhook)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a webhook another secret
///
/// It is shown this once. For 24 hours messages are signed with the secret of before, too.
#[utoipa::path(post, path = "/v1/admin/webhooks/{webhook}/rotate", tag = "admin",
    responses((status = 200, description = "The webhook", body = WebhookSecretOut)))]
pub(crate) async fn rotate_webhook(
    AsOperator(operator): AsOperator,
    Names(webhook): Names<String>,
) -> Result<Json<WebhookSecretOut>> {
    Ok(Json(operator.rotate_webhook(&WebhookName::parse(webhook)?).await?.into()))
}

/// Send a webhook a `test.ping`
///
/// It goes the way of all events, so it is sent again until it arrives.
#[utoipa::path(post, path = "/v1/admin/webhooks/{webhook}/test", tag = "admin",
    responses((status = 202, description = "It is on its way", body = EventOut)))]
pub(crate) async fn test_webhook(
    AsOperator(operator): AsOperator,
    Names(webhook): Names<String>,
) -> Result<(StatusCode, Json<EventOut>)> {
    let event = operator.test_webhook(&WebhookName::parse(webhook)?).await?;
    Ok((StatusCode::ACCEPTED, Json(EventOut { event: event.to_string() })))
}

/// List what a webhook was told in vain, the oldest event first
///
/// At most 1,000 are kept of each webhook, the youngest.
#[utoipa::path(get, path = "/v1/admin/webhooks/{webhook}/dead", tag = "admin", params(DeadSearch),
    responses((status = 200, description = "One page", body = DeadLettersOut)))]
pub(crate) async fn list_dead_letters(
    AsOperator(operator): AsOperator,
    Names(webhook): Names<String>,
    Search(search): Search<DeadSearch>,
) -> Result<Json<DeadLettersOut>> {
    let (name, limit) = (WebhookName::parse(webhook)?, search.limit()?);
    let found = operator.dead_letters(&name, search.after()?, limit + 1).await?;
    Ok(Json(DeadLettersOut::new(found, limit)))
}

/// Send again what a webhook was told in vain
#[utoipa::path(post, path = "/v1/admin/webhooks/{webhook}/dead/{event}/retry", tag = "admin",
    responses((status = 202, description = "It is on its way", body = EventOut)))]
pub(crate) async fn retry_dead_letter(
    AsOperator(operator): AsOperator,
    Names((webhook, event)): Names<(String, String)>,
) -> Result<(StatusCode, Json<EventOut>)> {
    let event = EventId::parse(&event)?;
    operator.retry_dead_letter(&WebhookName::parse(webhook)?, event).await?;
    Ok((StatusCode::ACCEPTED, Json(EventOut { event: event.to_string() })))
}

/// Forget what a webhook was told in vain
#[utoipa::path(delete, path = "/v1/admin/webhooks/{webhook}/dead/{event}", tag = "admin",
    responses((status = 204, description = "Forgotten")))]
pub(crate) async fn discard_dead_letter(
    AsOperator(operator): AsOperator,
    Names((webhook, event)): Names<(String, String)>,
) -> Result<StatusCode> {
    let event = EventId::parse(&event)?;
    operator.discard_dead_letter(&WebhookName::parse(webhook)?, event).await?;
    Ok(StatusCode::NO_CONTENT)
}
