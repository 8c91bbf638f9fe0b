//! Saved indexes: used when they are those of the records, refused when they are anything else,
//! and gone with what they were made from.

use crate::stand::{Chance, Stand, everything, ids, record, spec, tenant};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Scope};
use tenantry_store::{CollectionRef, EmbeddedConfig};
use tenantry_types::{Found, Metric, QueryRequest, SearchPlan, Selector, WriteMode};

const DIMENSION: u16 = 24;
const RECORDS: u16 = 400;

fn config(folder: &Path) -> EmbeddedConfig {
    let mut config = EmbeddedConfig::new(folder);
    config.saved.records_min = 100;
    config.saved.quiet = Duration::ZERO;
    config.saved.free_min = 0;
    config.saved.close_within = Duration::from_secs(20);
    config
}

async fn open(folder: &Path) -> Stand {
    Stand::try_open(config(folder)).await.expect("the store opens")
}

fn vector(n: u16) -> Vec<f32> {
    let mut chance = Chance(u64::from(n) * 7_919);
    let centre = f32::from(n % 7);
    let one = |_| centre + f32::from(u16::try_from(chance.below(2_000)).expect("small")) / 1_000.0;
    (0..DIMENSION).map(one).collect()
}

async fn fill(stand: &Stand, scope: &Scope<Admin>, c: &CollectionRef, numbers: &[u16], by: u16) {
    for part in numbers.chunks(500) {
        let one = |n: &u16| record(&n.to_string(), vector(n + by), &[("n", i64::from(*n))]);
        let batch = part.iter().map(one).collect();
        stand.store.write(scope, c, WriteMode::Upsert, batch).await.expect("write");
    }
}

