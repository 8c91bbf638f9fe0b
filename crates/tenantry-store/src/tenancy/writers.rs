//! Who waits for a tenant's locks: not too many, not with too much, and not for too long.
//!
//! A change that was begun goes on when its caller has gone away, and so does its waiting. What
//! a tenant's requests hold meanwhile must have a bound, however slow its writes are.

use super::{Backend, Tenancy, about::Rooting, tenants::OpenTenant};
use parking_lot::Mutex;
use std::time::Duration;
use tenantry_types::{
    Error, ErrorKind, FieldTest, Filter, RecordWrite, Result, Selector, TextTest,
};
use tokio::{sync::MutexGuard, time::timeout};

/// Requests that wait for one lock of a tenant.
pub(crate) const WAITERS_MAX: usize = 256;
/// Bytes that they hold together; one that waits alone may hold more.
const BYTES_MAX: usize = 256 << 20;
/// How long each waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// Those who wait for one lock.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    waiters: usize,
    bytes: usize,
}

/// One of them.
#[derive(Debug)]
struct Waiting<'a> {
    all: &'a Waiters,
    bytes: usize,
}

impl Waiters {
    /// One more that holds so many bytes.
    fn enter(&self, bytes: usize) -> Result<Waiting<'_>> {
        let mut held = self.0.lock();
        let is_full = held.waiters >= WAITERS_MAX
            || (held.waiters > 0 && held.bytes.saturating_add(bytes) > BYTES_MAX);
        if is_full {
            return Err(busy("too many changes of this tenant wait for their turn"));
        }
        held.waiters += 1;
        held.bytes = held.bytes.saturating_add(bytes);
        Ok(Waiting { all: self, bytes })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut held = self.all.0.lock();
        held.waiters -= 1;
        held.bytes = held.bytes.saturating_sub(self.bytes);
    }
}

fn busy(message: &str) -> Error {
    Error::new(ErrorKind::Busy, message)
}

fn too_long() -> Error {
    busy("the changes of this tenant before this one took too long")
}

impl OpenTenant {
    /// The writer lock for a request that holds so many bytes until it has it.
    pub(crate) async fn writer_turn(&self, bytes: usize) -> Result<MutexGuard<'_, ()>> {
        // It gives nobody a lock that others wait for already.
        if let Ok(writing) = self.writer.try_lock() {
            return Ok(writing);
        }
        let waiting = self.waiters.enter(bytes)?;
        let both = async {
            // One of them waits for the lock itself: whoever revokes a right comes right after it.
            let _first = self.next_writer.lock().await;
            self.writer.lock().await
        };
        let writing = timeout(PATIENCE, both).await.map_err(|_| too_long());
        drop(waiting);
        writing
    }

    /// The turn of a report that holds so many bytes until it has it: one of a tenant looks and waits
    /// at a time.
    pub(super) async fn report_turn(&self, bytes: usize) -> Result<MutexGuard<'_, ()>> {
        let waiting = self.report_waiters.enter(bytes)?;
        let turn = timeout(PATIENCE, self.reporting.lock()).await.map_err(|_| too_long());
        drop(waiting);
        turn
    }
}

impl<B: Backend> Tenancy<B> {
    /// The turn of a tenant's report among those of all tenants. Together they are one of those who
    /// wait for the installation's log: however many tenants are reported about, whoever revokes a
    /// right, suspends a tenant or writes the ledger's journal waits behind one of them.
    pub(super) async fn report_turn(&self) -> Result<MutexGuard<'_, ()>> {
        let late = |_| busy("the reports of usage before this one took too long; send it again");
        timeout(PATIENCE, self.reporting.lock()).await.map_err(late)
    }

    /// [`Tenancy::rooting`] for a request of the tenant's own. It is counted apart from writes, so
    /// that these keep nobody from revoking a key.
    pub(super) async fn rooting_turn<'t>(&self, tenant: &'t OpenTenant) -> Result<Rooting<'t>> {
        let _waiting = tenant.root_waiters.enter(0)?;
        timeout(PATIENCE, self.rooting(tenant)).await.map_err(|_| too_long())?
    }
}

