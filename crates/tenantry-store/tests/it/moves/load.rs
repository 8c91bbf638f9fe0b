//! A tenant under load while it is moved around, compared with a model: what was acknowledged is
//! found, once, by everybody who asks afterwards, and nothing fails.

use super::{Ground, MovePhase, all, fill, go, new_key};
use crate::stand::{Chance, Stand, everything, ids, record, whole_number};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Scope};
use tenantry_store::CollectionRef;
use tenantry_types::{
    CollectionName, CollectionSpec, GetRequest, QueryRequest, Record, Selector, WriteMode,
};

const CLIENTS: u64 = 4;
const OWN_IDS: u64 = 12;
const COMMON_IDS: u64 = 6;
const RECORDS: usize = 1_000;
const ROUNDS: usize = 2;
const REST: Duration = Duration::from_millis(2);

/// What is known of the ids that all clients write.
#[derive(Default)]
struct Common {
    /// By id: each acknowledged write by its version.
    written: HashMap<String, BTreeMap<u64, i64>>,
    /// Values whose writes have begun.
    begun: BTreeSet<i64>,
    /// Versions of all acknowledged commits: none is given twice.
    versions: BTreeSet<u64>,
}

struct Client {
    stand: Arc<Stand>,
    scope: Scope<Admin>,
    collection: CollectionRef,
    number: u64,
    chance: Chance,
    common: Arc<Mutex<Common>>,
    longest: Arc<Mutex<BTreeMap<&'static str, u128>>>,
    /// Its own ids, which nobody else writes: exactly this is found.
    own: BTreeMap<String, i64>,
    next: i64,
}

