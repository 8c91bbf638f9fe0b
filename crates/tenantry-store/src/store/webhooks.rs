//! Endpoints that are told what happens.

use super::Store;
use crate::{Attempted, DeadLetter, Delivery, OutboxTotals, Webhook, WebhookChange, WebhookSecret};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tenantry_auth::{OperatorScope, SystemScope, TenantId};
use tenantry_types::{
    EventId, EventKind, EventKinds, Fact, Result, TenantName, WebhookName, WebhookUrl,
};
use tokio::sync::Notify;

impl Store {
    /// Endpoints in the order of their names.
    pub async fn webhooks(&self, scope: &OperatorScope) -> Result<Vec<Webhook>> {
        self.0.tenancy.webhooks(scope).await
    }

    /// The endpoint with this name.
    pub async fn webhook(&self, scope: &OperatorScope, name: &WebhookName) -> Result<Webhook> {
        self.0.tenancy.webhook(scope, name).await
    }

    /// Makes an endpoint, and the secret that its messages are signed with.
    pub async fn create_webhook(
        &self,
        scope: &OperatorScope,
        name: WebhookName,
        url: WebhookUrl,
        events: EventKinds,
    ) -> Result<(Webhook, WebhookSecret)> {
        self.0.tenancy.create_webhook(scope, (name, url, events)).await
    }

    /// Changes an endpoint. What waits for it goes to where it is then.
    pub async fn change_webhook(
        &self,
        scope: &OperatorScope,
        name: &WebhookName,
        change: WebhookChange,
    ) -> Result<Webhook> {
        self.0.tenancy.change_webhook(scope, name, change).await
    }

    /// Gives an endpoint another secret; the one of before signs, too, for 24 hours.
    pub async fn rotate_webhook(
        &self,
        scope: &OperatorScope,
        name: &WebhookName,
    ) -> Result<(Webhook, WebhookSecret)> {
        self.0.tenancy.rotate_webhook(scope, name).await
    }

    /// Deletes an endpoint, with all that waits for it.
    pub async fn delete_webhook(&self, scope: &OperatorScope, name: &WebhookName) -> Result<()> {
        self.0.tenancy.delete_webhook(scope, name).await
    }

    /// Has an endpoint told a [`EventKind::Ping`], whatever it wants to know; its id.
    pub async fn test_webhook(&self, scope: &OperatorScope, name: &WebhookName) -> Result<EventId> {
        self.0.tenancy.test_webhook(scope, name).await
    }

    /// What an endpoint was told in vain, the oldest event first, from the first after `after`.
    pub async fn dead_letters(
        &self,
        scope: &OperatorScope,
        name: &WebhookName,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>> {
        self.0.tenancy.dead_letters(scope, name, (after, limit)).await
    }

    /// Has an endpoint told again what it was told in vain.
    pub async fn retry_dead_letter(
        &self,
        scope: &OperatorScope,
        name: &WebhookName,
        id: EventId,
    ) -> Result<()> {
        self.0.tenancy.retry_dead(scope, name, id).await
    }

    /// Forgets what an endpoint was told in vain.
    pub async fn discard_dead_letter(
        &self,
        scope: &OperatorScope,
        name: &WebhookName,
        id: EventId,
    ) -> Result<()> {
        self.0.tenancy.discard_dead(scope, name, id).await
    }

    /// Tells endpoints of something that has no commit of its own; false, and nothing is written, if
    /// none wants to know.
    pub async fn raise_event(
        &self,
        scope: &SystemScope,
        kind: EventKind,
        tenant: (TenantId, TenantName),
        facts: BTreeMap<&'static str, Fact>,
    ) -> Result<bool> {
        self.0.tenancy.raise_event(scope, kind, tenant, facts).await
    }

    /// Takes events whose time has come, to be told by this process alone for as long as the `lease`:
    /// for each endpoint at most as many as `free` says of [`Webhook::id`].
    pub async fn claim_deliveries(
        &self,
        scope: &SystemScope,
        free: impl Fn(u64) -> usize + Send,
        lease: Duration,
    ) -> Result<Vec<Delivery>> {
        self.0.tenancy.claim_deliveries(scope, free, lease).await
    }

    /// Says what became of an attempt. One whose claim has ended meanwhile changes nothing.
    pub async fn settle_delivery(
        &self,
        scope: &SystemScope,
        delivery: Delivery,
        attempted: Attempted,
    ) -> Result<()> {
        self.0.tenancy.settle_delivery(scope, delivery, attempted).await
    }

    /// Counts what waits, and gives up what is too much.
    pub async fn tidy_deliveries(&self, scope: &SystemScope) -> Result<OutboxTotals> {
        self.0.tenancy.tidy_deliveries(scope).await
    }

    /// Is notified when this process has written events that are to be told.
    pub fn events(&self) -> Arc<Notify> {
        Arc::clone(&self.0.tenancy.events)
    }
}
