//! Non-interference: what a tenant sees does not depend on what its neighbours do.
//!
//! One seeded run of tenant A is recorded byte by byte: every answer, with ids, versions,
//! distances, errors, and at the end keys and audit log. The record must be the
//! same when the run is repeated, and the same while neighbours write, search, fail, come and go
//! in a memory budget that is far too small for all.
//!
//! Time and randomness are the test's. Random bytes are drawn by purpose, each purpose counting on
//! its own, and the store names the tenant in the purpose of a key's bytes; so a neighbour's draws
//! shift none of A's. A's data key is an installation-wide draw: A is made first.

use crate::support::*;
use std::{
    collections::HashMap,
    fmt::{Debug, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tenantry_engine::*;
use tokio::task::JoinSet;

const STEPS: u64 = 300;
const SEED: u64 = 0x7e4a_0001;

/// A small generator (SplitMix64): good enough to choose operations.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn size(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.size(from.len())].clone()
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..8).map(|_| f32::from(u8::try_from(self.below(256)).unwrap()) / 16.0).collect()
    }
}

/// Random bytes from a seed, drawn by purpose.
#[derive(Debug)]
struct SeededEntropy(Mutex<HashMap<String, u64>>);

impl Entropy for SeededEntropy {
    fn fill(&self, purpose: &str, buffer: &mut [u8]) {
        let mut drawn = self.0.lock().unwrap();
        let count = drawn.entry(purpose.to_owned()).or_insert(0);
        *count += 1;
        let name =
            purpose.bytes().fold(SEED, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let mut dice = Dice(name ^ Dice(*count).next());
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&dice.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// One tenant's random work. Everything it is told goes into the record.
struct Actor {
    engine: Engine,
    token: String,
    dice: Dice,
    record: String,
    keys: Vec<KeyId>,
    /// The token of a key that is bound to a filter.
    bound: String,
}

impl Actor {
    async fn new(world: &World, name: &str, seed: u64) -> Self {
        let token = world.tenant(name).await;
        let bound = world.key(name, bound_key(Role::Write, is("odd", Value::Bool(true)))).await;
        let engine = world.engine.clone();
        Self { engine, token, dice: Dice(seed), record: String::new(), keys: Vec::new(), bound }
    }

    fn note(&mut self, what: &str, answer: &impl Debug) {
        writeln!(self.record, "{what} → {answer:?}").unwrap();
    }

    async fn database(&self) -> Database<Write> {
        let who = self.engine.authenticate(Some(&self.token)).await.unwrap();
        let session = self.engine.session::<Write>(&who, Select::Own).await.unwrap();
        session.database(&DatabaseName::default_database()).await.unwrap()
    }

    async fn session(&self) -> Session<Admin> {
        let who = self.engine.authenticate(Some(&self.token)).await.unwrap();
        self.engine.session(&who, Select::Own).await.unwrap()
    }

    /// One of four collections, made if it is not there; sometimes (`true`) through the bound key.
    async fn collection(&mut self) -> (Collection<Write>, bool) {
        let name = format!("c{}", self.dice.below(4));
        let (c, new) = self.database().await.create_collection(&spec(&name), true).await.unwrap();
        self.note("open", &(c.info(), new));
        if self.dice.below(4) > 0 {
            return (c, false);
        }
        let who = self.engine.authenticate(Some(&self.bound)).await.unwrap();
        let session = self.engine.session::<Write>(&who, Select::Own).await.unwrap();
        let db = session.database(&DatabaseName::default_database()).await.unwrap();
        (db.collection(&collection(&name)).await.unwrap(), true)
    }

    fn filter(&mut self) -> Filter {
        let n = Value::Int(i64::try_from(self.dice.below(10)).unwrap());
        let filters = [
            test("n", FieldTest::Lt(n.clone())),
            test("n", FieldTest::NotIn(vec![n.clone(), Value::Int(3)])),
            is("odd", Value::Bool(false)),
            Filter::Text(TextTest::Regex("[aeiou]".into())),
            Filter::Not(Box::new(is("n", n))),
            Filter::And(Vec::new()),
        ];
        self.dice.pick(&filters)
    }

    fn select(&mut self) -> Selector {
        let ids = (self.dice.below(3) == 0)
            .then(|| (0..10).map(|_| id(&format!("r{}", self.dice.below(100)))).collect());
        let filter = (self.dice.below(2) == 0).then(|| self.filter());
        Selector { ids, filter }
    }

    fn batch(&mut self) -> Vec<RecordWrite> {
        let first = self.dice.below(100);
        let count = 1 + self.dice.below(20);
        let mut batch = Vec::new();
        for n in first..first + count {
            let mut record = write(&format!("r{}", n % 100)).set("odd", Value::Bool(n % 2 == 1));
            if self.dice.below(8) > 0 {
                record = record.vector(&self.dice.vector());
            }
            if self.dice.below(3) == 0 {
                record = record.text(&format!("text {:x}", self.dice.next()));
            }
            let n = i64::try_from(self.dice.below(10)).unwrap();
            record = if n == 0 { record.unset("n") } else { record.set("n", Value::Int(n)) };
            batch.push(record);
        }
        batch
    }

    async fn write_or_delete(&mut self) {
        use WriteMode::{Add, Update, Upsert};
        let (c, bound) = self.collection().await;
        if self.dice.below(4) == 0 {
            let (select, limit) = (self.select(), self.dice.pick(&[None, Some(3)]));
            let deleted = c.delete(&select, limit).await;
            return self.note("delete", &deleted);
        }
        let mode = self.dice.pick(&[
            Upsert,
            Upsert,
            Add(Existing::Skip),
            Add(Existing::Fail),
            Update(Missing::Skip),
            Update(Missing::Fail),
        ]);
        let mut batch = self.batch();
        if bound {
            // A refusal for a missing right would be noted in the audit log when the second is
            // over. Nothing else in the log has a place that depends on real time.
            batch.retain(|r| r.metadata["odd"] == Some(Value::Bool(true)));
        }
        let outcome = c.write(mode, batch).await;
        self.note(&format!("{mode:?}"), &outcome);
    }

    async fn read(&mut self) {
        let (c, _) = self.collection().await;
        let include = self.dice.pick(&[ALL, Include::default()]);
        let page = Page { limit: self.dice.pick(&[None, Some(7)]), offset: self.dice.size(5) };
        let order = self.dice.pick(&[
            Order::Insertion,
            Order::Id,
            Order::Key { key: "n".into(), descending: true },
        ]);
        let get = GetRequest { select: self.select(), order, page, include };
        let records = c.get(&get).await;
        self.note("get", &records);
        let vectors = (0..self.dice.size(3)).map(|_| self.dice.vector()).collect();
        let k = self.dice.size(12);
        let select = self.select();
        let search = QueryRequest { vectors, k, select, include, ..QueryRequest::default() };
        let hits = c.query(&search).await;
        self.note("query", &hits);
        let filter = self.filter();
        let counts = (c.count(None).await, c.count(Some(&filter)).await);
        self.note("count", &counts);
    }

    async fn arrange(&mut self) {
        let db = self.database().await;
        let name = collection(&format!("c{}", self.dice.below(4)));
        match self.dice.below(6) {
            0 => {
                let outcome = match db.collection(&name).await {
                    Ok(c) => c.remove().await,
                    Err(error) => Err(error),
                };
                self.note("remove", &outcome);
            }
            1 => {
                let to = collection(&format!("c{}", self.dice.below(4)));
                let change = CollectionChange { name: Some(to), ..CollectionChange::default() };
                let outcome = match db.collection(&name).await {
                    Ok(c) => c.change(&change).await.map(|c| c.info().clone()),
                    Err(error) => Err(error),
                };
                self.note("rename", &outcome);
            }
            2 => {
                let found = db.collections(Page::default()).await.unwrap();
                let infos: Vec<_> = found.iter().map(Collection::info).collect();
                writeln!(self.record, "list → {infos:?}").unwrap();
            }
            3 => {
                let made = self.session().await.create_key(new_key(Role::Read)).await.unwrap();
                self.keys.push(made.0.id);
                self.note("key", &made);
            }
            4 => {
                let Some(key) = self.keys.pop() else { return };
                let outcome = self.session().await.revoke_key(key).await;
                self.note("revoke", &outcome);
            }
            _ => {
                let session = self.session().await;
                let name = database("d");
                let made = session.create_database(&name).await.map(|made| made.info().clone());
                if made.is_err() {
                    session.delete_database(&name).await.unwrap();
                }
                self.note("database", &made);
            }
        }
    }

    async fn step(&mut self) {
        match self.dice.below(10) {
            0..=3 => self.write_or_delete().await,
            4..=7 => self.read().await,
            _ => self.arrange().await,
        }
    }
}

/// Works until it is told to stop, as fast as it can, and does what neighbours should not.
async fn be_busy(mut actor: Actor, stop: Arc<AtomicBool>) {
    let who = actor.engine.authenticate(Some(&actor.token)).await.unwrap();
    let bulk = actor.database().await.create_collection(&spec("bulk"), true).await.unwrap().0;
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        actor.step().await;
        actor.record.clear();
        let attempt = actor.engine.session::<Admin>(&who, Select::Named(&tenant("a"))).await;
        assert_eq!(kind(attempt), ErrorKind::NotFound);
        let batch = (0..50).map(|n| write(&format!("{}", (round * 50 + n) % 1_000)));
        let batch = batch.map(|r| r.vector(&actor.dice.vector()).text("bulk")).collect();
        bulk.write(WriteMode::Upsert, batch).await.unwrap();
        // A collection that outgrew the budget is refused to its own tenant only.
        let _ = bulk.query(&query(&[0.0; 8], 10)).await;
        round += 1;
    }
}

/// Tenants that come and go.
async fn come_and_go(world: Arc<World>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let key = world.tenant("passing").await;
        world.collection(&key, "c").await.write(WriteMode::Upsert, vec![write("r")]).await.unwrap();
        world.operator().delete_tenant(&tenant("passing")).await.unwrap();
    }
}

/// Runs A's work; the record of it, and how often a partition was dropped from memory.
async fn run(neighbours: u64) -> (String, StoreTotals) {
    let world = World::with(|config| {
        config.memory_budget_bytes = 200 << 10;
        config.entropy = Arc::new(SeededEntropy(Mutex::default()));
    });
    let world = Arc::new(world.await);
    let mut a = Actor::new(&world, "a", SEED).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = JoinSet::new();
    for n in 0..neighbours {
        let actor = Actor::new(&world, &format!("b{n}"), n).await;
        running.spawn(be_busy(actor, Arc::clone(&stop)));
    }
    if neighbours > 0 {
        running.spawn(come_and_go(Arc::clone(&world), Arc::clone(&stop)));
    }
    for step in 1..=STEPS {
        world.clock.set(START + step);
        a.step().await;
    }
    stop.store(true, Ordering::Relaxed);
    running.join_all().await;
    let session = a.session().await;
    let (tenant, keys) = (session.tenant().clone(), session.keys().await.unwrap());
    // An operator's entry is summed up and written once a second of real time: that it is there
    // is certain, where it stands is not, and the hashes after it follow from that.
    let mut log: Vec<(Timestamp, AuditEvent)> =
        session.audit(0, 10_000).await.unwrap().into_iter().map(|e| (e.at, e.event)).collect();
    log.retain(|(_, event)| event.action != "operator.act_as");
    a.note("tenant", &tenant);
    a.note("keys", &keys);
    a.note("audit", &log);
    let totals = world.engine.totals().store;
    (a.record, totals)
}

fn assert_same(one: &str, two: &str, what: &str) {
    let Some(at) = one.bytes().zip(two.bytes()).position(|(a, b)| a != b) else {
        return assert_eq!(one.len(), two.len(), "{what}: one record ends early");
    };
    let near = |text: &str| {
        String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(300)..])
            .chars()
            .take(600)
            .collect::<String>()
    };
    panic!("{what}: the records differ at byte {at}:\n{}\n---\n{}", near(one), near(two));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_sees_the_same_with_and_without_neighbours() {
    let (alone, quiet) = run(0).await;
    assert!(alone.lines().count() > 500, "{}", alone.lines().count());
    for happened in ["get → Ok([R", "query → Ok([[H", "key → ", "remove → Ok", "rename → Ok"]
    {
        assert!(alone.contains(happened), "{happened} never happened");
    }
    assert!(!alone.contains("Internal") && !alone.contains("Corrupt"));
    let (again, _) = run(0).await;
    assert_same(&alone, &again, "repeated");
    let (beside, busy) = run(3).await;
    assert_same(&alone, &beside, "beside busy neighbours");
    let dropped = (quiet.evictions, busy.evictions);
    assert!(busy.evictions > quiet.evictions + 20, "too little memory pressure: {dropped:?}");
}