fn own_vector(client: u64, n: u64) -> Vec<f32> {
    vec![1e6 + (client * 1_000 + n) as f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
}

impl Client {
    async fn run(mut self, until: Arc<AtomicBool>) -> u64 {
        let mut operations = 0;
        while !until.load(Ordering::SeqCst) {
            let begun = Instant::now();
            let what = self.step().await;
            note(&self.longest, what, begun.elapsed().as_millis());
            operations += 1;
            // What is written in a test must not depend on how fast the disk is: all of it is moved.
            tokio::time::sleep(REST).await;
        }
        self.check_own().await;
        operations
    }

    async fn step(&mut self) -> &'static str {
        match self.chance.below(8) {
            0 | 1 => {
                self.write_own().await;
                "write"
            }
            2 => {
                self.write_common().await;
                "write of two"
            }
            3 => {
                self.delete_own().await;
                "delete"
            }
            4 => {
                self.read_common().await;
                "get"
            }
            5 => {
                self.query_own().await;
                "query"
            }
            6 => {
                self.count_own().await;
                "count"
            }
            _ => {
                self.check_own().await;
                "get of twelve"
            }
        }
    }

    fn value(&mut self) -> i64 {
        self.next += 1;
        (i64::try_from(self.number).unwrap() << 40) + self.next
    }

    fn own_id(&mut self) -> (String, u64) {
        let n = self.chance.below(OWN_IDS);
        (format!("own-{}-{n}", self.number), n)
    }

    async fn write_own(&mut self) {
        let ((id, n), value) = (self.own_id(), self.value());
        let vector = own_vector(self.number, n);
        let batch = vec![record(&id, vector, &[("value", value)])];
        let written =
            self.stand.store.write(&self.scope, &self.collection, WriteMode::Upsert, batch);
        let outcome = written.await.expect("write");
        assert!(self.common.lock().unwrap().versions.insert(outcome.version), "given twice");
        self.own.insert(id, value);
    }

    async fn write_common(&mut self) {
        let value = self.value();
        let names: BTreeSet<String> =
            (0..2).map(|_| format!("common-{}", self.chance.below(COMMON_IDS))).collect();
        self.common.lock().unwrap().begun.insert(value);
        let one = |id: &String| record(id, vec![0.5; 8], &[("value", value)]);
        let batch = names.iter().map(one).collect();
        let written =
            self.stand.store.write(&self.scope, &self.collection, WriteMode::Upsert, batch);
        let version = written.await.expect("write").version;
        let mut common = self.common.lock().unwrap();
        assert!(common.versions.insert(version), "version {version} was given twice");
        for id in names {
            common.written.entry(id).or_default().insert(version, value);
        }
    }

    async fn delete_own(&mut self) {
        let (id, _) = self.own_id();
        let select = ids([id.clone()]);
        let deleted = self.stand.store.delete(&self.scope, &self.collection, &select, None).await;
        let was_there = self.own.remove(&id).is_some();
        assert_eq!(deleted.expect("delete"), usize::from(was_there), "{id}");
    }

    async fn get(&self, wanted: Vec<String>) -> Vec<Record> {
        let select = ids(wanted);
        let request = GetRequest { select, include: everything(), ..GetRequest::default() };
        self.stand.store.get(&self.scope, &self.collection, &request).await.expect("get").value
    }

    /// A read finds what was acknowledged before it began, or what was written later.
    async fn read_common(&mut self) {
        let id = format!("common-{}", self.chance.below(COMMON_IDS));
        let least = {
            let common = self.common.lock().unwrap();
            common.written.get(&id).and_then(|all| all.keys().next_back().copied())
        };
        let found = self.get(vec![id.clone()]).await;
        let Some(least) = least else { return };
        let [found] = &found[..] else { panic!("{id} was found {} times", found.len()) };
        assert!(found.version >= least, "{id}: {} was read after {least}", found.version);
        let value = whole_number(found, "value");
        let common = self.common.lock().unwrap();
        assert!(common.begun.contains(&value), "{id} has a value that nobody wrote");
        if let Some(written) = common.written[&id].get(&found.version) {
            assert_eq!(*written, value, "{id} has the version of another write");
        }
    }

    async fn query_own(&mut self) {
        let (id, n) = self.own_id();
        let request = QueryRequest {
            using: None,
            vectors: vec![own_vector(self.number, n)],
            k: 1,
            select: Selector::default(),
            include: everything(),
            exact: false,
        };
        let found = self.stand.store.query(&self.scope, &self.collection, &request).await;
        let hits = found.expect("query").value.hits;
        if let Some(value) = self.own.get(&id) {
            let first = &hits[0][0].record;
            assert_eq!(first.id.as_str(), id);
            assert_eq!(whole_number(first, "value"), *value);
        } else {
            assert!(hits[0].iter().all(|hit| hit.record.id.as_str() != id), "{id} came back");
        }
    }

    async fn count_own(&mut self) {
        let select = ids((0..OWN_IDS).map(|n| format!("own-{}-{n}", self.number)));
        let count = self.stand.store.count(&self.scope, &self.collection, &select).await;
        assert_eq!(count.expect("count").value, self.own.len());
    }

    async fn check_own(&mut self) {
        let wanted = (0..OWN_IDS).map(|n| format!("own-{}-{n}", self.number)).collect();
        let found: BTreeMap<String, i64> = self
            .get(wanted)
            .await
            .iter()
            .map(|record| (record.id.as_str().to_owned(), whole_number(record, "value")))
            .collect();
        assert_eq!(found, self.own);
    }
}

/// Databases, collections and keys come and go meanwhile.
async fn catalog(stand: Arc<Stand>, scope: Scope<Admin>, until: Arc<AtomicBool>) -> usize {
    let database = stand.default_database(&scope).await;
    let mut rounds = 0;
    while !until.load(Ordering::SeqCst) {
        let name = CollectionName::parse(format!("made-{}", rounds % 5)).expect("a name");
        let spec = CollectionSpec::new(name.clone());
        let made = stand.store.create_collection(&scope, &database, &spec, false).await;
        let made = made.expect("a collection").0;
        let batch = (0..30).map(|n| record(&format!("{n}"), vec![n as f32; 3], &[])).collect();
        stand.store.write(&scope, &made, WriteMode::Upsert, batch).await.expect("write");
        let key = stand.store.create_key(&scope, new_key()).await.expect("key").0.id;
        let count = stand.store.count(&scope, &made, &Selector::default()).await;
        assert_eq!(count.expect("count").value, 30);
        let keys = stand.store.keys(&scope).await.expect("keys");
        assert!(keys.len() == 1 && keys[0].id == key, "{} keys", keys.len());
        stand.store.revoke_key(&scope, key).await.expect("revoke");
        let found = stand.store.collection(&scope, &database, &name).await.expect("found");
        stand.store.delete_collection(&scope, &found).await.expect("delete");
        let left = stand.store.count_collections(&scope, &database).await.expect("count");
        assert_eq!(left, 1);
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rounds
}

pub(super) async fn nothing_fails_is_lost_or_doubled_while_a_tenant_goes_around(ground: Ground) {
    go_around(ground, 1).await;
}

/// Whoever writes at one node reads it at the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_fails_is_lost_or_doubled_on_two_nodes() {
    go_around(Ground::postgres().await, 2).await;
}

