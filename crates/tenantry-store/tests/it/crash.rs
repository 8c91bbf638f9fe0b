//! Kill -9: a child process works and reports what was acknowledged, is killed at any moment, and
//! what it leaves is opened and compared with its report.

use crate::{
    postgres::{
        Site,
        locations::{places, until},
    },
    stand::{
        Chance, Running, Stand, everything, ids, record, tenant, this_binary, verify_chain,
        whole_number,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    thread::sleep,
    time::Duration,
};
use tenantry_auth::{Admin, Scope, TenantId};
use tenantry_store::{CollectionRef, EmbeddedConfig, LocationConfig, postgres::DatabaseUrl};
use tenantry_types::{
    Error, ErrorKind, FieldTest, Filter, Isolation, QueryRequest, Record, Selector, WriteMode,
};

const FOLDER: &str = "TENANTRY_CRASH_FOLDER";
const SEED: &str = "TENANTRY_CRASH_SEED";
/// All tenants live among others: whoever looks only once after two lives must have heard of each.
const SHARED: &str = "TENANTRY_CRASH_SHARED";
/// URLs of the role that serves and of the admin of a location, with a space between them: tenants
/// are made there.
const LOCATION: &str = "TENANTRY_CRASH_LOCATION";
const ROUNDS: u64 = 60;
const ROUNDS_BESIDE: u64 = 20;
/// Rounds that go on with the folder of the one before.
const ROUNDS_PER_FOLDER: u64 = 12;
const WORKERS: u64 = 6;

/// Says something in one write, so that it is said whole or not at all.
fn say(line: &str) {
    let line = format!("{line}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
}

/// The child's side; returns at once when the test binary runs as usual.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let seed: u64 = std::env::var(SEED).expect("a seed").parse().expect("a seed");
    let location = std::env::var(LOCATION).ok();
    let config = config(Path::new(&folder), location.as_deref());
    let stand = Arc::new(Stand::try_open(config).await.expect("the store opens"));
    say("opened");
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let chance = Chance(seed * 1_000 + worker);
        let isolation = match worker {
            _ if std::env::var_os(SHARED).is_some() => Isolation::Shared,
            0 => Isolation::Database,
            1 | 2 => Isolation::Schema,
            _ => Isolation::Shared,
        };
        workers.spawn(work(Arc::clone(&stand), format!("tenant-{worker}"), isolation, chance));
    }
    while let Some(ended) = workers.join_next().await {
        ended.expect("a worker goes on until it is killed");
    }
}

fn config(folder: &Path, location: Option<&str>) -> EmbeddedConfig {
    let mut config = EmbeddedConfig::new(folder);
    config.open_databases = 2;
    if let Some((service, admin)) = location.and_then(|urls| urls.split_once(' ')) {
        let url = |text| DatabaseUrl::parse(text).expect("a URL");
        let name = tenantry_types::LocationName::parse("eu").expect("a name");
        let (url, admin_url) = (url(service), Some(url(admin)));
        config.databases.locations = vec![LocationConfig { name, url, admin_url }];
        config.databases.default_location = Some(name);
    }
    config
}

/// Deletes the tenant that an earlier round left under this name, makes it again, uses it, and so
/// on for ever.
async fn work(stand: Arc<Stand>, name: String, isolation: Isolation, mut chance: Chance) {
    loop {
        if let Some(old) = stand.store.find_tenant(&tenant(&name)).await.expect("find") {
            say(&format!("=t {name} {}", old.id));
            // Half of the old ones are kept under another name, for the later rounds to look at.
            if chance.below(2) == 0 {
                rename(&stand, &name, old.id, &mut chance).await;
            } else {
                say(&format!("?t {name} {}", old.id));
                stand.store.delete_tenant(&stand.operator, &old.name).await.expect("delete");
                say(&format!("-t {name} {}", old.id));
            }
        }
        let scope = stand.create_in(&name, isolation).await.expect("create");
        say(&format!("+t {name} {}", scope.tenant()));
        let collection = stand.collection(&scope).await.expect("collection");
        say(&format!("+c {}", scope.tenant()));
        let mut batches: Vec<(i64, u64)> = Vec::new();
        for _ in 0..chance.below(80) {
            step(&stand, &scope, &collection, &mut chance, &mut batches).await;
        }
    }
}

