//! Endpoints that are told what happens, as the operator manages them.

use super::Operator;
use crate::webhooks::secret_text;
use tenantry_store::{DeadLetter, Webhook, WebhookChange};
use tenantry_types::{Error, EventId, EventKinds, Result, WebhookName, WebhookUrl};

/// Dead letters of one answer.
const DEAD_LETTERS_MAX: usize = 1_001;

impl Operator {
    /// Endpoints in the order of their names.
    pub async fn webhooks(&self) -> Result<Vec<Webhook>> {
        self.inner.store.webhooks(&self.scope).await
    }

    /// The endpoint with this name.
    pub async fn webhook(&self, name: &WebhookName) -> Result<Webhook> {
        self.inner.store.webhook(&self.scope, name).await
    }

    /// Makes an endpoint, with the secret that its messages are signed with (`whsec_` and base64),
    /// which is shown once. It is told these events, or all if none is named.
    pub async fn create_webhook(
        &self,
        name: WebhookName,
        url: WebhookUrl,
        events: EventKinds,
    ) -> Result<(Webhook, String)> {
        self.check_url(&url)?;
        let made = self.inner.store.create_webhook(&self.scope, name, url, events).await;
        made.map(|(webhook, secret)| (webhook, secret_text(&secret)))
    }

    /// Changes an endpoint. What waits for it goes to where it is then.
    pub async fn change_webhook(
        &self,
        name: &WebhookName,
        change: WebhookChange,
    ) -> Result<Webhook> {
        if let Some(url) = &change.url {
            self.check_url(url)?;
        }
        self.inner.store.change_webhook(&self.scope, name, change).await
    }

    fn check_url(&self, url: &WebhookUrl) -> Result<()> {
        self.inner.outbox.check(url).map_err(|why| Error::invalid(format!("url: {why}")))
    }

    /// Gives an endpoint another secret, which is shown once; the one of before signs, too, for 24
    /// hours.
    pub async fn rotate_webhook(&self, name: &WebhookName) -> Result<(Webhook, String)> {
        let rotated = self.inner.store.rotate_webhook(&self.scope, name).await;
        rotated.map(|(webhook, secret)| (webhook, secret_text(&secret)))
    }

    /// Deletes an endpoint, with all that waits for it.
    pub async fn delete_webhook(&self, name: &WebhookName) -> Result<()> {
        self.inner.store.delete_webhook(&self.scope, name).await
    }

    /// Has an endpoint told a `test.ping`, whatever it wants to be told; the event's id.
    pub async fn test_webhook(&self, name: &WebhookName) -> Result<EventId> {
        self.inner.store.test_webhook(&self.scope, name).await
    }

    /// What an endpoint was told in vain, the oldest event first, from the first after `after`; at most
    /// 1,001 of them.
    pub async fn dead_letters(
        &self,
        name: &WebhookName,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>> {
        self.inner.store.dead_letters(&self.scope, name, after, limit.min(DEAD_LETTERS_MAX)).await
    }

    /// Has an endpoint told again what it was told in vain.
    pub async fn retry_dead_letter(&self, name: &WebhookName, id: EventId) -> Result<()> {
        self.inner.store.retry_dead_letter(&self.scope, name, id).await
    }

    /// Forgets what an endpoint was told in vain.
    pub async fn discard_dead_letter(&self, name: &WebhookName, id: EventId) -> Result<()> {
        self.inner.store.discard_dead_letter(&self.scope, name, id).await
    }
}