/// So many nodes, the first of which is open.
async fn nodes_with(ground: &Ground, first: &Arc<Stand>, nodes: u64) -> Vec<Arc<Stand>> {
    let mut all = vec![Arc::clone(first)];
    for _ in 1..nodes {
        all.push(Arc::new(ground.open().await));
    }
    all
}

fn note(longest: &Mutex<BTreeMap<&'static str, u128>>, what: &'static str, took: u128) {
    let mut all = longest.lock().unwrap();
    let longest = all.entry(what).or_default();
    *longest = took.max(*longest);
}

async fn go_around(ground: Ground, nodes: u64) {
    let stand = Arc::new(ground.open().await);
    let stands = nodes_with(&ground, &stand, nodes).await;
    let scope = stand.create("a").await.expect("tenant");
    fill(&stand, &scope, RECORDS).await;
    let collection = stand.collection(&scope).await.expect("collection");
    let (common, longest) = (Arc::<Mutex<Common>>::default(), Arc::default());
    let until = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client {
            stand: Arc::clone(&stands[usize::try_from(number % nodes).unwrap()]),
            scope: scope.clone(),
            collection: collection.clone(),
            number,
            chance: Chance(number + 100),
            common: Arc::clone(&common),
            longest: Arc::<Mutex<BTreeMap<&'static str, u128>>>::clone(&longest),
            own: BTreeMap::new(),
            next: 0,
        };
        clients.spawn(client.run(Arc::clone(&until)));
    }
    let maker = tokio::spawn(catalog(Arc::clone(&stand), scope.clone(), Arc::clone(&until)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let quiet = std::mem::take(&mut *longest.lock().unwrap());
    let mut pauses = Vec::new();
    for round in 0..ROUNDS {
        for to in ground.circle() {
            // Whichever node is asked: one of them moves it.
            let asked = &stands[round % stands.len()];
            let moved = tokio::time::timeout(Duration::from_secs(60), go(asked, "a", to));
            let Ok(status) = moved.await else {
                panic!("{round}: to {to:?}: {:?}", asked.store.moves(&asked.operator).await)
            };
            assert_eq!(status.phase, MovePhase::Done);
            pauses.push(status.longest_pause.as_micros());
            assert!(!clients.is_empty() && !maker.is_finished(), "a client failed in {round}");
        }
    }
    let delay = std::mem::take(&mut *longest.lock().unwrap());
    until.store(true, Ordering::SeqCst);
    let mut operations = 0;
    while let Some(client) = clients.join_next().await {
        operations += client.expect("a client");
    }
    let made = maker.await.expect("the catalog's client");
    println!(
        "{operations} operations, {made} collections; pauses {pauses:?} µs; longest operations in \
         ms {delay:?}, before {quiet:?}"
    );
    let records = all(&stand, &scope).await;
    assert_eq!(records.keys().filter(|id| id.starts_with('r')).count(), RECORDS);
    for (id, written) in &common.lock().unwrap().written {
        let (version, value) = written.last_key_value().expect("one");
        assert_eq!(records[id].version, *version);
        assert_eq!(whole_number(&records[id], "value"), *value);
    }
    let count = stand.store.count(&scope, &collection, &Selector::default()).await;
    assert_eq!(count.expect("count").value, records.len());
    stand.verify_audit(&scope).await;
    let id = scope.tenant();
    drop(stand);
    for stand in stands {
        Arc::into_inner(stand).expect("all are done").close();
    }
    ground.check(id, ground.circle()[ground.circle().len() - 1]).await;
    // From disk, as well.
    let stand = ground.open().await;
    assert_eq!(all(&stand, &scope).await, records);
    stand.close();
}