async fn rename(stand: &Stand, name: &str, id: TenantId, chance: &mut Chance) {
    let new = format!("kept-{:x}", chance.next());
    say(&format!("?n {id} {new}"));
    let change = tenantry_store::TenantChange { name: Some(tenant(&new)), ..Default::default() };
    stand.store.change_tenant(&stand.operator, &tenant(name), &change).await.expect("rename");
    say(&format!("+n {id} {new}"));
}

fn batch(tag: i64, size: u64, revision: i64) -> Vec<tenantry_types::RecordWrite> {
    let size_i = i64::try_from(size).expect("a small number");
    (0..size)
        .map(|n| {
            let facts = [("tag", tag), ("size", size_i), ("revision", revision)];
            record(&format!("{tag}-{n}"), vec![1.0, n as f32], &facts)
        })
        .collect()
}

async fn step(
    stand: &Stand,
    scope: &Scope<Admin>,
    collection: &CollectionRef,
    chance: &mut Chance,
    batches: &mut Vec<(i64, u64)>,
) {
    let id = scope.tenant();
    let upsert =
        async |records| stand.store.write(scope, collection, WriteMode::Upsert, records).await;
    match chance.below(10) {
        0 | 1 if !batches.is_empty() => {
            let (tag, size) = batches.swap_remove(chance.index(batches.len()));
            say(&format!("?d {id} {tag}"));
            let select = ids((0..size).map(|n| format!("{tag}-{n}")));
            stand.store.delete(scope, collection, &select, None).await.expect("delete");
            say(&format!("-d {id} {tag}"));
        }
        2 | 3 if !batches.is_empty() => {
            let (tag, size) = batches[chance.index(batches.len())];
            let revision = i64::try_from(chance.below(1 << 40)).expect("below") + 1;
            say(&format!("?u {id} {tag} {revision}"));
            upsert(batch(tag, size, revision)).await.expect("update");
            say(&format!("+u {id} {tag} {revision}"));
        }
        4 if batches.len() > 3 => {
            // Loads the partition, so that later writes change it in memory too.
            let got = stand.all(scope, collection).await.expect("get");
            let expected: u64 = batches.iter().map(|(_, size)| size).sum();
            assert_eq!(got.len() as u64, expected);
        }
        _ => {
            let tag = i64::try_from(chance.below(1 << 60)).expect("below");
            let size = 1 + chance.below(8);
            upsert(batch(tag, size, 0)).await.expect("write");
            batches.push((tag, size));
            say(&format!("+b {id} {tag} {size}"));
        }
    }
}

/// What must be, and what may be.
#[derive(Default)]
struct Model {
    tenants: BTreeMap<u64, Known>,
    /// Every id that was ever seen.
    ids: BTreeSet<u64>,
}

#[derive(Default)]
struct Known {
    names: Vec<String>,
    may_be_gone: bool,
    is_gone: bool,
    has_collection: bool,
    batches: HashMap<i64, Batch>,
}

struct Batch {
    size: i64,
    revisions: Vec<i64>,
    may_be_gone: bool,
    is_gone: bool,
}

