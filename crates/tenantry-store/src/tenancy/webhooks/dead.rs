//! Events that were told in vain, and those that are told because somebody asks for it.

use super::{INSTALLATION, outbox::delivery_key, signed_in, unreadable};
use crate::{
    Answered, DeadLetter,
    tenancy::{
        Backend, Space, Tenancy, View,
        backend::Scan,
        complete,
        disk::{DiskDeadLetter, DiskDelivery},
        done,
        keys::{self, Decode as _},
    },
};
use std::sync::Arc;
use tenantry_auth::OperatorScope;
use tenantry_types::{Error, ErrorKind, EventId, EventKind, Resource, Result, WebhookName};

impl<B: Backend> Tenancy<B> {
    /// Asks that an endpoint be told that somebody has asked for it; the event.
    pub(crate) async fn test_webhook(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &WebhookName,
    ) -> Result<EventId> {
        self.operator_stands(scope, None).await?;
        let (inner, scope, name) = (Arc::clone(self), scope.clone(), name.clone());
        complete(async move {
            let installation = inner.installation().await?;
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            inner.operator_stands(&scope, Some(&view)).await?;
            let webhook = signed_in(&view, &installation, &name).await?.webhook;
            if !webhook.enabled {
                let message = format!("the webhook {name} is disabled; enable it first");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            let event = inner.event(EventKind::Ping, None, []);
            let row = DiskDelivery::new(&event, 0, &Answered::default());
            let mut log = inner.begin(&installation)?;
            log.put(Space::Catalog, delivery_key(webhook.id, event.at, event.id), &row);
            log.audit(done(scope.author(), "webhook.test", name.as_str(), 1));
            inner.commit(&installation, view, log).await?;
            inner.events.notify_one();
            Ok(event.id)
        })
        .await
    }

    /// What an endpoint was told in vain, the oldest event first, after `after`.
    pub(crate) async fn dead_letters(
        &self,
        scope: &OperatorScope,
        name: &WebhookName,
        (after, limit): (Option<EventId>, usize),
    ) -> Result<Vec<DeadLetter>> {
        self.operator_stands(scope, None).await?;
        let installation = self.installation().await?;
        let root = self.root(None).await?;
        let webhook = signed_in(&root, &installation, name).await?.webhook;
        let from = after.map(|id| {
            let mut key = keys::DeadLetter { webhook: webhook.id, id: id.0 }.encode(INSTALLATION);
            key.push(0);
            key
        });
        let all = keys::dead_of(INSTALLATION, webhook.id);
        let mut rows = Scan::new(&root, Space::Catalog, all, from);
        let mut found = Vec::new();
        while found.len() < limit
            && let Some((key, sealed)) = rows.next().await?
        {
            let of = keys::DeadLetter::decode(INSTALLATION, &key).ok_or_else(unreadable)?;
            let row = installation.open_row::<DiskDeadLetter>(&key, &sealed);
            match row.and_then(|row| row.read(EventId(of.id))) {
                Ok(letter) => found.push(letter),
                // One does not hide the others.
                Err(error) => {
                    tracing::error!(?error, event = %EventId(of.id), "a dead letter cannot be read");
                }
            }
        }
        Ok(found)
    }

    /// Has an endpoint told again what it was told in vain, from the first attempt on.
    pub(crate) async fn retry_dead(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &WebhookName,
        id: EventId,
    ) -> Result<()> {
        self.end_dead(scope, name, id, true).await
    }

    /// Forgets what an endpoint was told in vain.
    pub(crate) async fn discard_dead(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &WebhookName,
        id: EventId,
    ) -> Result<()> {
        self.end_dead(scope, name, id, false).await
    }

    async fn end_dead(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &WebhookName,
        id: EventId,
        again: bool,
    ) -> Result<()> {
        self.operator_stands(scope, None).await?;
        let (inner, scope, name) = (Arc::clone(self), scope.clone(), name.clone());
        complete(async move {
            let installation = inner.installation().await?;
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            inner.operator_stands(&scope, Some(&view)).await?;
            let webhook = signed_in(&view, &installation, &name).await?.webhook;
            let key = keys::DeadLetter { webhook: webhook.id, id: id.0 }.encode(INSTALLATION);
            let missing = || Error::not_found(Resource::DeadLetter, id.to_string());
            let sealed = view.get(Space::Catalog, &key).await?.ok_or_else(missing)?;
            let mut log = inner.begin(&installation)?;
            log.remove(Space::Catalog, key.clone());
            if again {
                let row: DiskDeadLetter = installation.open_row(&key, &sealed)?;
                let event = row.read(id)?.event;
                let row = DiskDelivery::new(&event, 0, &Answered::default());
                log.put(Space::Catalog, delivery_key(webhook.id, inner.now(), id), &row);
            }
            let action = if again { "webhook.retry" } else { "webhook.discard" };
            log.audit(done(scope.author(), action, &format!("{name} {id}"), 1));
            inner.commit(&installation, view, log).await?;
            if again {
                inner.events.notify_one();
            }
            Ok(())
        })
        .await
    }
}
