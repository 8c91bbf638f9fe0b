//! Endpoints, events on their way to them, and those that did not arrive.
//!
//! A kind of events is its number; one that is not known is unreadable, and not something else.

use super::unreadable;
use crate::{Answered, DeadLetter, Event, Webhook, WebhookSecret};
use serde::{Deserialize, Serialize};
use tenantry_auth::TenantId;
use tenantry_types::{
    EventId, EventKind, EventKinds, Fact, Result, TenantName, Timestamp, WebhookName, WebhookUrl,
};
use zeroize::Zeroizing;

const WHAT: &str = "a webhook";

/// An endpoint; its name is in the key.
#[derive(Serialize, Deserialize)]
pub(crate) enum DiskWebhook {
    V1 {
        id: u64,
        url: String,
        /// Ascending; none is all.
        events: Vec<u8>,
        enabled: bool,
        created_at: u64,
        secret: [u8; 32],
        /// The secret of before, and until when it signs, too.
        old: Option<([u8; 32], u64)>,
    },
}

/// An endpoint with what its messages are signed with.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) webhook: Webhook,
    pub(crate) secret: WebhookSecret,
    pub(crate) old: Option<WebhookSecret>,
}

fn kind(number: u8) -> Result<EventKind> {
    EventKind::of_number(number).ok_or_else(|| unreadable(WHAT))
}

impl DiskWebhook {
    pub(crate) fn new(signed: &Signed) -> Self {
        let Signed { webhook: Webhook { id, url, events, enabled, created_at, .. }, .. } = signed;
        let until = signed.webhook.old_secret_until;
        Self::V1 {
            id: *id,
            url: url.as_str().to_owned(),
            events: events.0.iter().map(|kind| kind.number()).collect(),
            enabled: *enabled,
            created_at: created_at.0,
            secret: *signed.secret.0,
            old: signed.old.as_ref().zip(until).map(|(old, until)| (*old.0, until.0)),
        }
    }

    pub(crate) fn read(self, name: WebhookName) -> Result<Signed> {
        let Self::V1 { id, url, events, enabled, created_at, secret, old } = self;
        let events = events.into_iter().map(kind).collect::<Result<_>>()?;
        let (old, until) = old.unzip();
        let keep = |bytes| WebhookSecret(Zeroizing::new(bytes));
        let webhook = Webhook {
            id,
            name,
            url: WebhookUrl::parse(url).map_err(|_| unreadable(WHAT))?,
            events: EventKinds(events),
            enabled,
            created_at: Timestamp(created_at),
            old_secret_until: until.map(Timestamp),
        };
        Ok(Signed { webhook, secret: keep(secret), old: old.map(keep) })
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum DiskFact {
    Text(String),
    Number(u64),
}

/// An event; its id is in the key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskEvent {
    kind: u8,
    at: u64,
    tenant: Option<(u64, String)>,
    facts: Vec<(String, DiskFact)>,
}

impl DiskEvent {
    fn new(event: &Event) -> Self {
        let fact = |(word, fact): (&String, &Fact)| {
            let fact = match fact {
                Fact::Text(text) => DiskFact::Text(text.clone()),
                Fact::Number(number) => DiskFact::Number(*number),
            };
            (word.clone(), fact)
        };
        Self {
            kind: event.kind.number(),
            at: event.at.0,
            tenant: event.tenant.as_ref().map(|(id, name)| (id.get(), name.as_str().to_owned())),
            facts: event.facts.iter().map(fact).collect(),
        }
    }

    fn read(self, id: EventId) -> Result<Event> {
        let name = |name: String| TenantName::parse(name).map_err(|_| unreadable(WHAT));
        let tenant = match self.tenant {
            Some((id, text)) => Some((TenantId::new(id), name(text)?)),
            None => None,
        };
        let fact = |(word, fact)| {
            let fact = match fact {
                DiskFact::Text(text) => Fact::Text(text),
                DiskFact::Number(number) => Fact::Number(number),
            };
            (word, fact)
        };
        Ok(Event {
            id,
            kind: kind(self.kind)?,
            at: Timestamp(self.at),
            tenant,
            facts: self.facts.into_iter().map(fact).collect(),
        })
    }
}

/// What an endpoint said last: its status, or 0, and words.
type DiskAnswered = (u16, String);

fn answered_to_disk(last: &Answered) -> DiskAnswered {
    (last.status.unwrap_or(0), last.why.clone())
}

fn answered((status, why): DiskAnswered) -> Answered {
    Answered { status: (status != 0).then_some(status), why }
}

/// An event on its way to an endpoint; when it is told, and to whom, is in the key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskDelivery {
    V1 { event: DiskEvent, attempts: u32, last: DiskAnswered },
}

