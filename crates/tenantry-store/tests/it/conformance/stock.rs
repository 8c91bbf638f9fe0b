//! What tenants keep, in bytes. Each case gets a store of its own, in which older programs are kept out.

use super::{UPSERT, World, cases::join_all, id, only, record, spec};
use std::collections::BTreeMap;
use tenantry_auth::{Admin, Scope, TenantId};
use tenantry_store::{Census, CollectionRef, DatabaseRef, Stock, TenantChange, UsagePage};
use tenantry_types::{
    Allowance, Amount, CollectionSpec, DatabaseName, ErrorKind, Every, FieldTest, Filter, Meter,
    Missing, PlanName, QueryRequest, Quotas, RecordWrite, Selector, TenantName, TenantPlan, Term,
    TextTest, Value, VectorName, VectorSpec, WriteMode,
};

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % n
    }
}

/// What a record has, written down again.
#[derive(Debug, Clone, Default)]
struct Has {
    document: Option<String>,
    uri: Option<String>,
    metadata: BTreeMap<String, Value>,
    vectors: BTreeMap<String, usize>,
}

impl Has {
    fn bytes(&self, id: &str) -> u64 {
        let value = |value: &Value| match value {
            Value::Bool(_) => 1,
            Value::Int(_) | Value::Float(_) => 8,
            Value::Str(text) => text.len(),
            Value::List(all) => 8 * all.len(),
        };
        let metadata: usize = self.metadata.iter().map(|(key, one)| key.len() + value(one)).sum();
        let texts = [&self.document, &self.uri].into_iter().flatten().map(String::len);
        let vectors: usize = self.vectors.values().sum();
        (id.len() + texts.sum::<usize>() + metadata + 4 * vectors) as u64
    }

    fn take(&mut self, write: &RecordWrite) {
        self.document = write.document.clone().or(self.document.take());
        self.uri = write.uri.clone().or(self.uri.take());
        for (key, value) in &write.metadata {
            match value {
                Some(value) => self.metadata.insert(key.clone(), value.clone()),
                None => self.metadata.remove(key),
            };
        }
        self.vectors.extend(write.vector.iter().map(|vector| (String::new(), vector.len())));
        let named = write.vectors.iter().map(|(name, vector)| (name.to_string(), vector.len()));
        self.vectors.extend(named);
    }
}

type Model = BTreeMap<String, Has>;

fn sum(model: &Model) -> u64 {
    model.iter().map(|(id, has)| has.bytes(id)).sum()
}

fn named_spec(name: &str) -> CollectionSpec {
    let vectors = ["a", "b"].map(|name| (VectorName::parse(name).unwrap(), VectorSpec::default()));
    CollectionSpec { vectors: vectors.into(), ..spec(name) }
}

/// Something to write, of which each part may be missing.
fn some_record(dice: &mut Dice) -> RecordWrite {
    let mut write = RecordWrite::new(id(&format!("r{}", dice.below(24))));
    let text = |dice: &mut Dice| "x".repeat(usize::try_from(dice.below(40)).unwrap());
    if dice.below(2) == 0 {
        write.document = Some(text(dice));
    }
    if dice.below(3) == 0 {
        write.uri = Some(text(dice));
    }
    let values = [
        Some(Value::Bool(true)),
        Some(Value::Int(dice.below(9).cast_signed())),
        Some(Value::Str(text(dice))),
        Some(Value::List(vec![Value::Float(0.5); 3])),
        None,
    ];
    for value in values {
        if dice.below(3) == 0 {
            // Also the key under which PostgreSQL has what a record takes.
            let keys = ["n", "key", "\u{1}", ""];
            let key = keys[usize::try_from(dice.below(4)).unwrap()];
            write.metadata.insert(key.to_owned(), value);
        }
    }
    if dice.below(2) == 0 {
        write.vector = Some(vec![0.5; 5]);
    }
    for (name, dimension) in [("a", 2), ("b", 7)] {
        if dice.below(3) == 0 {
            write.vectors.insert(VectorName::parse(name).unwrap(), vec![1.0; dimension]);
        }
    }
    write
}

async fn kept(w: &World<'_>, scope: &Scope<Admin>) -> Stock {
    w.store.holding(scope, false).await.unwrap().stock
}

