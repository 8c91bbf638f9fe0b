//! The commit that decides where a tenant lives, when nobody knows whether it was done.

use super::{
    db::Fault,
    homes::Home,
    tests::{inner, open, operator, tenant},
    *,
};
use crate::{MovePhase, Store};
use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, OperatorScope, Scope};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, ErrorKind, RecordId, RecordWrite, Selector,
    TenantName, TenantSpec, WriteMode,
};

/// A store with a tenant that has a collection.
struct World {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    scope: Scope<Admin>,
    operator: OperatorScope,
    name: TenantName,
    made: crate::CollectionRef,
}

impl World {
    async fn new() -> Self {
        let (dir, store) = open();
        let scope = tenant(&store).await;
        let (.., operator) = operator(&store).await;
        let name = TenantName::parse("a").unwrap();
        let made = collection(&store, &scope).await;
        Self { _dir: dir, store: Arc::new(store), scope, operator, name, made }
    }
}

async fn over(store: &Store, operator: &OperatorScope) -> MovePhase {
    let name = TenantName::parse("a").unwrap();
    let begun = Instant::now();
    loop {
        let status = store.move_status(operator, &name).await.unwrap().unwrap();
        if status.phase.is_over() {
            return status.phase;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn collection(store: &Store, scope: &Scope<Admin>) -> crate::CollectionRef {
    let database = store.database(scope, &DatabaseName::default_database()).await.unwrap();
    let spec = CollectionSpec::new(CollectionName::parse("c").unwrap());
    store.create_collection(scope, &database, &spec, true).await.unwrap().0
}

async fn write(
    store: &Store,
    scope: &Scope<Admin>,
    collection: &crate::CollectionRef,
    n: usize,
) -> Result<u64> {
    let record = RecordWrite {
        vector: Some(vec![n as f32, 1.0]),
        ..RecordWrite::new(RecordId::parse(format!("r{n}")).unwrap())
    };
    let written = store.write(scope, collection, WriteMode::Upsert, vec![record]).await?;
    Ok(written.version)
}

/// Each version is given once, and the log is whole: whoever has opened the tenant in its new place
/// is not given counters from before.
async fn check_counters(store: &Store, scope: &Scope<Admin>, mut versions: Vec<u64>) {
    let given = versions.len();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), given, "a version was given twice");
    let mut last = [0; 32];
    for (at, entry) in store.audit(scope, 0, usize::MAX).await.unwrap().iter().enumerate() {
        assert_eq!(entry.sequence, at as u64 + 1);
        last = entry.hash_after(&last);
        assert_eq!(last, entry.hash, "the chain breaks at {}", entry.sequence);
    }
}

/// The root's next commit that says that the tenant lives elsewhere fails so.
fn fail_the_flip(
    store: &Store,
    tenant: TenantId,
    other: Arc<Disk>,
    fault: Fault,
) -> Arc<AtomicBool> {
    let failed = Arc::new(AtomicBool::new(false));
    let place = keys::Place { tenant: tenant.get() };
    let place = place.encode(Prefix::of(TenantId::INSTALLATION));
    inner(store).disk.fail_when({
        let failed = Arc::clone(&failed);
        move |set| {
            let decides = set.operations.iter().any(|(_, key, _)| *key == place);
            if !decides || failed.swap(true, Ordering::SeqCst) {
                return None;
            }
            other.fail_for_test("as if the disk were full");
            std::thread::sleep(Duration::from_millis(600));
            Some(fault)
        }
    });
    failed
}

/// Nothing is acknowledged before it is known, and nothing is lost whichever it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_writes_until_it_is_known_where_a_tenant_lives() {
    for fault in [Fault::Lost, Fault::Unknown] {
        let World { _dir, store, scope, operator, name, made } = World::new().await;
        for n in 0..40 {
            write(&store, &scope, &made, n).await.unwrap();
        }
        // Not from the root, whose commits fail as a whole.
        store.start_move(&operator, &name, Isolation::Schema.into()).await.unwrap();
        assert_eq!(over(&store, &operator).await, MovePhase::Done);

        // Another database comes back while nobody knows: from then on its generation counts, and
        // every tenant is opened anew from the root as it was.
        let spec = TenantSpec {
            isolation: Some(Isolation::Database),
            ..TenantSpec::new(TenantName::parse("other").unwrap())
        };
        let other = store.create_tenant(&operator, &spec).await.unwrap().id;
        let other = inner(&store).homes.opened(Home::Own(other, 0)).unwrap();

        let failed = fail_the_flip(&store, scope.tenant(), other, fault);
        store.start_move(&operator, &name, Isolation::Database.into()).await.unwrap();
        // Each on its own: whoever waits for the lock of a tenant that was forgotten keeps nobody
        // from the lock of the one that was opened anew.
        let (mut begun, mut writes) = (40, tokio::task::JoinSet::new());
        loop {
            let (at, scope, made) = (Arc::clone(&store), scope.clone(), made.clone());
            let (failed, n) = (Arc::clone(&failed), begun);
            writes.spawn(async move {
                let outcome = write(&at, &scope, &made, n).await;
                let is_ready = inner(&at).disk.health() == Health::Ready;
                let is_unknown = failed.load(Ordering::SeqCst) && !is_ready;
                let is_written = outcome.is_ok();
                // What was written is in memory as well, where a real failure is in the journal alone:
                // whoever finds the tenant in its new place finds it where it is.
                let is_early = is_written && is_unknown && fault == Fault::Lost;
                assert!(!is_early, "written while nobody knows");
                outcome.inspect_err(|error| {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                })
            });
            begun += 1;
            tokio::time::sleep(Duration::from_millis(15)).await;
            // Nothing can be asked while the root is opened again.
            let Ok(Some(status)) = store.move_status(&operator, &name).await else { continue };
            if status.phase.is_over() && status.to.0 == Isolation::Database {
                assert_eq!(status.phase, MovePhase::Done);
                break;
            }
        }
        assert!(failed.load(Ordering::SeqCst), "the commit that decides never failed");
        let (mut versions, mut most) = (Vec::new(), 40);
        while let Some(written) = writes.join_next().await {
            versions.extend(written.unwrap());
            most += 1;
        }
        let least = 40 + versions.len();
        let count = store.count(&scope, &made, &Selector::default()).await.unwrap().value;
        assert!((least..=most).contains(&count), "{count} of {least} to {most}");
        let info = store.tenant_by_id(scope.tenant()).await.unwrap().unwrap();
        assert_eq!(info.isolation, Isolation::Database);
        for n in 0..20 {
            versions.push(write(&store, &scope, &made, n).await.unwrap());
        }
        check_counters(&store, &scope, versions).await;
        store.close();
    }
}