/// About the bytes that a batch holds.
pub(crate) fn batch_bytes(records: &[RecordWrite]) -> usize {
    let one = |record: &RecordWrite| {
        let vectors = record.vector.iter().chain(record.vectors.values());
        let values = record.metadata.iter().map(|(key, value)| {
            64 + key.len() + value.as_ref().map_or(0, tenantry_types::Value::bytes)
        });
        size_of::<RecordWrite>()
            + record.id.as_str().len()
            + record.document.as_ref().map_or(0, String::len)
            + record.uri.as_ref().map_or(0, String::len)
            + vectors.map(|vector| size_of_val(vector.as_slice())).sum::<usize>()
            + values.sum::<usize>()
    };
    records.iter().map(one).sum()
}

/// About the bytes that a selector holds.
pub(crate) fn selector_bytes(select: &Selector) -> usize {
    let ids = select.ids.iter().flatten().map(|id| size_of_val(id) + id.as_str().len());
    ids.sum::<usize>() + select.filter.as_ref().map_or(0, filter_bytes)
}

fn filter_bytes(filter: &Filter) -> usize {
    size_of::<Filter>()
        + match filter {
            Filter::And(all) | Filter::Or(all) => all.iter().map(filter_bytes).sum(),
            Filter::Not(one) => filter_bytes(one),
            Filter::Field { key, test } => key.len() + test_bytes(test),
            Filter::Text(
                TextTest::Contains(text)
                | TextTest::NotContains(text)
                | TextTest::Regex(text)
                | TextTest::NotRegex(text),
            ) => text.len(),
        }
}

fn test_bytes(test: &FieldTest) -> usize {
    match test {
        FieldTest::Eq(value)
        | FieldTest::Ne(value)
        | FieldTest::Gt(value)
        | FieldTest::Gte(value)
        | FieldTest::Lt(value)
        | FieldTest::Lte(value)
        | FieldTest::Contains(value)
        | FieldTest::NotContains(value) => value.bytes(),
        FieldTest::In(values) | FieldTest::NotIn(values) => {
            values.iter().map(tenantry_types::Value::bytes).sum()
        }
        FieldTest::Exists(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_types::{RecordId, Value, VectorName};

    #[test]
    fn who_waits_is_bounded_in_number_and_in_bytes() {
        let all = Waiters::default();
        let kind = |got: Result<Waiting<'_>>| got.map(drop).expect_err("refused").kind();
        let large = all.enter(2 * BYTES_MAX).expect("alone it may be larger");
        assert_eq!(kind(all.enter(1)), ErrorKind::Busy);
        drop(all.enter(0));
        drop(large);
        let half = (all.enter(BYTES_MAX / 2), all.enter(BYTES_MAX / 2));
        assert_eq!(kind(all.enter(1)), ErrorKind::Busy);
        assert!(half.0.is_ok() && half.1.is_ok());
        drop(half);
        let many: Vec<_> = (0..WAITERS_MAX).map(|_| all.enter(1).expect("room")).collect();
        assert_eq!(kind(all.enter(0)), ErrorKind::Busy);
        drop(many);
        drop(all.enter(BYTES_MAX).expect("everybody has left"));
        assert!(matches!(*all.0.lock(), Held { waiters: 0, bytes: 0 }));
    }

    #[test]
    fn every_part_of_a_batch_and_of_a_selector_counts() {
        let text = "t".repeat(1_000);
        let id = RecordId::parse("r").expect("an id");
        let least = batch_bytes(&[RecordWrite::new(id.clone())]);
        let parts: [fn(&mut RecordWrite, String); 5] = [
            |one, text| one.document = Some(text),
            |one, text| one.uri = Some(text),
            |one, text| one.metadata = [("k".to_owned(), Some(Value::Str(text)))].into(),
            |one, text| one.vector = Some(vec![0.0; text.len()]),
            |one, text| {
                let name = VectorName::parse("v").expect("a name");
                one.vectors = [(name, vec![0.0; text.len()])].into();
            },
        ];
        for part in parts {
            let mut record = RecordWrite::new(id.clone());
            part(&mut record, text.clone());
            assert!(batch_bytes(&[record]) >= least + text.len());
        }
        let long = RecordId::parse(&text).expect("an id");
        let ids = Selector { ids: Some(vec![long; 3]), filter: None };
        assert!(selector_bytes(&ids) >= 3 * text.len());
        let field = FieldTest::In(vec![Value::Str(text.clone()), Value::Str(text.clone())]);
        let filter = Filter::And(vec![
            Filter::Not(Box::new(Filter::Text(TextTest::Contains(text.clone())))),
            Filter::Field { key: text.clone(), test: field },
        ]);
        let selector = Selector { ids: None, filter: Some(filter) };
        assert!(selector_bytes(&selector) >= 4 * text.len());
    }
}