async fn delete(
    w: &World<'_>,
    (scope, c): (&Scope<Admin>, &CollectionRef),
    model: &mut Model,
    dice: &mut Dice,
) {
    let (ids, least) = ([dice.below(24), dice.below(24), dice.below(24)], dice.below(9));
    let ids: Vec<String> = ids.iter().map(|n| format!("r{n}")).collect();
    let by_ids = only(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let number =
        Filter::Field { key: "n".into(), test: FieldTest::Gte(Value::Int(least.cast_signed())) };
    let passes = |has: &Has| matches!(has.metadata.get("n"), Some(Value::Int(n)) if *n >= least.cast_signed());
    let text = Filter::Text(TextTest::Contains("x".repeat(30)));
    let has_text = |has: &Has| has.document.as_ref().is_some_and(|text| text.len() >= 30);
    let select = match dice.below(4) {
        0 => {
            model.retain(|id, has| !(passes(has) && ids.contains(id)));
            Selector { filter: Some(number), ..by_ids }
        }
        1 => {
            model.retain(|_, has| !passes(has));
            Selector { ids: None, filter: Some(number) }
        }
        2 => {
            model.retain(|_, has| !has_text(has));
            Selector { ids: None, filter: Some(text) }
        }
        _ => {
            model.retain(|id, _| !ids.contains(id));
            by_ids
        }
    };
    w.store.delete(scope, c, &select, None).await.unwrap();
}

async fn write(
    w: &World<'_>,
    (scope, c): (&Scope<Admin>, &CollectionRef),
    model: &mut Model,
    dice: &mut Dice,
) {
    let mut batch: BTreeMap<String, RecordWrite> = BTreeMap::new();
    for _ in 0..=dice.below(6) {
        let one = some_record(dice);
        batch.insert(one.id.to_string(), one);
    }
    let mode = match dice.below(3) {
        0 => WriteMode::Update(Missing::Skip),
        1 => WriteMode::Add(tenantry_types::Existing::Skip),
        _ => UPSERT,
    };
    w.store.write(scope, c, mode, batch.values().cloned().collect()).await.unwrap();
    for (id, one) in batch {
        let there = model.contains_key(&id);
        match mode {
            WriteMode::Update(_) if !there => {}
            WriteMode::Add(_) if there => {}
            _ => model.entry(id).or_default().take(&one),
        }
    }
}

pub(super) async fn the_stock_is_the_sum_of_what_is_there(w: &World<'_>) {
    let scope = w.tenant("t").await;
    assert_eq!(kept(w, &scope).await, Stock { records: Some(0), bytes: Some(0) });
    let home = w.database(&scope).await;
    let make = async |database: &DatabaseRef, name: &str| {
        let made = w.store.create_collection(&scope, database, &named_spec(name), false).await;
        made.unwrap().0
    };
    let other = DatabaseName::parse("other").unwrap();
    let second = w.store.create_database(&scope, &other).await.unwrap();
    let mut all: BTreeMap<usize, (CollectionRef, Model)> = BTreeMap::new();
    let mut dice = Dice(7);
    for round in 0..120 {
        let at = usize::try_from(dice.below(3)).unwrap();
        if let std::collections::btree_map::Entry::Vacant(entry) = all.entry(at) {
            let database = if at == 2 { &second } else { &home };
            entry.insert((make(database, &format!("c{at}")).await, Model::new()));
        }
        let (c, model) = all.get_mut(&at).unwrap();
        match dice.below(12) {
            0 => {
                w.store.delete_collection(&scope, c).await.unwrap();
                all.remove(&at);
            }
            1..=3 => delete(w, (&scope, c), model, &mut dice).await,
            _ => write(w, (&scope, c), model, &mut dice).await,
        }
        if round % 10 == 9 {
            // From there on it is found in memory, where there is such a thing.
            if let Some((c, _)) = all.values().next() {
                let vectors = vec![vec![0.5; 5]];
                let request = QueryRequest { vectors, ..super::nearest([0.0; 2], 1) };
                w.store.query(&scope, c, &request).await.ok();
            }
        }
        let records = all.values().map(|(_, model)| model.len() as u64).sum();
        let bytes = all.values().map(|(_, model)| sum(model)).sum();
        let want = Stock { records: Some(records), bytes: Some(bytes) };
        assert_eq!(kept(w, &scope).await, want, "{round}");
    }
    let name = TenantName::parse("t").unwrap();
    let sizes = w.store.tenant_sizes(&w.operator, &name).await.unwrap().1.unwrap();
    assert_eq!(sizes.bytes(), kept(w, &scope).await.bytes);
    w.store.delete_database(&scope, &other).await.unwrap();
    all.remove(&2);
    let bytes = all.values().map(|(_, model)| sum(model)).sum();
    assert_eq!(kept(w, &scope).await.bytes, Some(bytes));
}

pub(super) async fn bytes_that_are_kept_count_over_time(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    w.store.write(&scope, &c, UPSERT, vec![record("r", 1.0, &[])]).await.unwrap();
    let kept_bytes = u128::from(kept(w, &scope).await.bytes.unwrap());
    assert_eq!(kept_bytes, 1 + 9 + 8);
    tokio::time::sleep(std::time::Duration::from_millis(40)).await;
    w.store.write(&scope, &c, UPSERT, vec![record("r", 2.0, &[])]).await.unwrap();
    let page = UsagePage { every: Every::Month, from: 0, limit: 10 };
    let used = w.store.usage(&scope, page).await.unwrap();
    let total = |meter| used.iter().map(|one| one.amounts.get(meter)).sum::<u128>();
    assert!(total(Meter::RecordMillis) >= 40);
    assert_eq!(total(Meter::ByteMillis), kept_bytes * total(Meter::RecordMillis));
}

async fn limit(w: &World<'_>, quotas: Quotas) {
    let allowance = Allowance { quotas, ..Allowance::default() };
    let name = PlanName::parse("small").unwrap();
    let plan = TenantPlan::new(name.clone(), allowance);
    w.store.put_plan(&w.operator, &plan).await.unwrap();
    let change = TenantChange { plan: Some(Some(name)), ..TenantChange::default() };
    w.store.change_tenant(&w.operator, &TenantName::parse("t").unwrap(), &change).await.unwrap();
}

fn bytes(most: u64) -> Quotas {
    Quotas { bytes: Some(most), ..Quotas::default() }
}

fn records(most: u64) -> Quotas {
    Quotas { records: Some(most), ..Quotas::default() }
}

/// Each record has an id of 3 bytes, a text of 11 and 2 components.
const ONE: u64 = 3 + 11 + 8;

pub(super) async fn a_quota_of_bytes_is_never_passed(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    limit(w, bytes(20 * ONE)).await;
    let write = async |n: usize| {
        w.store.write(&scope, &c, UPSERT, vec![record(&format!("r{n:02}"), 1.0, &[])]).await
    };
    let refused = std::cell::RefCell::new(Vec::new());
    let all = (0..64).map(async |n| {
        if let Err(error) = write(n).await {
            refused.borrow_mut().push(error);
        }
    });
    join_all(all.collect()).await;
    let refused = refused.into_inner();
    assert_eq!(refused.len(), 44);
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.public_message().contains("may keep 440 bytes"), "{error}");
    }
    assert_eq!(kept(w, &scope).await, Stock { records: Some(20), bytes: Some(20 * ONE) });
    // What a record becomes larger by counts, too.
    let first = w.ids(&scope, &c).await[0].clone();
    let longer = RecordWrite { uri: Some("u".into()), ..RecordWrite::new(id(&first)) };
    let why = w.store.write(&scope, &c, UPSERT, vec![longer]).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::LimitExceeded);
}

