//! What an endpoint gets: a body that is the same in every attempt, signed anew as Standard Webhooks
//! says.

use super::WebhookPost;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use serde_json::{Map, Value, json};
use tenantry_store::{Delivery, Event, WebhookSecret};
use tenantry_types::{Fact, Timestamp};

/// A secret as receivers know it.
pub(crate) fn secret_text(secret: &WebhookSecret) -> String {
    format!("whsec_{}", STANDARD.encode(secret.reveal()))
}

fn body(event: &Event) -> String {
    let fact = |fact: &Fact| match fact {
        Fact::Text(text) => Value::from(text.as_str()),
        Fact::Number(number) => Value::from(*number),
    };
    let data = event.facts.iter().map(|(word, one)| (word.clone(), fact(one)));
    let mut data: Map<String, Value> = data.collect();
    if let Some((id, name)) = &event.tenant {
        data.insert("tenant".to_owned(), json!({ "id": id.get(), "name": name.as_str() }));
    }
    let message = json!({
        "id": event.id.to_string(),
        "type": event.kind.word(),
        "timestamp": event.at.rfc3339(),
        "data": data,
    });
    message.to_string()
}

/// The signature by one secret of `id.timestamp.body`.
fn signature(secret: &WebhookSecret, signed: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal());
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, signed.as_bytes())))
}

/// The message of an attempt at this time.
pub(super) fn post(delivery: &Delivery, now: Timestamp) -> WebhookPost {
    let Delivery { event, webhook, secrets, .. } = delivery;
    let (body, id, at) = (body(event), event.id.to_string(), (now.0 / 1_000).to_string());
    let signed = format!("{id}.{at}.{body}");
    let signatures: Vec<_> = secrets.iter().map(|secret| signature(secret, &signed)).collect();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id),
        ("webhook-timestamp", at),
        ("webhook-signature", signatures.join(" ")),
    ];
    WebhookPost { url: webhook.url.clone(), headers, body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_auth::TenantId;
    use tenantry_types::{EventId, EventKind, TenantName};

    #[test]
    fn a_body_says_what_happened_to_whom() {
        let event = Event {
            id: EventId([7; 16]),
            kind: EventKind::TenantDeleted,
            at: Timestamp(1_764_446_656_007),
            tenant: Some((TenantId::new(3), TenantName::parse("ac\"me").unwrap())),
            facts: [("erase_at_ms".to_owned(), Fact::Number(9))].into(),
        };
        let expected = json!({
            "id": "evt_07070707070707070707070707070707",
            "type": "tenant.deleted",
            "timestamp": "2025-11-29T20:04:16.007Z",
            "data": { "erase_at_ms": 9, "tenant": { "id": 3, "name": "ac\"me" } },
        });
        assert_eq!(serde_json::from_str::<Value>(&body(&event)).unwrap(), expected);
        assert_eq!(body(&event), body(&event));
    }
}