impl Model {
    /// Takes over one line of the child's report.
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<i64>().expect("a number");
        let id = |at: usize| words[at].parse::<u64>().expect("an id");
        match words[0] {
            "+t" => {
                assert!(self.ids.insert(id(2)), "tenant id {} was given twice", id(2));
                let known = self.tenants.entry(id(2)).or_default();
                known.names = vec![words[1].to_owned()];
            }
            // Found, and perhaps made by a life that ended before it could say so.
            "=t" => {
                let (id, name) = (id(2), words[1].to_owned());
                self.ids.insert(id);
                let new = || Known { names: vec![name], ..Known::default() };
                let known = self.tenants.entry(id).or_insert_with(new);
                assert!(!known.is_gone, "tenant {id} came back");
            }
            "?t" => self.tenant(id(2)).may_be_gone = true,
            "-t" => self.tenant(id(2)).is_gone = true,
            "?n" => self.tenant(id(1)).names.push(words[2].to_owned()),
            "+n" => self.tenant(id(1)).names = vec![words[2].to_owned()],
            "+c" => self.tenant(id(1)).has_collection = true,
            "+b" => {
                let batch = Batch {
                    size: number(3),
                    revisions: vec![0],
                    may_be_gone: false,
                    is_gone: false,
                };
                self.tenant(id(1)).batches.insert(number(2), batch);
            }
            "?d" => self.batch(id(1), number(2)).may_be_gone = true,
            "-d" => self.batch(id(1), number(2)).is_gone = true,
            "?u" => self.batch(id(1), number(2)).revisions.push(number(3)),
            "+u" => self.batch(id(1), number(2)).revisions = vec![number(3)],
            // The test harness talks on the same pipe.
            _ => {}
        }
    }

    fn tenant(&mut self, id: u64) -> &mut Known {
        self.tenants.get_mut(&id).expect("a tenant that was made")
    }

    fn batch(&mut self, id: u64, tag: i64) -> &mut Batch {
        self.tenant(id).batches.get_mut(&tag).expect("a batch that was written")
    }

    /// What was acknowledged as erased is erased on disk, before anybody opens the store.
    fn check_slots(&self, folder: &Path) {
        let slots = std::fs::read(folder.join("slots")).unwrap_or_default();
        for (id, _) in self.tenants.iter().filter(|(_, known)| known.is_gone) {
            let at = usize::try_from(*id).expect("an index") * 128;
            let slot = &slots[at..at + 128];
            assert_eq!((&slot[..4], slot[4]), (b"TSL1".as_slice(), 2), "slot of {id}");
            assert!(slot[20..120].iter().all(|byte| *byte == 0), "the key of {id} is still there");
        }
    }

    /// Compares an opened store with what must be and may be, and takes over what is.
    async fn compare(&mut self, stand: &Stand) {
        let listed = stand.store.tenants(&stand.operator, None, usize::MAX).await.expect("list");
        let mut living: BTreeMap<u64, String> =
            listed.iter().map(|info| (info.id.get(), info.name.to_string())).collect();
        for (id, known) in &mut self.tenants {
            let name = living.remove(id);
            let by_id = stand.store.tenant_by_id(TenantId::new(*id)).await.expect("by id");
            assert_eq!(by_id.is_some(), name.is_some(), "tenant {id} by id and in the list");
            let Some(name) = name else {
                assert!(known.may_be_gone, "tenant {id} is lost");
                known.is_gone = true;
                continue;
            };
            assert!(!known.is_gone, "tenant {id} came back");
            assert!(known.names.contains(&name), "tenant {id} is called {name}");
            known.names = vec![name];
            known.may_be_gone = false;
        }
        for (id, name) in living {
            // Made, and killed before it could be said.
            assert!(self.ids.insert(id), "tenant id {id} was given twice");
            self.tenants.insert(id, Known { names: vec![name], ..Known::default() });
        }
        for (id, known) in self.tenants.iter_mut().filter(|(_, known)| !known.is_gone) {
            known.compare(stand, &stand.scope(TenantId::new(*id))).await;
        }
        let log = stand.store.operator_audit(&stand.operator, 0, usize::MAX).await;
        verify_chain(&log.expect("the operator's log"));
    }
}