pub(super) async fn whoever_keeps_too_much_can_keep_less(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let records = (0..4).map(|n| record(&format!("r{n:02}"), 1.0, &[])).collect();
    w.store.write(&scope, &c, UPSERT, records).await.unwrap();
    limit(w, bytes(ONE)).await;
    let shorter = RecordWrite { document: Some(String::new()), ..record("r00", 1.0, &[]) };
    w.store.write(&scope, &c, UPSERT, vec![shorter]).await.unwrap();
    assert_eq!(w.store.delete(&scope, &c, &only(&["r01"]), None).await.unwrap(), 1);
    let same = record("r02", 2.0, &[]);
    w.store.write(&scope, &c, UPSERT, vec![same]).await.unwrap();
    let more = record("r04", 1.0, &[]);
    let why = w.store.write(&scope, &c, UPSERT, vec![more.clone()]).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::LimitExceeded);
    w.store.delete(&scope, &c, &Selector::default(), None).await.unwrap();
    assert_eq!(kept(w, &scope).await, Stock { records: Some(0), bytes: Some(0) });
    w.store.write(&scope, &c, UPSERT, vec![more]).await.unwrap();
}

pub(super) async fn a_quota_of_records_is_never_passed(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let database = w.database(&scope).await;
    let made = w.store.create_collection(&scope, &database, &spec("d"), false).await;
    let both = [c, made.unwrap().0];
    limit(w, records(20)).await;
    let refused = std::cell::RefCell::new(Vec::new());
    let all = (0..64).map(async |n: usize| {
        let one = vec![record(&format!("r{n:02}"), 1.0, &[])];
        if let Err(error) = w.store.write(&scope, &both[n % 2], UPSERT, one).await {
            refused.borrow_mut().push(error);
        }
    });
    join_all(all.collect()).await;
    let refused = refused.into_inner();
    assert_eq!(refused.len(), 44);
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        let says =
            "this tenant may keep 20 records in all collections; with these it would be more";
        assert_eq!(error.public_message(), says);
    }
    assert_eq!(kept(w, &scope).await.records, Some(20));
    let mut found = 0;
    for collection in &both {
        found += w.ids(&scope, collection).await.len();
    }
    assert_eq!(found, 20);
}