impl DiskDelivery {
    pub(crate) fn new(event: &Event, attempts: u32, last: &Answered) -> Self {
        Self::V1 { event: DiskEvent::new(event), attempts, last: answered_to_disk(last) }
    }

    pub(crate) fn read(self, id: EventId) -> Result<(Event, u32, Answered)> {
        let Self::V1 { event, attempts, last } = self;
        Ok((event.read(id)?, attempts, answered(last)))
    }
}

/// An event that did not arrive.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskDeadLetter {
    V1 { event: DiskEvent, attempts: u32, last: DiskAnswered, died_at: u64 },
}

impl DiskDeadLetter {
    pub(crate) fn new(letter: &DeadLetter) -> Self {
        let DeadLetter { event, attempts, last, died_at } = letter;
        Self::V1 {
            event: DiskEvent::new(event),
            attempts: *attempts,
            last: answered_to_disk(last),
            died_at: died_at.0,
        }
    }

    pub(crate) fn read(self, id: EventId) -> Result<DeadLetter> {
        let Self::V1 { event, attempts, last, died_at } = self;
        let (event, last) = (event.read(id)?, answered(last));
        Ok(DeadLetter { event, attempts, last, died_at: Timestamp(died_at) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::disk::{decode, encode};

    fn event() -> Event {
        Event {
            id: EventId([9; 16]),
            kind: EventKind::TenantDeleted,
            at: Timestamp(3),
            tenant: Some((TenantId::new(7), TenantName::parse("acme").unwrap())),
            facts: [("a".to_owned(), Fact::from("b")), ("c".to_owned(), Fact::Number(300))].into(),
        }
    }

    #[test]
    fn an_event_on_its_way_is_read_as_it_was_written() {
        let last = Answered { status: Some(500), why: "no".to_owned() };
        let row = encode(&DiskDelivery::new(&event(), 2, &last));
        let expected =
            b"\x00\x04\x03\x01\x07\x04acme\x02\x01a\x00\x01b\x01c\x01\xac\x02\x02\xf4\x03\x02no";
        assert_eq!(row, expected);
        let read: DiskDelivery = decode(&row, WHAT).unwrap();
        assert_eq!(read.read(event().id).unwrap(), (event(), 2, last.clone()));
        let letter = DeadLetter { event: event(), attempts: 2, last, died_at: Timestamp(5) };
        let row = encode(&DiskDeadLetter::new(&letter));
        let read: DiskDeadLetter = decode(&row, WHAT).unwrap();
        assert_eq!(read.read(event().id).unwrap(), letter);
    }

    #[test]
    fn an_endpoint_is_read_as_it_was_written() {
        let keep = |byte| WebhookSecret(Zeroizing::new([byte; 32]));
        let name = WebhookName::parse("w").unwrap();
        let webhook = Webhook {
            id: 5,
            name: name.clone(),
            url: WebhookUrl::parse("https://example.com/").unwrap(),
            events: EventKinds([EventKind::TenantMoved].into()),
            enabled: true,
            created_at: Timestamp(1),
            old_secret_until: Some(Timestamp(2)),
        };
        let signed = Signed { webhook, secret: keep(1), old: Some(keep(2)) };
        let row: DiskWebhook = decode(&encode(&DiskWebhook::new(&signed)), WHAT).unwrap();
        let read = row.read(name).unwrap();
        assert_eq!((read.webhook, read.secret, read.old), (signed.webhook, keep(1), signed.old));
    }

    #[test]
    fn what_is_not_known_is_unreadable() {
        assert!(DiskEvent { kind: 13, ..DiskEvent::new(&event()) }.read(EventId([0; 16])).is_err());
    }
}
