//! Endpoints of the operator's, as rows of the root; what they are told is in [`outbox`].
//!
//! An endpoint has a random number, under which events wait for it: one that is made anew under the
//! same name is told nothing that was meant for the one before.

mod dead;
mod outbox;
mod thresholds;

pub(super) use outbox::Told;
pub(super) use thresholds::{Mark, row_key as thresholds_key};

use super::{
    Backend, Space, Tenancy, View,
    backend::Scan,
    commit::Commit,
    complete,
    disk::{DiskWebhook, Signed},
    done,
    keys::{self, Decode as _, Prefix, Tail},
    tenants::OpenTenant,
};
use crate::{Webhook, WebhookChange, WebhookSecret};
use std::{sync::Arc, time::Duration};
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_types::{
    Error, ErrorKind, EventKinds, Resource, Result, Timestamp, WEBHOOKS_MAX, WebhookName,
    WebhookUrl,
};
use zeroize::Zeroizing;

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);
/// For how long a secret that was replaced goes on to sign.
const OLD_SECRET_SIGNS: Duration = Duration::from_secs(24 * 3_600);
/// Rows of an endpoint that go in one commit.
const REMOVED_AT_ONCE: usize = 1_000;

fn row_key(name: &WebhookName) -> Vec<u8> {
    keys::Webhook { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION)
}

fn unreadable() -> Error {
    Error::corrupt("the row of a webhook cannot be read")
}

fn missing(name: &WebhookName) -> Error {
    Error::not_found(Resource::Webhook, name.as_str())
}

async fn signed_in(
    view: &impl View,
    installation: &OpenTenant,
    name: &WebhookName,
) -> Result<Signed> {
    let row: Option<DiskWebhook> = installation.row(view, Space::Catalog, &row_key(name)).await?;
    row.ok_or_else(|| missing(name))?.read(name.clone())
}

/// All endpoints. One that cannot be read is left out: it keeps nobody from a change of a tenant.
async fn all_in(view: &impl View, installation: &OpenTenant) -> Result<Vec<Signed>> {
    let mut rows = Scan::new(view, Space::Catalog, keys::Webhook::all(INSTALLATION), None);
    let mut found = Vec::new();
    while let Some((key, sealed)) = rows.next().await? {
        let read = || {
            let key_of = keys::Webhook::decode(INSTALLATION, &key).ok_or_else(unreadable)?;
            let name = std::str::from_utf8(key_of.name.0).map_err(|_| unreadable())?;
            let name = WebhookName::parse(name).map_err(|_| unreadable())?;
            installation.open_row::<DiskWebhook>(&key, &sealed)?.read(name)
        };
        match read() {
            Ok(one) => found.push(one),
            Err(error) => tracing::error!(?error, "a webhook cannot be read; it is told nothing"),
        }
    }
    Ok(found)
}

async fn count(view: &impl View) -> Result<usize> {
    Scan::new(view, Space::Catalog, keys::Webhook::all(INSTALLATION), None).count().await
}

impl<B: Backend> Tenancy<B> {
    pub(crate) async fn webhooks(&self, scope: &OperatorScope) -> Result<Vec<Webhook>> {
        self.operator_stands(scope, None).await?;
        let installation = self.installation().await?;
        let all = all_in(&self.root(None).await?, &installation).await?;
        Ok(all.into_iter().map(|one| one.webhook).collect())
    }

    pub(crate) async fn webhook(
        &self,
        scope: &OperatorScope,
        name: &WebhookName,
    ) -> Result<Webhook> {
        self.operator_stands(scope, None).await?;
        let installation = self.installation().await?;
        Ok(signed_in(&self.root(None).await?, &installation, name).await?.webhook)
    }

    fn draw_secret(&self) -> WebhookSecret {
        let mut secret = WebhookSecret(Zeroizing::new([0; 32]));
        self.entropy.fill("webhook secret", &mut *secret.0);
        secret
    }

    pub(crate) async fn create_webhook(
        self: &Arc<Self>,
        scope: &OperatorScope,
        (name, url, events): (WebhookName, WebhookUrl, EventKinds),
    ) -> Result<(Webhook, WebhookSecret)> {
        self.operator_stands(scope, None).await?;
        let (inner, scope) = (Arc::clone(self), scope.clone());
        complete(async move {
            inner.check_gate()?;
            let installation = inner.installation().await?;
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            inner.operator_stands(&scope, Some(&view)).await?;
            if view.get(Space::Catalog, &row_key(&name)).await?.is_some() {
                return Err(Error::already_exists(Resource::Webhook, name.as_str()));
            }
            if count(&view).await? >= WEBHOOKS_MAX {
                let message = format!("an installation has at most {WEBHOOKS_MAX} webhooks");
                return Err(Error::new(ErrorKind::LimitExceeded, message));
            }
            let mut id = [0; 8];
            inner.entropy.fill("webhook", &mut id);
            let webhook = Webhook {
                id: u64::from_be_bytes(id),
                name,
                url,
                events,
                enabled: true,
                created_at: inner.now(),
                old_secret_until: None,
            };
            let signed = Signed { webhook, secret: inner.draw_secret(), old: None };
            let mut log = inner.begin(&installation)?;
            put(&mut log, &signed);
            log.audit(done(scope.author(), "webhook.create", signed.webhook.name.as_str(), 1));
            inner.commit(&installation, view, log).await?;
            Ok((signed.webhook, signed.secret))
        })
        .await
    }