pub(super) async fn records_are_limited_in_all_collections_together(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let database = w.database(&scope).await;
    let made = w.store.create_collection(&scope, &database, &spec("d"), false).await;
    let d = made.unwrap().0;
    let write = async |to: &CollectionRef, ids: &[&str]| {
        let all = ids.iter().map(|id| record(id, 1.0, &[])).collect();
        w.store.write(&scope, to, UPSERT, all).await.map(drop).map_err(|why| why.kind())
    };
    let full = Err(ErrorKind::LimitExceeded);
    write(&c, &["a", "b"]).await.unwrap();
    write(&d, &["a"]).await.unwrap();
    limit(w, records(2)).await;
    // What is there stays and is changed, and a batch is refused whole.
    assert_eq!(write(&d, &["a"]).await, Ok(()));
    assert_eq!(write(&d, &["a", "b"]).await, full);
    assert_eq!(w.store.delete(&scope, &c, &only(&["a"]), None).await.unwrap(), 1);
    assert_eq!(write(&d, &["b"]).await, full);
    assert_eq!(w.store.delete(&scope, &c, &only(&["b"]), None).await.unwrap(), 1);
    assert_eq!(write(&c, &["b", "c"]).await, full);
    assert_eq!(write(&c, &["c"]).await, Ok(()));
    // An exception is more, or any number.
    let name = TenantName::parse("t").unwrap();
    let mut more = TenantChange::default();
    more.except.make(Term::Records, Amount::of(3), None).unwrap();
    w.store.change_tenant(&w.operator, &name, &more).await.unwrap();
    assert_eq!(write(&d, &["b"]).await, Ok(()));
    assert_eq!(write(&c, &["d"]).await, full);
    more.except.make(Term::Records, Amount::default(), None).unwrap();
    w.store.change_tenant(&w.operator, &name, &more).await.unwrap();
    assert_eq!(write(&c, &["d"]).await, Ok(()));
    more.except.end(Term::Records);
    w.store.change_tenant(&w.operator, &name, &more).await.unwrap();
    assert_eq!(write(&c, &["e"]).await, full);
    // What goes with its collection makes room.
    w.store.delete_collection(&scope, &c).await.unwrap();
    assert_eq!(write(&d, &["c"]).await, full);
    assert_eq!(w.store.delete(&scope, &d, &only(&["a"]), None).await.unwrap(), 1);
    assert_eq!(write(&d, &["c"]).await, Ok(()));
    assert_eq!(kept(w, &scope).await.records, Some(2));
}

async fn counted(w: &World<'_>, apart: &[TenantId]) -> Census {
    let system = w.authority.system("count what tenants keep in tests");
    let mut census = Census::new(apart, (None, None));
    while !w.store.count_on(&system, &mut census).await.unwrap() {}
    census
}

pub(super) async fn the_total_is_what_living_tenants_keep(w: &World<'_>) {
    let before = counted(w, &[]).await;
    let (first, c) = w.collection("t").await;
    let (second, d) = w.collection("u").await;
    let system = w.authority.system("add up what tenants keep in tests");
    let records = |n: usize| (0..n).map(|n| record(&format!("r{n:02}"), 1.0, &[])).collect();
    let add_up = async || {
        for scope in [&first, &second] {
            w.store.collect_usage(&system, scope.tenant()).await.unwrap();
        }
    };
    w.store.write(&first, &c, UPSERT, records(3)).await.unwrap();
    w.store.write(&second, &d, UPSERT, records(5)).await.unwrap();
    // As it was added up last, which for new tenants is when they were made.
    let census = counted(w, &[]).await;
    assert_eq!((census.total, census.uncounted), (before.total, before.uncounted));
    add_up().await;
    let have = |census: &Census, n: u64| {
        assert_eq!(census.total.records - before.total.records, n);
        assert_eq!(census.total.bytes - before.total.bytes, n * ONE);
        assert_eq!(census.uncounted, before.uncounted);
    };
    let census = counted(w, &[second.tenant()]).await;
    have(&census, 8);
    assert_eq!(census.apart[&second.tenant()].records, 5);
    assert_eq!(census.others(&[second.tenant()]).records - before.total.records, 3);
    assert_eq!(w.store.delete(&second, &d, &only(&["r00"]), None).await.unwrap(), 1);
    add_up().await;
    have(&counted(w, &[]).await, 7);
    // What is collected again is not counted again.
    add_up().await;
    have(&counted(w, &[]).await, 7);
    w.store.delete_tenant(&w.operator, &TenantName::parse("t").unwrap()).await.unwrap();
    have(&counted(w, &[]).await, 4);
}
