//! Endpoints that are told what happens. A secret leaves the server once, in the answer that makes it.

use super::{described::Name, page::limited};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeSet;
use tenantry_engine::{
    DeadLetter, Error, EventId, EventKind, EventKinds, Result, TenantId, Webhook, WebhookChange,
    WebhookName, WebhookUrl,
};
use utoipa::{IntoParams, ToSchema};

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// What endpoints can be told.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) enum EventName {
    /// Somebody has asked for a message.
    #[schema(rename = "test.ping")]
    Ping,
    /// A tenant was made, and is whole.
    #[schema(rename = "tenant.created")]
    Created,
    /// A tenant was suspended.
    #[schema(rename = "tenant.suspended")]
    Suspended,
    /// A suspended tenant is served again.
    #[schema(rename = "tenant.resumed")]
    Resumed,
    /// A tenant was deleted.
    #[schema(rename = "tenant.deleted")]
    Deleted,
    /// A deletion was taken back.
    #[schema(rename = "tenant.restored")]
    Restored,
    /// A tenant's key was destroyed.
    #[schema(rename = "tenant.erased")]
    Erased,
    /// A tenant lives in another place.
    #[schema(rename = "tenant.moved")]
    Moved,
    /// A move has failed, and the tenant stays where it was.
    #[schema(rename = "tenant.move_failed")]
    MoveFailed,
    /// A move was cancelled, and the tenant stays where it was.
    #[schema(rename = "tenant.move_cancelled")]
    MoveCancelled,
    /// Somebody has tried another tenant than its own.
    #[schema(rename = "security.cross_tenant_attempt")]
    CrossTenantAttempt,
    /// A tenant has used a part of a budget.
    #[schema(rename = "budget.threshold")]
    BudgetThreshold,
    /// An operator has said why it acts in a tenant.
    #[schema(rename = "security.break_glass")]
    BreakGlass,
}

fn kinds(words: &[String]) -> Result<EventKinds> {
    let kind = |word: &String| {
        EventKind::parse(word).map_err(|why| Error::invalid(format!("events: {why}")))
    };
    words.iter().map(kind).collect::<Result<BTreeSet<_>>>().map(EventKinds)
}

/// A member that is there; `null` is refused.
fn given<'de, T, D>(deserializer: D) -> std::result::Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// The endpoint to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookCreateIn {
    /// 1 to 512 bytes of UTF-8 without control characters, unique among webhooks.
    #[schema(value_type = Name)]
    name: String,
    /// Where messages are sent by POST: an https URL with a host, at most 2,048 visible ASCII
    /// characters, without a name, a password or a fragment. Plain http, and addresses of private
    /// networks, only if the server's webhook_networks has them.
    #[schema(
        max_length = 2_048,
        pattern = r"^https://[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z][A-Za-z0-9-]*)+(/[A-Za-z0-9_.~-]*)*$"
    )]
    url: String,
    /// What it is told; everything if absent or empty.
    #[serde(default)]
    #[schema(value_type = Vec<EventName>, required = false)]
    events: Vec<String>,
}

impl WebhookCreateIn {
    pub(crate) fn parts(self) -> Result<(WebhookName, WebhookUrl, EventKinds)> {
        let events = kinds(&self.events)?;
        Ok((WebhookName::parse(self.name)?, WebhookUrl::parse(self.url)?, events))
    }
}

/// A change of an endpoint; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookPatchIn {
    /// Another place, also for what waits already.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = String, required = false, max_length = 2_048,
        pattern = r"^https://[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z][A-Za-z0-9-]*)+(/[A-Za-z0-9_.~-]*)*$")]
    url: Option<String>,
    /// Other events; an empty list is everything.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<EventName>, required = false)]
    events: Option<Vec<String>>,
    /// Whether it is told anything. What waits for one that is not becomes dead letters.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = bool, required = false)]
    enabled: Option<bool>,
}