impl Known {
    async fn compare(&mut self, stand: &Stand, scope: &Scope<Admin>) {
        assert!(stand.verify_audit(scope).await > 0);
        let database = stand.default_database(scope).await;
        let name = tenantry_types::CollectionName::parse("c").expect("a name");
        let collection = match stand.store.collection(scope, &database, &name).await {
            Ok(found) => found,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
                assert!(!self.has_collection, "the collection of {} is lost", scope.tenant());
                return;
            }
        };
        self.has_collection = true;
        let rows = stand.all(scope, &collection).await.expect("get");
        check_counts(stand, scope, &collection, rows.len()).await;
        let mut by_tag: BTreeMap<i64, Vec<&Record>> = BTreeMap::new();
        for row in &rows {
            by_tag.entry(whole_number(row, "tag")).or_default().push(row);
        }
        for (tag, batch) in &self.batches {
            let there = by_tag.contains_key(tag);
            assert!(there || batch.may_be_gone, "batch {tag} of {} is lost", scope.tenant());
            assert!(!there || !batch.is_gone, "batch {tag} of {} came back", scope.tenant());
        }
        let mut present = HashMap::new();
        for (tag, rows) in by_tag {
            let (size, revision) =
                (whole_number(rows[0], "size"), whole_number(rows[0], "revision"));
            assert_eq!(i64::try_from(rows.len()), Ok(size), "batch {tag} is half there");
            assert!(
                rows.iter().all(|row| whole_number(row, "revision") == revision
                    && row.version == rows[0].version
                    && row.vector.as_ref().is_some_and(|vector| vector.len() == 2)),
                "batch {tag} is half written: {rows:?}"
            );
            if let Some(known) = self.batches.get(&tag) {
                assert_eq!(known.size, size);
                assert!(known.revisions.contains(&revision), "batch {tag} is an old one");
            }
            let batch =
                Batch { size, revisions: vec![revision], may_be_gone: false, is_gone: false };
            present.insert(tag, batch);
        }
        self.batches = present;
    }
}

/// The stored count, a counted filter and a search all agree with what is there.
async fn check_counts(
    stand: &Stand,
    scope: &Scope<Admin>,
    collection: &CollectionRef,
    rows: usize,
) {
    let count = async |select: Selector| -> Result<usize, Error> {
        Ok(stand.store.count(scope, collection, &select).await?.value)
    };
    assert_eq!(count(Selector::default()).await.expect("count"), rows, "the stored count is wrong");
    let any = Filter::Field { key: "tag".into(), test: FieldTest::Exists(true) };
    let filtered = count(Selector { ids: None, filter: Some(any) }).await;
    assert_eq!(filtered.expect("count"), rows);
    let request = QueryRequest {
        using: None,
        vectors: vec![vec![1.0, 0.0]],
        k: rows + 1,
        select: Selector::default(),
        include: everything(),
        exact: false,
    };
    let hits = stand.store.query(scope, collection, &request).await.expect("query").value.hits;
    assert_eq!(hits[0].len(), rows, "a search finds every vector");
    let bytes: u64 = hits[0].iter().map(|hit| hit.record.logical_bytes()).sum();
    let kept = stand.store.holding(scope, false).await.expect("what is kept").stock;
    assert_eq!((kept.records, kept.bytes), (Some(rows as u64), Some(bytes)), "the stock is wrong");
}

