//! What is pending is written: once a second, before somebody reads the log, and at the end.

use super::CROSS_TENANT;
use crate::engine::Inner;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_store::{AuditEvent, AuditNote, Failing};
use tenantry_types::{Error, Location, Result};

const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// From one sum of reads, and of refusals by limits, to the next.
const READS_EVERY: Duration = Duration::from_secs(60);

/// Writes what is pending of one log; returns when what was noted before the call is durable.
async fn flush_log(inner: &Inner, tenant: TenantId) -> Result<()> {
    let Some(turn) = inner.denials.turn(tenant) else { return Ok(()) };
    let mine = turn.lock().await;
    let notes = inner.denials.take(tenant);
    let mut outcome = Ok(());
    if !notes.is_empty() {
        warn_operator(tenant, notes.iter().map(|(_, note)| note));
        let scope = inner.authority.system("append refusals to audit logs");
        let addressed = notes.iter().map(|(_, note)| (tenant, note.clone())).collect();
        outcome = inner.store.append_audit(&scope, addressed).await.map(drop);
        inner.denials.arrived(tenant);
        if outcome.is_err() {
            for (whose, note) in notes {
                inner.denials.put_back((tenant, whose), note);
            }
        }
    }
    drop(mine);
    inner.denials.forget_idle(tenant, &turn);
    outcome
}

/// [`flush_log`] for whoever is about to read the log. The log is readable even if the store takes
/// no writes; what is pending then stays pending.
pub(crate) async fn flush_before_reading(inner: &Inner, tenant: TenantId) {
    if let Err(error) = flush_log(inner, tenant).await {
        tracing::error!(?error, "append refusals to an audit log; tried again");
    }
}

/// Lines about attempts in one second.
const WARNED_MAX: usize = 16;

/// One line of the server's log for each kind of attempt, not for each attempt, and one for the rest
/// if there are many kinds.
fn warn_operator<'n>(tenant: TenantId, notes: impl Iterator<Item = &'n AuditNote>) {
    if tenant != TenantId::INSTALLATION {
        return;
    }
    let mut attempts = notes.map(|note| &note.event).filter(|event| event.action == CROSS_TENANT);
    for AuditEvent { actor, target, count, .. } in attempts.by_ref().take(WARNED_MAX) {
        tracing::warn!(actor, target, count, "cross-tenant attempts refused");
    }
    let more: u64 = attempts.map(|event| event.count).sum();
    if more > 0 {
        tracing::warn!(count = more, "more cross-tenant attempts refused; see the operator's log");
    }
}

/// Writes what is pending of every log. Logs do not wait for each other.
pub(super) async fn flush(inner: &Arc<Inner>) -> Result<()> {
    flush_each(inner).await.into_iter().next().map_or(Ok(()), |(_, why)| Err(why))
}

/// Hands the reads and the refusals by limits of the minute that is over to whoever writes within a
/// second.
pub(super) fn close_minute(inner: &Inner) {
    let Inner { reads, denials, .. } = inner;
    for tenant in reads.logs() {
        for (whose, note) in reads.take(tenant) {
            denials.put_back((tenant, whose), note);
        }
        if let Some(turn) = reads.turn(tenant) {
            reads.forget_idle(tenant, &turn);
        }
    }
    let dropped = reads.dropped();
    if dropped > 0 {
        tracing::error!(
            dropped,
            "reads or refusals by limits are missing in audit logs: too many to keep"
        );
    }
}

/// The last time. What another database than the installation's does not take is lost, which a
/// line says for each: one that is down keeps no server from stopping in order.
pub(crate) async fn flush_last(inner: &Arc<Inner>) -> Result<()> {
    close_minute(inner);
    let mut lost: HashMap<Location, (u64, Error)> = HashMap::new();
    let mut outcome = Ok(());
    for (tenant, why) in flush_each(inner).await {
        // With the installation's own database gone nobody knows where a tenant is.
        let known = if outcome.is_ok() { inner.store.tenant_by_id(tenant).await } else { Ok(None) };
        match known.ok().flatten().map(|info| info.location) {
            Some(location) if location != Location::Home => {
                lost.entry(location).or_insert((0, why)).0 += 1;
            }
            _ => outcome = outcome.and(Err(why)),
        }
    }
    for (location, (tenants, why)) in lost {
        tracing::warn!(
            %location, tenants, %why,
            "the last entries of tenants' audit logs are lost: their database takes none"
        );
    }
    outcome
}

/// Writes what is pending of every log; those that could not be written, and why.
async fn flush_each(inner: &Arc<Inner>) -> Vec<(TenantId, Error)> {
    let dropped = inner.denials.dropped();
    if dropped > 0 {
        tracing::error!(dropped, "refusals are missing in audit logs: too many to keep");
    }
    let mut running = tokio::task::JoinSet::new();
    for tenant in inner.denials.logs() {
        let inner = Arc::clone(inner);
        running.spawn(async move { (tenant, flush_log(&inner, tenant).await) });
    }
    let mut failed = Vec::new();
    while let Some(one) = running.join_next().await {
        match one {
            Ok((_, Ok(()))) => {}
            Ok((tenant, Err(why))) => failed.push((tenant, why)),
            Err(why) => {
                let why = Error::internal("append audit").with_source(why);
                failed.push((TenantId::INSTALLATION, why));
            }
        }
    }
    failed
}

/// Writes what is pending once a second for as long as the engine lives.
pub(crate) fn spawn_flusher(inner: &Arc<Inner>) {
    let weak: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(READS_EVERY).await;
            let Some(inner) = weak.upgrade() else { return };
            close_minute(&inner);
        }
    });
    let (weak, failing) = (Arc::downgrade(inner), Arc::new(Failing::default()));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            let Some(inner) = weak.upgrade() else { return };
            if inner.reads.is_crowded() {
                // Of many tenants: rather another entry than one that is lost.
                close_minute(&inner);
            }
            let failing = Arc::clone(&failing);
            // Not waited for: one tenant whose writer is busy must not delay the next round.
            tokio::spawn(async move {
                // A database that is down takes none for as long as it is.
                if let Err(error) = flush(&inner).await
                    && let Some(tried) = failing.failed()
                {
                    tracing::error!(?error, tried, "append refusals to audit logs; tried again");
                }
            });
        }
    });
}