impl WebhookPatchIn {
    pub(crate) fn change(self) -> Result<WebhookChange> {
        Ok(WebhookChange {
            url: self.url.map(WebhookUrl::parse).transpose()?,
            events: self.events.as_deref().map(kinds).transpose()?,
            enabled: self.enabled,
        })
    }
}

/// An endpoint, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookOut {
    name: String,
    url: String,
    /// What it is told; everything if empty.
    #[schema(value_type = Vec<EventName>)]
    events: Vec<&'static str>,
    /// Whether it is told anything.
    enabled: bool,
    /// When it was made, in milliseconds since 1970 UTC.
    created_at_ms: u64,
    /// Until when its secret of before signs, too, in milliseconds since 1970 UTC; null if it never
    /// had another one.
    old_secret_until_ms: Option<u64>,
}

impl From<Webhook> for WebhookOut {
    fn from(webhook: Webhook) -> Self {
        Self {
            name: webhook.name.to_string(),
            url: webhook.url.as_str().to_owned(),
            events: webhook.events.0.iter().map(|kind| kind.word()).collect(),
            enabled: webhook.enabled,
            created_at_ms: webhook.created_at.0,
            old_secret_until_ms: webhook.old_secret_until.map(|until| until.0),
        }
    }
}

/// An endpoint with its new secret: shown once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookSecretOut {
    /// What its messages are signed with: `whsec_` and base64. It is never shown again.
    secret: String,
    #[serde(flatten)]
    webhook: WebhookOut,
}

impl From<(Webhook, String)> for WebhookSecretOut {
    fn from((webhook, secret): (Webhook, String)) -> Self {
        Self { secret, webhook: webhook.into() }
    }
}

/// All endpoints, in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhooksOut {
    pub(crate) webhooks: Vec<WebhookOut>,
}

/// A message that is on its way.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventOut {
    /// Its id, which the message has as `webhook-id`.
    pub(crate) event: String,
}

/// Which dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadSearch {
    /// The event of the last letter of the page before.
    #[param(pattern = "^evt_[0-9a-f]{32}$")]
    after: Option<String>,
    /// How many at most, 1 to 1,000; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl DeadSearch {
    pub(crate) fn limit(&self) -> Result<usize> {
        limited(self.limit, LIMIT, LIMIT_MAX)
    }

    pub(crate) fn after(&self) -> Result<Option<EventId>> {
        self.after.as_deref().map(EventId::parse).transpose()
    }
}

/// An event that an endpoint was told in vain.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterOut {
    /// Its id.
    event: String,
    /// What has happened.
    #[schema(value_type = EventName)]
    r#type: &'static str,
    /// The tenant's id; null if it is about none.
    tenant: Option<u64>,
    /// The tenant's name then.
    tenant_name: Option<String>,
    /// When it happened, in milliseconds since 1970 UTC.
    at_ms: u64,
    /// How often it was tried.
    attempts: u32,
    /// The status that the endpoint answered last; null if it did not answer.
    status: Option<u16>,
    /// Why it did not arrive, in words.
    reason: String,
    /// When it was given up, in milliseconds since 1970 UTC.
    died_at_ms: u64,
}

impl From<DeadLetter> for DeadLetterOut {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { event, attempts, last, died_at } = letter;
        let (tenant, tenant_name) = event.tenant.unzip();
        Self {
            event: event.id.to_string(),
            r#type: event.kind.word(),
            tenant: tenant.map(TenantId::get),
            tenant_name: tenant_name.map(|name| name.to_string()),
            at_ms: event.at.0,
            attempts,
            status: last.status,
            reason: last.why,
            died_at_ms: died_at.0,
        }
    }
}

/// A page of dead letters, the oldest event first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLettersOut {
    letters: Vec<DeadLetterOut>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
}

impl DeadLettersOut {
    /// `found` has one more than the page if there is a next one.
    pub(crate) fn new(mut found: Vec<DeadLetter>, limit: usize) -> Self {
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).map(|letter| letter.event.id.to_string());
        Self { letters: found.into_iter().map(DeadLetterOut::from).collect(), next }
    }
}
