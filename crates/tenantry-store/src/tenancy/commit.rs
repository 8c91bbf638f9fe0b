//! Commits of tenants' data in the making.

use super::{
    disk::{
        self, DiskAudit, DiskChange, DiskHead, DiskStatistics, DiskTenant, Head, Stamp, Statistics,
        Touched,
    },
    keys::{self, Prefix},
    seal::Nonces,
    set::{Space, WriteSet},
    tenants::OpenTenant,
    usage::{Counted, Work},
};
use crate::{AuditBinding, AuditEntry, AuditNote, Entropy, TenantInfo};
use serde::Serialize;
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Location, Result, Term, Timestamp};

/// Change rows kept per tenant. Whoever falls further behind starts from a full copy.
pub(super) const CHANGES_KEPT: u64 = 1_024;
/// Change rows kept for a move. One that falls further behind starts from a full copy.
const CHANGES_HELD_MAX: u64 = 1_000_000;

/// A commit of one tenant's data in the making: collects sealed rows, then the head, the change row and
/// the audit entries. The tenant's writer lock must be held.
pub(crate) struct Commit<'a> {
    tenant: &'a OpenTenant,
    entropy: &'a dyn Entropy,
    nonces: Nonces,
    now: Timestamp,
    pub(crate) head: Head,
    set: WriteSet,
    touched: Vec<Touched>,
}

impl<'a> Commit<'a> {
    /// A new commit of a tenant whose writer lock is held.
    pub(crate) fn begin(
        tenant: &'a OpenTenant,
        entropy: &'a dyn Entropy,
        now: Timestamp,
    ) -> Result<Self> {
        tenant.check_alive()?;
        let head = tenant.head().ok_or_else(|| Error::internal("the place was not opened"))?;
        Ok(Self::new(tenant, head, entropy, now))
    }

    /// The first commit of a tenant, or one that goes on from these counters.
    pub(crate) fn new(
        tenant: &'a OpenTenant,
        mut head: Head,
        entropy: &'a dyn Entropy,
        now: Timestamp,
    ) -> Self {
        let nonces = Nonces::draw(entropy);
        head.sequence += 1;
        let set = WriteSet::new(tenant.placement(), tenant.generation());
        Self { tenant, entropy, nonces, now, head, set, touched: Vec::new() }
    }

    /// The sequence of this commit: the version of the records it writes.
    pub(crate) fn sequence(&self) -> u64 {
        self.head.sequence
    }

    pub(crate) fn prefix(&self) -> Prefix {
        self.tenant.prefix()
    }

    /// True if the data that it writes are apart from the root.
    pub(crate) fn is_apart(&self) -> bool {
        self.tenant.placement().is_apart()
    }

    /// Seals and puts a row.
    pub(crate) fn put<T: Serialize>(&mut self, space: Space, key: Vec<u8>, row: &T) {
        self.put_bytes(space, key, &disk::encode(row), true);
    }

    /// Seals and puts bytes.
    pub(crate) fn put_bytes(&mut self, space: Space, key: Vec<u8>, bytes: &[u8], compress: bool) {
        let sealed = self.tenant.key().seal(&key, bytes, compress, &mut self.nonces);
        self.set.operations.push((space, key, Some(sealed)));
    }

    /// Puts a value that says nothing (a number, or nothing) without sealing it.
    pub(crate) fn put_clear(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) {
        self.set.operations.push((space, key, Some(value)));
    }

    /// Removes a key.
    pub(crate) fn remove(&mut self, space: Space, key: Vec<u8>) {
        self.set.operations.push((space, key, None));
    }

    /// Seals bytes that are put elsewhere, for the key that they would have here.
    pub(crate) fn seal(&mut self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        self.tenant.key().seal(key, bytes, true, &mut self.nonces)
    }

    /// Puts the counts of a partition whose records change, with a new stamp.
    pub(crate) fn put_statistics(&mut self, key: keys::Statistics, statistics: Statistics) {
        let mut stamp = Stamp::default();
        self.entropy.fill("stamp", &mut stamp);
        let key = key.encode(self.prefix());
        self.put(Space::Data, key, &DiskStatistics::new(statistics, stamp));
    }

    /// True if records are to say what they take: older programs, which could not read such rows, are
    /// kept out.
    pub(crate) fn sizes_records(&self) -> bool {
        self.tenant.origin().is_open()
    }

    /// Says what a tenant keeps whose counters did not know it, as far as they did not; false if there is
    /// nothing to say.
    pub(crate) fn set_stock(&mut self, records: u64, bytes: Option<u64>) -> bool {
        let now = self.now;
        let Some(counted) = &mut self.head.usage else { return false };
        let after = (counted.records.or(Some(records)), counted.bytes.or(bytes));
        if after == (counted.records, counted.bytes) {
            return false;
        }
        counted.advance(now);
        (counted.records, counted.bytes) = after;
        true
    }