/// Runs the child on `folder` and kills it after `life`; what it said, line by line.
fn run_and_kill(
    folder: &Path,
    seed: u64,
    life: Duration,
    are_shared: bool,
    location: Option<&str>,
) -> Vec<String> {
    let mut child = this_binary("crash::child_that_is_killed", FOLDER, folder);
    if are_shared {
        child.env(SHARED, "1");
    }
    if let Some(location) = location {
        child.env(LOCATION, location);
    }
    let child = child.env(SEED, seed.to_string()).stdout(Stdio::piped()).spawn();
    let mut child = Running(child.expect("start the child"));
    let pipe = child.0.stdout.take().expect("its output");
    let listener = std::thread::spawn(move || {
        let mut lines = Vec::new();
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = String::new();
            let bytes = pipe.read_line(&mut line).expect("read");
            if bytes == 0 || !line.ends_with('\n') {
                return lines;
            }
            lines.push(line.trim_end().to_owned());
        }
    });
    sleep(life);
    assert!(child.0.try_wait().expect("child").is_none(), "the child ended by itself");
    child.0.kill().expect("kill");
    child.0.wait().expect("child");
    listener.join().expect("listener")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let mut chance = Chance(20_261_121);
    let (mut acknowledged, mut erased) = (0, 0);
    let mut place: Option<(tempfile::TempDir, Model)> = None;
    for round in 0..ROUNDS {
        if round % ROUNDS_PER_FOLDER == 0 {
            place = Some((tempfile::tempdir().expect("a folder"), Model::default()));
        }
        let (folder, model) = place.as_mut().expect("made above");
        let path: PathBuf = folder.path().join("data");
        // The first life in a folder ends while the folder is being made, or soon after.
        let least = if round % ROUNDS_PER_FOLDER == 0 { 5 } else { 80 };
        let life = Duration::from_millis(least + chance.below(150));
        for line in run_and_kill(&path, round, life, false, None) {
            acknowledged += u64::from(line.starts_with(['+', '-']));
            model.hear(&line);
        }
        model.check_slots(&path);
        let stand = Stand::open(&path).await;
        model.compare(&stand).await;
        if round % ROUNDS_PER_FOLDER == 0 {
            // No life is long enough to make a bucket.
            stand.create_in("bucket", Isolation::Schema).await.expect("create");
        }
        stand.close();
        erased += model.tenants.values().filter(|known| known.is_gone).count();
    }
    assert!(acknowledged > 5 * ROUNDS, "only {acknowledged} operations were acknowledged");
    assert!(erased > 20, "only {erased} tenants were erased");
}

/// First starts that are cut short, many, because they have the most steps that need each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_was_killed_is_made_good() {
    let mut chance = Chance(7);
    for round in 0..16 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        let mut model = Model::default();
        for life in [2 + round * 2, 3 + chance.below(30)] {
            for line in run_and_kill(&path, round, Duration::from_millis(life), true, None) {
                model.hear(&line);
            }
        }
        let stand = Stand::open(&path).await;
        model.compare(&stand).await;
        stand.tenant_with_collection("after").await;
        stand.close();
    }
}

/// The same with all tenants at a location: what is in the files and what is in the database fit
/// together, whatever of both was committed last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_beside_files_by_kill_9() {
    let there = Site::new().await;
    let location = there.urls();
    let mut chance = Chance(20_261_128);
    let mut acknowledged = 0;
    let (folder, mut model) = (tempfile::tempdir().expect("a folder"), Model::default());
    let path = folder.path().join("data");
    for round in 0..ROUNDS_BESIDE {
        let life = Duration::from_millis(60 + chance.below(700));
        for line in run_and_kill(&path, round, life, false, Some(&location)) {
            acknowledged += u64::from(line.starts_with(['+', '-']));
            model.hear(&line);
        }
        model.check_slots(&path);
        let stand = Stand::try_open(config(&path, Some(&location))).await.expect("the store");
        model.compare(&stand).await;
        stand.close();
    }
    assert!(acknowledged > 5 * ROUNDS_BESIDE, "only {acknowledged} were acknowledged");
    let stand = Stand::try_open(config(&path, Some(&location))).await.expect("the store");
    for info in stand.store.tenants(&stand.operator, None, usize::MAX).await.expect("list") {
        stand.store.delete_tenant(&stand.operator, &info.name).await.expect("delete");
    }
    until("all is removed", async || {
        stand.store.leftovers(&stand.operator).await.expect("a list").is_empty()
    })
    .await;
    let rows = "SELECT count(*) FROM tenantry.catalog WHERE tenant > 0";
    assert_eq!((there.ask(rows).await, there.ask(&places(&there)).await), (0, 0));
    stand.close();
}