/// What operators are told of a move under way, and what is counted of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_how_far_comparing_has_come_and_all_is_counted() {
    let World { _dir, store, scope, operator, name, made } = World::new().await;
    // More than are compared in one step.
    for from in [0, 650] {
        let record = |n| RecordWrite {
            vector: Some(vec![n as f32, 1.0]),
            ..RecordWrite::new(RecordId::parse(format!("r{n}")).unwrap())
        };
        let batch = (from..from + 650).map(record).collect();
        store.write(&scope, &made, WriteMode::Upsert, batch).await.unwrap();
    }
    let idle = store.totals().moves;
    assert_eq!(idle, crate::MoveTotals::default());
    inner(&store).tenancy.moves.limit(std::num::NonZeroU64::new(150_000));
    store.start_move(&operator, &name, Isolation::Schema.into()).await.unwrap();
    let again = store.start_move(&operator, &name, Isolation::Database.into()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    let why = "a move of the tenant a is not over yet: shared → schema; `tenantry tenant move` with \
               --follow follows it, and with --cancel cancels it";
    assert_eq!(again.public_message(), why);
    let (mut told, mut seen) = (Vec::new(), store.totals().moves);
    loop {
        let status = store.move_status(&operator, &name).await.unwrap().unwrap();
        match status.phase {
            MovePhase::Copying => assert_eq!(status.records_compared, None, "{status:?}"),
            MovePhase::Checking => {
                seen = store.totals().moves;
                let now = status.records_compared.map(|so_far| (so_far, status.left));
                if told.last().map(|(so_far, _)| *so_far) != now.map(|(so_far, _)| so_far) {
                    told.extend(now);
                }
            }
            MovePhase::Done => {
                assert_eq!(status.records_compared, None, "{status:?}");
                break;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(told.is_sorted_by_key(|(so_far, _)| *so_far), "{told:?}");
    assert!(told.iter().all(|(so_far, _)| *so_far <= 1_300), "{told:?}");
    let mut between = told.iter().filter(|(so_far, _)| (1..1_300).contains(so_far));
    assert!(between.any(|(_, left)| left.is_some()), "{told:?}");
    assert_eq!((seen.running, seen.queued, seen.done), (1, 0, 0));
    let totals = store.totals().moves;
    assert_eq!((totals.running, totals.done, totals.cancelled, totals.failed), (0, 1, 0, 0));
    assert!(totals.bytes_copied > 10_000 && totals.bytes_compared > 10_000, "{totals:?}");
    assert!(totals.pauses.count() >= 1 && !totals.pauses.sum.is_zero(), "{totals:?}");
    store.close();
}

async fn isolation(store: &Store, scope: &Scope<Admin>) -> Isolation {
    store.tenant_by_id(scope.tenant()).await.unwrap().unwrap().isolation
}

/// A copy that is not the same never counts: the tenant stays, and what was copied goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_differs_is_given_up() {
    let World { _dir, store, scope, operator, name, made } = World::new().await;
    for n in 0..3 {
        write(&store, &scope, &made, n).await.unwrap();
    }
    let inner = inner(&store);
    let home = Home::Own(scope.tenant(), 1);
    // Somebody else's row comes with the first one of the copy.
    let key = keys::Id { collection: made.info.number.0, partition: 0, id: keys::Tail(b"odd") };
    let key = key.encode(Prefix::of(scope.tenant()));
    let spoiler = {
        let (inner, operator, store) = (Arc::clone(inner), operator.clone(), Arc::clone(&store));
        let name = name.clone();
        tokio::spawn(async move {
            loop {
                if inner.homes.opened(home).is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            let status = store.move_status(&operator, &name).await.unwrap().unwrap();
            let placement = crate::tenancy::place::Placement {
                isolation: Isolation::Database,
                stay: 1,
                ..crate::tenancy::place::Placement::shared(status.tenant)
            };
            let mut set = WriteSet::new(placement, inner.disk.db(0).unwrap().generation());
            set.operations.push((Space::Data, key, Some(9_u64.to_be_bytes().to_vec())));
            inner.commit_at(set).await.unwrap();
        })
    };
    store.start_move(&operator, &name, Isolation::Database.into()).await.unwrap();
    let phase = over(&store, &operator).await;
    spoiler.await.unwrap();
    assert_eq!(phase, MovePhase::Failed);
    assert_eq!(store.totals().moves.failed, 1);
    assert_eq!(isolation(&store, &scope).await, Isolation::Shared);
    assert!(inner.homes.open(home).await.is_err(), "the copy is gone");
    write(&store, &scope, &made, 3).await.unwrap();
    let count = store.count(&scope, &made, &Selector::default()).await.unwrap().value;
    assert_eq!(count, 4);
    // It is tried again under another name.
    store.start_move(&operator, &name, Isolation::Database.into()).await.unwrap();
    assert_eq!(over(&store, &operator).await, MovePhase::Done);
    assert_eq!(isolation(&store, &scope).await, Isolation::Database);
    check_counters(&store, &scope, Vec::new()).await;
    store.close();
}

async fn status(store: &Store, operator: &OperatorScope, name: &TenantName) -> crate::MoveStatus {
    store.move_status(operator, name).await.unwrap().unwrap()
}

/// Waits until a move is in a phase.
async fn until(store: &Store, operator: &OperatorScope, name: &TenantName, phase: MovePhase) {
    let begun = Instant::now();
    loop {
        let status = status(store, operator, name).await;
        if status.phase == phase {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "not {phase:?}: {status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Records that are copied in several pieces.
async fn fill(store: &Store, scope: &Scope<Admin>, made: &crate::CollectionRef) {
    let record = |n| RecordWrite {
        vector: Some(vec![n as f32, 1.0]),
        ..RecordWrite::new(RecordId::parse(format!("r{n}")).unwrap())
    };
    for from in [0, 500] {
        let batch = (from..from + 500).map(record).collect();
        store.write(scope, made, WriteMode::Upsert, batch).await.unwrap();
    }
}

/// Nothing was made for it, and the one before it takes its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_move_does_not_wait_for_the_one_before_it() {
    let World { _dir, store, scope, operator, name, made } = World::new().await;
    fill(&store, &scope, &made).await;
    let second = TenantName::parse("second").unwrap();
    store.create_tenant(&operator, &TenantSpec::new(second.clone())).await.unwrap();
    inner(&store).tenancy.moves.limit(std::num::NonZeroU64::new(1_024));
    store.start_move(&operator, &name, Isolation::Schema.into()).await.unwrap();
    until(&store, &operator, &name, MovePhase::Copying).await;
    for to in [Isolation::Schema, Isolation::Database] {
        let begun = store.start_move(&operator, &second, to.into()).await.unwrap();
        assert_eq!(begun.phase, MovePhase::Queued);
        store.cancel_move(&operator, &second).await.unwrap();
        until(&store, &operator, &second, MovePhase::Cancelled).await;
        assert_eq!(status(&store, &operator, &name).await.phase, MovePhase::Copying);
        assert_eq!(store.moves(&operator).await.unwrap().len(), 1);
    }
    // Its turn comes like that of any other one, and the one that was worked on is undone as soon.
    let again = store.start_move(&operator, &second, Isolation::Schema.into()).await.unwrap();
    assert_eq!(again.phase, MovePhase::Queued);
    inner(&store).tenancy.moves.limit(None);
    store.cancel_move(&operator, &name).await.unwrap();
    until(&store, &operator, &name, MovePhase::Cancelled).await;
    until(&store, &operator, &second, MovePhase::Done).await;
    assert_eq!(store.totals().moves.cancelled, 3);
    // What was known of it is not taken for what is known of the next one.
    store.start_move(&operator, &name, Isolation::Database.into()).await.unwrap();
    until(&store, &operator, &name, MovePhase::Done).await;
    let count = store.count(&scope, &made, &Selector::default()).await.unwrap().value;
    assert_eq!(count, 1_000);
    store.close();
}

/// The rate is that of this process, and the position that of the move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_it_is_told_where_a_move_goes_on() {
    let World { _dir: dir, store, scope, operator, name, made } = World::new().await;
    fill(&store, &scope, &made).await;
    inner(&store).tenancy.moves.limit(std::num::NonZeroU64::new(40_000));
    store.start_move(&operator, &name, Isolation::Schema.into()).await.unwrap();
    let begun = Instant::now();
    while status(&store, &operator, &name).await.records_copied < 500 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not copied");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // However long it takes to stop, it does not come to its end.
    inner(&store).tenancy.moves.limit(std::num::NonZeroU64::new(1_024));
    store.close();
    drop(store);

    let mut config = crate::EmbeddedConfig::new(dir.path());
    config.move_rate = std::num::NonZeroU64::new(1_024);
    let store = Store::open_embedded(config).unwrap();
    let (.., operator) = super::tests::operator(&store).await;
    let first = status(&store, &operator, &name).await.records_copied;
    assert!((1..1_000).contains(&first), "{first} records are stored as copied");
    let begun = Instant::now();
    let last = loop {
        let now = status(&store, &operator, &name).await;
        assert!(now.records_copied >= first, "not from {first} on: {now:?}");
        if begun.elapsed() > Duration::from_secs(3) {
            break now;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    // One piece in three seconds: the next one is due much later.
    assert!(last.records_per_second < 80.0, "what was copied before counts: {last:?}");
    store.close();
}

/// Somebody else is about to change the root when the tenant's writes are stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_does_not_wait_for_whoever_changes_the_root() {
    let World { _dir, store, scope, operator, name, made } = World::new().await;
    fill(&store, &scope, &made).await;
    let tenancy = &inner(&store).tenancy;
    tenancy.moves.limit(std::num::NonZeroU64::new(150_000));
    store.start_move(&operator, &name, Isolation::Schema.into()).await.unwrap();
    until(&store, &operator, &name, MovePhase::Checking).await;
    let installation = tenancy.installation().await.unwrap();
    let changing = installation.writer.lock().await;
    tenancy.moves.limit(None);
    until(&store, &operator, &name, MovePhase::Switching).await;
    let (begun, mut longest, mut pauses) = (Instant::now(), Duration::ZERO, 0);
    while begun.elapsed() < Duration::from_secs(1) {
        let asked = Instant::now();
        write(&store, &scope, &made, 7).await.unwrap();
        longest = longest.max(asked.elapsed());
        pauses = store.totals().moves.pauses.count();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(changing);
    assert_eq!(over(&store, &operator).await, MovePhase::Done);
    assert!(pauses > 1 && longest < Duration::from_millis(700), "{pauses} pauses, {longest:?}");
    store.close();
}