    /// Fails if the tenant keeps more records than it may, with what this commit has counted. It may
    /// keep any if nobody knows how many it keeps.
    pub(crate) fn check_records(&self, most: Option<u64>) -> Result<()> {
        let kept = self.head.usage.as_ref().and_then(|counted| counted.records);
        check_kept(Term::Records, kept, most, "records in all collections; with these")
    }

    /// The same of bytes.
    pub(crate) fn check_bytes(&self, most: Option<u64>) -> Result<()> {
        let kept = self.head.usage.as_ref().and_then(|counted| counted.bytes);
        check_kept(Term::Bytes, kept, most, "bytes; with these records")
    }

    /// What others remember of rights counts no more after it.
    pub(crate) fn takes_right(&mut self) {
        self.set.takes = true;
    }

    /// Notes what the commit touches.
    pub(crate) fn touch(&mut self, what: Touched) {
        self.touched.push(what);
    }

    /// Puts the tenant's row.
    pub(crate) fn put_tenant(&mut self, info: &TenantInfo) {
        let key = keys::Tenant {}.encode(self.prefix());
        self.put(Space::Catalog, key, &DiskTenant::from_info(info));
        self.touch(Touched::Tenant);
    }

    /// Appends an audit entry to this tenant's chain.
    pub(crate) fn audit(&mut self, note: AuditNote) {
        self.audit_at(self.now, note);
    }

    /// The same of something that was done before.
    pub(crate) fn audit_at(&mut self, at: Timestamp, note: AuditNote) {
        let sequence = self.head.audit_sequence + 1;
        let AuditNote { event, reason, request } = note;
        let origin = self.tenant.origin();
        // Another node may know of the gate already when this one does not.
        self.head.is_bound |= origin.is_open();
        let bound = AuditBinding { origin: *origin.bytes(), reason, request };
        let bound = self.head.is_bound.then_some(bound);
        let mut entry = AuditEntry { sequence, at, event, bound, hash: [0; 32] };
        entry.hash = entry.hash_after(&self.head.audit_hash);
        let key = keys::Audit { sequence }.encode(self.prefix());
        self.put(Space::Data, key, &DiskAudit::from_entry(&entry));
        self.head.audit_sequence = sequence;
        self.head.audit_hash = entry.hash;
    }

    /// Counts what this commit does as usage of its tenant, before it makes anything. A database that
    /// its tenant carries is not believed: what is written there is counted in the root, and how
    /// much is kept is not known any more.
    pub(crate) fn count(&mut self, work: &Work) {
        let (tenant, now) = (self.tenant, self.now);
        if tenant.id() == TenantId::INSTALLATION {
            return;
        }
        if tenant.placement().location == Location::Own {
            if let Some(counted) = &mut self.head.usage {
                counted.advance(now);
                (counted.records, counted.bytes) = (None, None);
            }
            return;
        }
        if self.head.usage.is_none() && tenant.origin().is_open() {
            let is_empty = self.head.last_collection == 0;
            self.head.usage = Some(Box::new(Counted::begin(now, is_empty)));
        }
        // Before older programs are kept out nothing is counted.
        if let Some(counted) = &mut self.head.usage {
            counted.advance(now);
            counted.add(work);
        }
    }

    /// Adds the change row and the head; what is returned must be committed, and then the head
    /// set on the tenant.
    pub(crate) fn finish(mut self) -> (WriteSet, Head) {
        let sequence = self.head.sequence;
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            // Refusals are written whenever the clock says so; versions must not depend on that.
            self.head.sequence -= 1;
        } else {
            let key = keys::Change { sequence }.encode(self.prefix());
            self.put(Space::Data, key, &DiskChange::V1 { at: self.now.0, touched });
        }
        if self.head.hold.is_some_and(|floor| sequence.saturating_sub(floor) > CHANGES_HELD_MAX) {
            self.head.hold = None;
        }
        let end = self.head.hold.unwrap_or(u64::MAX);
        // Whatever this commit touches, or rows of others would stay for ever.
        let old = sequence.checked_sub(CHANGES_KEPT).filter(|old| *old > 0 && *old < end);
        if let Some(old) = old {
            let key = keys::Change { sequence: old }.encode(self.prefix());
            self.remove(Space::Data, key);
        }
        let key = keys::Head {}.encode(self.prefix());
        let head = self.head.clone();
        self.put(Space::Data, key, &DiskHead::from_head(&head));
        (self.set, head)
    }
}

fn check_kept(term: Term, kept: Option<u64>, most: Option<u64>, what: &str) -> Result<()> {
    match (kept, most) {
        (Some(kept), Some(most)) if kept > most => {
            let message = format!("this tenant may keep {most} {what} it would be more");
            Err(Error::new(ErrorKind::LimitExceeded, message).with_limit(term))
        }
        _ => Ok(()),
    }
}