async fn query(stand: &Stand, scope: &Scope<Admin>, c: &CollectionRef, of: &[u16]) -> Found {
    let request = QueryRequest {
        vectors: of.iter().map(|n| vector(*n)).collect(),
        k: 10,
        select: Selector { ids: None, filter: None },
        include: everything(),
        exact: false,
        using: None,
    };
    stand.store.query(scope, c, &request).await.expect("query").value
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until so many files were written since the store was opened.
async fn written(stand: &Stand, files: u64) {
    until("written", async || stand.store.totals().saved_written >= files).await;
}

/// Waits until a collection is in memory.
async fn hot(stand: &Stand, scope: &Scope<Admin>, c: &CollectionRef) {
    until("in memory", async || {
        let found = stand.store.collection_statistics(scope, c).await.expect("statistics");
        found.value.memory.is_some()
    })
    .await;
}

/// All files below the folder of saved ones.
fn files(folder: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let mut all: Vec<PathBuf> =
        list(&folder.join("saved")).iter().flat_map(|folder| list(folder)).collect();
    all.sort();
    all
}

/// A closed folder with a tenant `a` whose collection has a saved file, and what queries of all
/// vectors of `of` found in memory.
async fn folder(of: &[u16]) -> (tempfile::TempDir, Found) {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = open(dir.path()).await;
    let (scope, c) = stand.tenant_with_collection("a").await;
    fill(&stand, &scope, &c, &(0..RECORDS).collect::<Vec<_>>(), 0).await;
    query(&stand, &scope, &c, of).await;
    hot(&stand, &scope, &c).await;
    let found = query(&stand, &scope, &c, of).await;
    assert_eq!(found.explain.hot, Some(true));
    written(&stand, 1).await;
    stand.close();
    assert_eq!(files(dir.path()).len(), 1);
    (dir, found)
}

/// The tenant `a` of an opened folder.
async fn again(stand: &Stand) -> (Scope<Admin>, CollectionRef) {
    let info = stand.store.find_tenant(&tenant("a")).await.expect("found").expect("it lives");
    let scope = stand.scope(info.id);
    let c = stand.collection(&scope).await.expect("collection");
    (scope, c)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_query_is_answered_from_saved_codes_as_it_is_from_memory() {
    for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
        let dir = tempfile::tempdir().expect("a folder");
        let stand = open(dir.path()).await;
        let scope = stand.create("a").await.expect("tenant");
        let database = stand.default_database(&scope).await;
        let made = stand.store.create_collection(&scope, &database, &spec("c", metric), true).await;
        let c = made.expect("collection").0;
        fill(&stand, &scope, &c, &(0..RECORDS).collect::<Vec<_>>(), 0).await;
        // Gaps among the ordinals, a record without a vector, and one that no code stands for.
        let gone = (0..RECORDS).filter(|n| n % 9 == 4).map(|n| n.to_string());
        stand.store.delete(&scope, &c, &ids(gone), None).await.expect("delete");
        let mut odd = vec![
            record("plain", Vec::new(), &[]),
            record("huge", vec![1e30; usize::from(DIMENSION)], &[]),
            record("zero", vec![0.0; usize::from(DIMENSION)], &[]),
        ];
        odd[0].vector = None;
        stand.store.write(&scope, &c, WriteMode::Upsert, odd).await.expect("write");
        let all: Vec<u16> = (0..12).map(|n| n * 33).collect();
        query(&stand, &scope, &c, &all).await;
        hot(&stand, &scope, &c).await;
        let want = query(&stand, &scope, &c, &all).await;
        written(&stand, 1).await;
        stand.close();

        let stand = open(dir.path()).await;
        let (scope, c) = again(&stand).await;
        let found = query(&stand, &scope, &c, &all).await;
        assert_eq!(stand.store.totals().saved_used, 1);
        assert_eq!(found.explain.hot, Some(false));
        assert_eq!(found.hits, want.hits, "{metric:?}");
        assert_eq!(found.explain.searches, want.explain.searches);
        // It is loaded meanwhile, and its file is still that of its records.
        hot(&stand, &scope, &c).await;
        let found = query(&stand, &scope, &c, &all).await;
        assert!(found.explain.hot == Some(true) && found.hits == want.hits);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let totals = stand.store.totals();
        assert_eq!((totals.saved_used, totals.saved_written, totals.saved_refused), (1, 0, 0));
        assert_eq!(totals.saved_bytes, fs::metadata(&files(dir.path())[0]).expect("a file").len());
        stand.close();
    }
}

/// Opens the folder after its only saved file was spoilt: the answer must be as if there were no
/// file, and there must be a good one again soon.
async fn survives(dir: &Path, good: &[u8], spoilt: &[u8], of: &[u16], want: &Found) {
    let path = files(dir).pop().expect("a file");
    fs::write(&path, spoilt).expect("spoil it");
    let stand = open(dir).await;
    let (scope, c) = again(&stand).await;
    let found = query(&stand, &scope, &c, of).await;
    assert_eq!(found.hits, want.hits);
    let totals = stand.store.totals();
    assert_eq!((totals.saved_used, totals.saved_refused), (0, 1));
    written(&stand, 1).await;
    stand.close();
    let rebuilt = fs::read(&path).expect("a file");
    assert_eq!(rebuilt.len(), good.len());
    assert_ne!(rebuilt, spoilt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_refused_and_written_again() {
    let of = [3, 77];
    let (dir, want) = folder(&of).await;
    let path = files(dir.path()).pop().expect("a file");
    let mut chance = Chance(5);
    for round in 0..24 {
        let good = fs::read(&path).expect("a file");
        let mut spoilt = good.clone();
        // The head and what follows it, then anywhere.
        let at = if round < 8 { round * 23 } else { chance.index(good.len()) };
        if round % 3 == 2 {
            spoilt.truncate(at);
        } else {
            spoilt[at] ^= 1 << chance.below(8);
        }
        survives(dir.path(), &good, &spoilt, &of, &want).await;
    }
    let good = fs::read(&path).expect("a file");
    let longer = [good.as_slice(), b"more"].concat();
    survives(dir.path(), &good, &longer, &of, &want).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_another_tenant_or_collection_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = open(dir.path()).await;
    let mut wanted = Vec::new();
    for (name, by) in [("a", 0), ("b", 1_000)] {
        let scope = stand.create(name).await.expect("tenant");
        let database = stand.default_database(&scope).await;
        for (collection, more) in [("c", 0), ("d", 5_000)] {
            let spec = spec(collection, Metric::L2);
            let made = stand.store.create_collection(&scope, &database, &spec, true).await;
            let c = made.expect("collection").0;
            fill(&stand, &scope, &c, &(0..RECORDS).collect::<Vec<_>>(), by + more).await;
            let found = query(&stand, &scope, &c, &[7]).await;
            wanted.push((scope.tenant(), c, found));
        }
    }
    written(&stand, 4).await;
    stand.close();
    let all = files(dir.path());
    let bytes: Vec<Vec<u8>> = all.iter().map(|path| fs::read(path).expect("a file")).collect();
    for shift in 1..4 {
        for (at, path) in all.iter().enumerate() {
            fs::write(path, &bytes[(at + shift) % 4]).expect("put another one there");
        }
        let stand = open(dir.path()).await;
        for (id, c, want) in &wanted {
            let found = query(&stand, &stand.scope(*id), c, &[7]).await;
            assert_eq!(found.hits, want.hits);
        }
        let totals = stand.store.totals();
        assert_eq!((totals.saved_used, totals.saved_refused), (0, 4), "{shift}");
        stand.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_makes_a_file_old_even_if_the_file_is_put_back() {
    let (dir, before) = folder(&[5]).await;
    let path = files(dir.path()).pop().expect("a file");
    let old = fs::read(&path).expect("a file");
    // Written while it is cold.
    let stand = open(dir.path()).await;
    let (scope, c) = again(&stand).await;
    let new = record("new", vector(5), &[]);
    stand.store.write(&scope, &c, WriteMode::Upsert, vec![new]).await.expect("write");
    let with = query(&stand, &scope, &c, &[5]).await;
    assert_eq!(stand.store.totals().saved_used, 0);
    assert_eq!(with.hits[0][1].record.id.as_str(), "new");
    assert_eq!(with.hits[0][0], before.hits[0][0]);
    written(&stand, 1).await;
    stand.close();
    // As after a restored backup of the one and not of the other.
    fs::write(&path, &old).expect("put it back");
    let stand = open(dir.path()).await;
    let found = query(&stand, &scope, &c, &[5]).await;
    assert_eq!(stand.store.totals().saved_used, 0);
    assert_eq!(found.hits, with.hits);
    // A deletion of the record leads to the same records, and not to the same stamp.
    stand.store.delete(&scope, &c, &ids(["new".to_owned()]), None).await.expect("delete");
    stand.close();
    fs::write(&path, &old).expect("put it back");
    let stand = open(dir.path()).await;
    let found = query(&stand, &scope, &c, &[5]).await;
    assert_eq!((stand.store.totals().saved_used, found.hits), (0, before.hits));
    stand.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_go_with_their_collection_and_their_tenant() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = open(dir.path()).await;
    let (scope, c) = stand.tenant_with_collection("a").await;
    let database = stand.default_database(&scope).await;
    // A saver is at work on what is deleted, sooner or later in each round.
    for round in 0..12_u64 {
        let c = stand.collection(&scope).await.expect("collection");
        fill(&stand, &scope, &c, &(0..RECORDS).collect::<Vec<_>>(), 0).await;
        query(&stand, &scope, &c, &[1]).await;
        tokio::time::sleep(Duration::from_millis(round * 7)).await;
        stand.store.delete_collection(&scope, &c).await.expect("delete");
    }
    let quiet = async |what: &str| {
        // Longer than any saver needs.
        until(what, async || files(dir.path()).is_empty()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(files(dir.path()), [] as [PathBuf; 0], "{what}");
    };
    quiet("deleted collections").await;
    let c = {
        drop(c);
        stand.collection(&scope).await.expect("collection")
    };
    fill(&stand, &scope, &c, &(0..RECORDS).collect::<Vec<_>>(), 0).await;
    query(&stand, &scope, &c, &[1]).await;
    until("saved", async || files(dir.path()).iter().any(|f| f.ends_with("13-0-0.seg"))).await;
    stand.store.delete_database(&scope, &database.info().name).await.expect("delete");
    quiet("a deleted database").await;
    for round in 0..6_u64 {
        let name = format!("t{round}");
        let (scope, c) = stand.tenant_with_collection(&name).await;
        fill(&stand, &scope, &c, &(0..RECORDS).collect::<Vec<_>>(), 0).await;
        query(&stand, &scope, &c, &[1]).await;
        tokio::time::sleep(Duration::from_millis(round * 15)).await;
        stand.store.delete_tenant(&stand.operator, &tenant(&name)).await.expect("delete");
    }
    quiet("erased tenants").await;
    assert_eq!(fs::read_dir(dir.path().join("saved")).expect("a folder").count(), 0);
    stand.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_is_swept_at_the_start() {
    let (dir, want) = folder(&[9]).await;
    let path = files(dir.path()).pop().expect("a file");
    let home = path.parent().expect("a folder").to_owned();
    fs::copy(&path, home.join("77-0-0.seg")).expect("of a collection that is gone");
    fs::copy(&path, home.join("1-0-0.new")).expect("of a saver that was killed");
    let unknown = dir.path().join("saved").join("00000000000000ff");
    fs::create_dir(&unknown).expect("a folder");
    fs::copy(&path, unknown.join("1-0-0.seg")).expect("of a tenant that is gone");
    fs::write(dir.path().join("saved").join("stray"), b"?").expect("something else");
    let stand = open(dir.path()).await;
    until("swept", async || files(dir.path()) == [path.clone()]).await;
    let (scope, c) = again(&stand).await;
    assert_eq!(query(&stand, &scope, &c, &[9]).await.hits, want.hits);
    assert_eq!(stand.store.totals().saved_used, 1);
    stand.close();
    // A folder that is no folder.
    fs::remove_dir_all(dir.path().join("saved")).expect("remove");
    fs::write(dir.path().join("saved"), b"?").expect("a file in its place");
    let stand = open(dir.path()).await;
    assert_eq!(query(&stand, &scope, &c, &[9]).await.hits, want.hits);
    stand.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_nothing_is_saved_and_all_is_found() {
    for case in 0..3 {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = config(dir.path());
        match case {
            0 => config.saved.free_min = u64::MAX / 2,
            1 => config.saved.bytes_max = 10_000,
            _ => config.saved.bytes_max = 0,
        }
        let stand = Stand::try_open(config).await.expect("the store opens");
        let (scope, c) = stand.tenant_with_collection("a").await;
        fill(&stand, &scope, &c, &(0..RECORDS).collect::<Vec<_>>(), 0).await;
        let found = query(&stand, &scope, &c, &[11]).await;
        assert_eq!(found.hits[0][0].record.id.as_str(), "11");
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(stand.store.totals().saved_written, 0);
        stand.close();
        assert_eq!(files(dir.path()), [] as [PathBuf; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_files_make_room() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = config(dir.path());
    config.saved.bytes_max = 200_000;
    let stand = Stand::try_open(config).await.expect("the store opens");
    for name in 0..12 {
        let (scope, c) = stand.tenant_with_collection(&format!("t{name}")).await;
        fill(&stand, &scope, &c, &(0..RECORDS).collect::<Vec<_>>(), 0).await;
        query(&stand, &scope, &c, &[1]).await;
        written(&stand, name + 1).await;
        let bytes: u64 = files(dir.path()).iter().map(|f| f.metadata().expect("it").len()).sum();
        assert!(bytes <= 200_000 && bytes == stand.store.totals().saved_bytes, "{bytes}");
    }
    let left = files(dir.path());
    assert!(left.len() >= 2 && left.len() < 12, "{left:?}");
    assert!(left.last().expect("a file").parent().expect("a folder").ends_with("000000000000000c"));
    stand.close();
}

/// The graph's state, once nothing is left to do.
async fn linked(stand: &Stand, scope: &Scope<Admin>, c: &CollectionRef) -> u64 {
    let mut linked = 0;
    until("linked", async || {
        let found = stand.store.collection_statistics(scope, c).await.expect("statistics").value;
        let Some(memory) = found.memory else { return false };
        linked = memory.linked;
        memory.pending == 0 && memory.linked == found.records
    })
    .await;
    linked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_survives_a_restart_and_most_of_it_a_few_writes() {
    let dir = tempfile::tempdir().expect("a folder");
    let open = async || {
        let mut config = config(dir.path());
        config.index.graph_above = 300;
        Stand::try_open(config).await.expect("the store opens")
    };
    let stand = open().await;
    let (scope, c) = stand.tenant_with_collection("a").await;
    let all: Vec<u16> = (0..8_000).collect();
    fill(&stand, &scope, &c, &all, 0).await;
    query(&stand, &scope, &c, &[1]).await;
    assert_eq!(linked(&stand, &scope, &c).await, 8_000);
    let of: Vec<u16> = (0..16).map(|n| n * 497).collect();
    let want = query(&stand, &scope, &c, &of).await;
    assert!(want.explain.searches.iter().all(|step| step.plan == SearchPlan::Graph));
    written(&stand, 1).await;
    stand.close();

    // Unchanged: the same walks at once, cold and hot, and nothing to build.
    let stand = open().await;
    let (scope, c) = again(&stand).await;
    let cold = query(&stand, &scope, &c, &of).await;
    assert_eq!(stand.store.totals().saved_used, 1);
    assert_eq!((&cold.hits, &cold.explain.searches), (&want.hits, &want.explain.searches));
    hot(&stand, &scope, &c).await;
    let found = query(&stand, &scope, &c, &of).await;
    assert_eq!((&found.hits, &found.explain.searches), (&want.hits, &want.explain.searches));
    assert_eq!(linked(&stand, &scope, &c).await, 8_000);
    let built = stand.store.totals().maintenance;
    // A recall sample is a piece as well.
    assert!(built <= 20, "{built}");
    stand.close();

    // A few writes while it is cold: only they are linked anew.
    let mut config = config(dir.path());
    config.index.graph_above = 300;
    config.saved.bytes_max = 0;
    let stand = Stand::try_open(config).await.expect("the store opens");
    fill(&stand, &scope, &c, &(100..120).collect::<Vec<_>>(), 30_000).await;
    fill(&stand, &scope, &c, &(20_000..20_020).collect::<Vec<_>>(), 0).await;
    let gone = (200..220).map(|n: u16| n.to_string());
    stand.store.delete(&scope, &c, &ids(gone), None).await.expect("delete");
    stand.close();
    let stand = open().await;
    let new = query(&stand, &scope, &c, &[30_105]).await;
    assert_eq!(new.hits[0][0].record.id.as_str(), "105");
    assert_eq!(stand.store.totals().saved_used, 0);
    assert_eq!(linked(&stand, &scope, &c).await, 8_000);
    let built = stand.store.totals().maintenance;
    assert!((40..120).contains(&built), "{built}");
    let found = query(&stand, &scope, &c, &of).await;
    for (found, want) in found.hits.iter().zip(&want.hits) {
        let kept = want.iter().filter(|hit| found.iter().any(|one| one.record.id == hit.record.id));
        assert!(kept.count() >= 8);
    }
    stand.close();
}

/// Many first queries at once, with a writer among them: each answer is that of some moment, and
/// the collection is loaded once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_first_queries_at_once_are_all_right() {
    let (dir, want) = folder(&[8]).await;
    let stand = std::sync::Arc::new(open(dir.path()).await);
    let (scope, c) = again(&stand).await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (stand, scope, c) = (std::sync::Arc::clone(&stand), scope.clone(), c.clone());
        running.spawn(async move { query(&stand, &scope, &c, &[8]).await });
    }
    while let Some(found) = running.join_next().await {
        assert_eq!(found.expect("no panic").hits, want.hits);
    }
    hot(&stand, &scope, &c).await;
    let totals = stand.store.totals();
    assert!((1..=24).contains(&totals.saved_used), "{totals:?}");
    assert_eq!(totals.loads, 1);
    stand.store.close();
    drop(stand);

    // What was answered as written is in every answer that begins after.
    let stand = std::sync::Arc::new(open(dir.path()).await);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (stand, scope, c) = (std::sync::Arc::clone(&stand), scope.clone(), c.clone());
        running.spawn(async move {
            for _ in 0..8 {
                assert_eq!(query(&stand, &scope, &c, &[8]).await.hits[0].len(), 10);
            }
        });
    }
    for n in 0..6_u16 {
        let one = record(&format!("new-{n}"), vector(8), &[]);
        stand.store.write(&scope, &c, WriteMode::Upsert, vec![one]).await.expect("write");
        let found = query(&stand, &scope, &c, &[8]).await;
        let new = |hit: &&tenantry_types::Hit| hit.record.id.as_str().starts_with("new");
        assert_eq!(found.hits[0].iter().filter(new).count(), usize::from(n) + 1);
    }
    while let Some(done) = running.join_next().await {
        done.expect("no panic");
    }
    stand.store.close();
}

/// What is deleted must not live on in a file that nobody looks at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_from_a_cold_collection_takes_its_codes_along() {
    let (dir, _) = folder(&[1]).await;
    let stand = open(dir.path()).await;
    let (scope, c) = again(&stand).await;
    let gone = stand.store.delete(&scope, &c, &ids(["7".to_owned()]), None).await;
    assert_eq!(gone.expect("delete"), 1);
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
    let found = query(&stand, &scope, &c, &[7]).await;
    assert!(found.hits[0].iter().all(|hit| hit.record.id.as_str() != "7"));
    stand.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_has_shrunk_keeps_no_file_of_its_former_size() {
    let (dir, _) = folder(&[1]).await;
    let stand = open(dir.path()).await;
    let (scope, c) = again(&stand).await;
    query(&stand, &scope, &c, &[1]).await;
    hot(&stand, &scope, &c).await;
    let gone = (2..RECORDS).map(|n| n.to_string());
    stand.store.delete(&scope, &c, &ids(gone), None).await.expect("delete");
    until("removed", async || files(dir.path()).is_empty()).await;
    stand.close();
}
