//! Endpoints that are told what happens, and what they are told.

use std::{collections::BTreeMap, fmt};
use tenantry_auth::TenantId;
use tenantry_types::{
    EventId, EventKind, EventKinds, Fact, TenantName, Timestamp, WebhookName, WebhookUrl,
};
use zeroize::Zeroizing;

/// What messages to an endpoint are signed with. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(pub(crate) Zeroizing<[u8; 32]>);

impl WebhookSecret {
    /// The bytes, for whoever signs or gives it out once.
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// An endpoint of the operator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// What tells it from an endpoint that had the same name before.
    pub(crate) id: u64,
    /// Its name.
    pub name: WebhookName,
    /// Where it is.
    pub url: WebhookUrl,
    /// What it is told.
    pub events: EventKinds,
    /// False while it is told nothing.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when messages are signed with its secret of before, too.
    pub old_secret_until: Option<Timestamp>,
}

impl Webhook {
    /// A number that no other endpoint has, and none of before.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// A change of an endpoint; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebhookChange {
    /// Another place.
    pub url: Option<WebhookUrl>,
    /// Other events.
    pub events: Option<EventKinds>,
    /// Whether it is told anything.
    pub enabled: Option<bool>,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The same in every attempt to tell it.
    pub id: EventId,
    /// What.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
    /// To which tenant, with its name then; none if it is about none.
    pub tenant: Option<(TenantId, TenantName)>,
    /// What else there is to say, by a word for each.
    pub facts: BTreeMap<String, Fact>,
}

/// What an endpoint said to an attempt, or why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answered {
    /// Its status; none if there was no answer.
    pub status: Option<u16>,
    /// Words for the operator, at most 200 bytes; empty after a success.
    pub why: String,
}

/// An event that this process is to tell an endpoint, until its claim ends.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Which one.
    pub event: Event,
    /// Whom.
    pub webhook: Webhook,
    /// What it is signed with: the present secret first.
    pub secrets: Vec<WebhookSecret>,
    /// Attempts before this one.
    pub attempts: u32,
    /// Until when nobody else tells it: the time in its key.
    pub(crate) claimed_until: Timestamp,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempted {
    /// The endpoint knows it.
    Delivered,
    /// It is told again, not before this time.
    Again(Timestamp, Answered),
    /// It is given up.
    Dead(Answered),
}

/// An event that an endpoint was told in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which one.
    pub event: Event,
    /// How often it was tried.
    pub attempts: u32,
    /// What the endpoint said last.
    pub last: Answered,
    /// When it was given up.
    pub died_at: Timestamp,
}

/// How much waits to be told, when it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxTotals {
    /// Events that wait, once for each endpoint.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// What this counting has dropped because there was too much of it.
    pub dropped: u64,
}