    /// Changes an endpoint, and says what its log is to say; nothing if nothing changes.
    async fn alter(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &WebhookName,
        action: &'static str,
        change: impl FnOnce(&Self, &mut Signed) + Send + 'static,
    ) -> Result<Signed> {
        self.operator_stands(scope, None).await?;
        let (inner, scope, name) = (Arc::clone(self), scope.clone(), name.clone());
        complete(async move {
            let installation = inner.installation().await?;
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            inner.operator_stands(&scope, Some(&view)).await?;
            let mut signed = signed_in(&view, &installation, &name).await?;
            let (before, secret) = (signed.webhook.clone(), signed.secret.clone());
            change(&inner, &mut signed);
            if (&signed.webhook, &signed.secret) == (&before, &secret) {
                return Ok(signed);
            }
            let mut log = inner.begin(&installation)?;
            put(&mut log, &signed);
            log.audit(done(scope.author(), action, name.as_str(), 1));
            inner.commit(&installation, view, log).await?;
            Ok(signed)
        })
        .await
    }

    pub(crate) async fn change_webhook(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &WebhookName,
        change: WebhookChange,
    ) -> Result<Webhook> {
        let changed =
            self.alter(scope, name, "webhook.change", move |_, Signed { webhook, .. }| {
                let WebhookChange { url, events, enabled } = change;
                webhook.url = url.unwrap_or_else(|| webhook.url.clone());
                webhook.events = events.unwrap_or_else(|| webhook.events.clone());
                webhook.enabled = enabled.unwrap_or(webhook.enabled);
            });
        Ok(changed.await?.webhook)
    }

    /// Gives an endpoint another secret; the one of before goes on to sign for a day.
    pub(crate) async fn rotate_webhook(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &WebhookName,
    ) -> Result<(Webhook, WebhookSecret)> {
        let rotated = self.alter(scope, name, "webhook.rotate", |inner, signed| {
            let signs = u64::try_from(OLD_SECRET_SIGNS.as_millis()).unwrap_or(u64::MAX);
            signed.webhook.old_secret_until = Some(Timestamp(inner.now().0.saturating_add(signs)));
            signed.old = Some(std::mem::replace(&mut signed.secret, inner.draw_secret()));
        });
        let Signed { webhook, secret, .. } = rotated.await?;
        Ok((webhook, secret))
    }

    /// Deletes an endpoint. What waits for it, and did not arrive, goes with it; of much of that the
    /// rest is removed in the background.
    pub(crate) async fn delete_webhook(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &WebhookName,
    ) -> Result<()> {
        self.operator_stands(scope, None).await?;
        let (inner, scope, name) = (Arc::clone(self), scope.clone(), name.clone());
        complete(async move {
            let installation = inner.installation().await?;
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            inner.operator_stands(&scope, Some(&view)).await?;
            let key = row_key(&name);
            let Some(sealed) = view.get(Space::Catalog, &key).await? else {
                return Err(missing(&name));
            };
            let mut log = inner.begin(&installation)?;
            log.remove(Space::Catalog, key.clone());
            // One that cannot be read goes, too.
            let read = installation.open_row::<DiskWebhook>(&key, &sealed);
            if let Ok(one) = read.and_then(|row| row.read(name.clone())) {
                let id = one.webhook.id;
                for all in [keys::deliveries_of(INSTALLATION, id), keys::dead_of(INSTALLATION, id)]
                {
                    for (key, _) in view.page(Space::Catalog, &all, &all, REMOVED_AT_ONCE).await? {
                        log.remove(Space::Catalog, key);
                    }
                }
            }
            log.audit(done(scope.author(), "webhook.delete", name.as_str(), 1));
            inner.commit(&installation, view, log).await
        })
        .await
    }
}

fn put(log: &mut Commit<'_>, signed: &Signed) {
    log.put(Space::Catalog, row_key(&signed.webhook.name), &DiskWebhook::new(signed));
}
