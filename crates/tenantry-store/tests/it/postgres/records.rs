//! Records of one installation on several nodes, through bad networks and on damaged tables.

use super::{Site, nodes::Node, proxy::Loses};
use crate::conformance::{UPSERT, all_parts, id, nearest, only, record};
use tenantry_auth::{Admin, Scope};
use tenantry_store::{CollectionRef, Store};
use tenantry_types::{
    CollectionChange, CollectionName, DatabaseName, Error, ErrorKind, FieldTest, Filter,
    GetRequest, RecordWrite, Result, Selector, TextTest, Value, WriteMode,
};

fn kind<T>(outcome: Result<T>) -> Option<ErrorKind> {
    outcome.err().map(|error: Error| error.kind())
}

async fn two(site: &Site) -> (Node, Node) {
    let (one, two) = (site.open().await, site.open().await);
    (Node::new(one).await, Node::new(two).await)
}

async fn ids(node: &Node, scope: &Scope<Admin>, c: &CollectionRef) -> Result<Vec<String>> {
    let got = node.store.get(scope, c, &GetRequest::default()).await?.value;
    Ok(got.into_iter().map(|record| record.id.into_string()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_wrote_the_other_finds() {
    let site = Site::new().await;
    let (one, two) = two(&site).await;
    let scope = one.tenant("t").await.unwrap();
    let made = one.make(&scope, "c").await.unwrap();
    let there = two.collection(&scope, "c").await.unwrap();
    let nothing = two.store.query(&scope, &there, &nearest([1.0, 1.0], 3)).await.unwrap().value;
    assert!(nothing.hits[0].is_empty());
    for (round, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let (writes, reads) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let (c, other) = if round % 2 == 0 { (&made, &there) } else { (&there, &made) };
        let x = u8::try_from(round).unwrap();
        let batch = vec![record(name, f32::from(x), &[])];
        writes.store.write(&scope, c, UPSERT, batch).await.unwrap();
        let request = nearest([1.0, f32::from(x)], 1);
        let found = reads.store.query(&scope, other, &request).await.unwrap().value;
        assert_eq!(found.hits[0][0].record.id, id(name));
        let count = reads.store.count(&scope, other, &Selector::default()).await.unwrap().value;
        assert_eq!(count, round + 1);
    }
    // The dimension that one learned holds for the other.
    let odd = RecordWrite { vector: Some(vec![1.0; 3]), ..RecordWrite::new(id("odd")) };
    assert_eq!(
        kind(two.store.write(&scope, &there, UPSERT, vec![odd]).await),
        Some(ErrorKind::Invalid)
    );
    one.store.delete(&scope, &made, &only(&["a", "c"]), None).await.unwrap();
    assert_eq!(ids(&two, &scope, &there).await.unwrap(), ["b", "d"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_leads_to_what_has_it_now() {
    let site = Site::new().await;
    let (one, two) = two(&site).await;
    let scope = one.tenant("t").await.unwrap();
    let batch = || vec![record("new", 1.0, &[])];
    let by_name = async || two.collection(&scope, "c").await.unwrap();
    let first = one.make(&scope, "c").await.unwrap();
    let database = two.store.database(&scope, &DatabaseName::default_database()).await.unwrap();
    let by_id = two.store.collection_by_id(&scope, &database, first.info().id).await.unwrap();
    let found = by_name().await;
    assert_eq!(ids(&two, &scope, &found).await.unwrap(), Vec::<String>::new());

    // Deleted and made again elsewhere.
    one.store.delete_collection(&scope, &first).await.unwrap();
    let second = one.make(&scope, "c").await.unwrap();
    two.store.write(&scope, &found, UPSERT, batch()).await.unwrap();
    assert_eq!(ids(&one, &scope, &second).await.unwrap(), ["new"]);
    assert_eq!(ids(&two, &scope, &found).await.unwrap(), ["new"]);
    assert_eq!(two.store.count(&scope, &found, &Selector::default()).await.unwrap().value, 1);
    let hits = two.store.query(&scope, &found, &nearest([1.0, 1.0], 3)).await.unwrap().value.hits;
    assert_eq!(hits[0].len(), 1);
    let statistics = two.store.collection_statistics(&scope, &found).await.unwrap().value;
    assert_eq!(statistics.records, 1);
    assert_eq!(two.store.delete(&scope, &found, &only(&["new"]), None).await.unwrap(), 1);
    // An id leads to what had it, or to nothing.
    assert_eq!(kind(ids(&two, &scope, &by_id).await), Some(ErrorKind::NotFound));
    let late = two.store.write(&scope, &by_id, UPSERT, batch()).await;
    assert_eq!(kind(late), Some(ErrorKind::NotFound));

    // Renamed elsewhere, with and without a successor.
    let found = by_name().await;
    let name = CollectionName::parse("d").unwrap();
    let change = CollectionChange { name: Some(name), ..CollectionChange::default() };
    one.store.change_collection(&scope, &second, &change).await.unwrap();
    assert_eq!(kind(ids(&two, &scope, &found).await), Some(ErrorKind::NotFound));
    let third = one.make(&scope, "c").await.unwrap();
    two.store.write(&scope, &found, UPSERT, batch()).await.unwrap();
    assert_eq!(ids(&one, &scope, &third).await.unwrap(), ["new"]);
    assert_eq!(ids(&one, &scope, &second).await.unwrap(), Vec::<String>::new());
    // Within whole databases too.
    let found = by_name().await;
    one.store.delete_database(&scope, &DatabaseName::default_database()).await.unwrap();
    assert_eq!(kind(ids(&two, &scope, &found).await), Some(ErrorKind::NotFound));
    one.store.create_database(&scope, &DatabaseName::default_database()).await.unwrap();
    one.make(&scope, "c").await.unwrap();
    assert_eq!(ids(&two, &scope, &found).await.unwrap(), Vec::<String>::new());
}

const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_write_one_record_at_once_lose_nothing() {
    let site = Site::new().await;
    let (one, two) = two(&site).await;
    let scope = one.tenant("t").await.unwrap();
    let made = one.make(&scope, "c").await.unwrap();
    let write = async |node: &Node, from: &str| {
        let mut versions = Vec::new();
        for round in 0..ROUNDS {
            let metadata = [(format!("{from}{round}"), Some(Value::Bool(true)))].into();
            let one = RecordWrite { metadata, ..RecordWrite::new(id("same")) };
            let own = record(&format!("{from}{round}"), 1.0, &[]);
            let wrote = node.store.write(&scope, &made, UPSERT, vec![one, own]).await.unwrap();
            versions.push(wrote.version);
        }
        versions
    };
    let deleting = async {
        let mut count = 0;
        for round in 0..ROUNDS {
            let gone = only(&[&format!("a{round}"), &format!("b{round}")]);
            count += two.store.delete(&scope, &made, &gone, None).await.unwrap();
        }
        // By their texts, while others write.
        let texts = Filter::Text(TextTest::Contains("text of a1".into()));
        let texts = Selector { ids: None, filter: Some(texts) };
        count + two.store.delete(&scope, &made, &texts, None).await.unwrap()
    };
    let (mut versions, more, again, gone) =
        tokio::join!(write(&one, "a"), write(&two, "b"), write(&one, "c"), deleting);
    versions.extend(more);
    versions.extend(again);
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 3 * ROUNDS);
    let request = GetRequest { include: all_parts(), ..GetRequest::default() };
    for node in [&one, &two] {
        let all = node.store.get(&scope, &made, &request).await.unwrap().value;
        assert_eq!(all.len(), 1 + 3 * ROUNDS - gone);
        let same = all.iter().find(|record| record.id == id("same")).unwrap();
        assert_eq!(same.metadata.as_ref().map_or(0, |all| all.len()), 3 * ROUNDS);
        let count = node.store.count(&scope, &made, &Selector::default()).await.unwrap().value;
        assert_eq!(count, all.len());
    }
    let audit = one.store.audit(&scope, 0, 1_000).await.unwrap();
    crate::stand::verify_chain(&audit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_found_out() {
    let site = Site::new().await;
    let (proxy, config) = site.through_proxy().await;
    let node = Node::new(Store::open_postgres(config).await.unwrap()).await;
    let scope = node.tenant("t").await.unwrap();
    let c = node.make(&scope, "c").await.unwrap();
    let write = async |name: &str| {
        let mode = WriteMode::Add(tenantry_types::Existing::Fail);
        node.store.write(&scope, &c, mode, vec![record(name, 1.0, &[])]).await
    };
    write("before").await.unwrap();
    proxy.lose(Loses::Answer);
    let wrote = write("answer").await.unwrap();
    assert!(proxy.has_lost());
    assert_eq!(wrote.inserted, 1);
    proxy.lose(Loses::Commit);
    assert_eq!(kind(write("commit").await), Some(ErrorKind::Unavailable));
    assert!(proxy.has_lost());
    assert_eq!(ids(&node, &scope, &c).await.unwrap(), ["before", "answer"]);
    assert_eq!(write("commit").await.unwrap().version, wrote.version + 1);
    proxy.lose(Loses::Answer);
    assert_eq!(node.store.delete(&scope, &c, &only(&["before"]), None).await.unwrap(), 1);
    assert!(proxy.has_lost());
    assert_eq!(ids(&node, &scope, &c).await.unwrap(), ["answer", "commit"]);
    let audit = node.store.audit(&scope, 0, 100).await.unwrap();
    crate::stand::verify_chain(&audit);
}

/// Bodies are sealed for their tenant, collection and ordinal, and say their id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_moved_in_the_tables_is_damage() {
    let site = Site::new().await;
    let node = Node::new(site.open().await).await;
    let change = async |sql: &str| {
        let sql = format!("WITH changed AS ({sql} RETURNING 1) SELECT count(*) FROM changed");
        assert!(site.ask(&sql).await > 0, "{sql}");
    };
    let mut scopes = Vec::new();
    for name in ["t", "u"] {
        let scope = node.tenant(name).await.unwrap();
        let c = node.make(&scope, "c").await.unwrap();
        let batch = vec![record("a", 1.0, &[]), record("b", 2.0, &[])];
        node.store.write(&scope, &c, UPSERT, batch).await.unwrap();
        scopes.push((scope, c));
    }
    let ((scope, c), (other, _)) = (&scopes[0], &scopes[1]);
    let (own, other) = (scope.tenant().get(), other.tenant().get());
    let is_damage = async |what: &str| {
        let get = GetRequest::default();
        let by_id = GetRequest { select: only(&["a"]), ..GetRequest::default() };
        let query = nearest([1.0, 1.0], 2);
        for got in [
            kind(node.store.get(scope, c, &get).await),
            kind(node.store.get(scope, c, &by_id).await),
            kind(node.store.query(scope, c, &query).await),
            kind(node.store.write(scope, c, UPSERT, vec![record("a", 1.0, &[])]).await),
        ] {
            assert_eq!(got, Some(ErrorKind::Corrupt), "{what}");
        }
    };
    let records = "UPDATE tenantry.records AS r SET";
    let from = "FROM tenantry.records AS o WHERE r.tenant";
    // Another record's body, and another tenant's.
    let keep = "CREATE TABLE tenantry.kept AS SELECT * FROM tenantry.records";
    site.run(keep).await;
    let restore = format!(
        "{records} body = k.body, id = k.id, key = k.key FROM tenantry.kept k \
         WHERE r.tenant = k.tenant AND r.ordinal = k.ordinal"
    );
    change(&format!(
        "{records} body = o.body {from} = {own} AND o.tenant = {own} AND o.id <> r.id"
    ))
    .await;
    is_damage("swapped bodies").await;
    change(&restore).await;
    change(&format!(
        "{records} body = o.body {from} = {own} AND o.tenant = {other} AND o.id = r.id"
    ))
    .await;
    is_damage("another tenant's bodies").await;
    change(&restore).await;
    assert_eq!(ids(&node, scope, c).await.unwrap(), ["a", "b"]);
    // A hash that leads elsewhere.
    change(&format!(
        "{records} key = '\\x00000000000000000000000000000000' WHERE tenant = {own} AND id = 'a'"
    ))
    .await;
    change(&format!(
        "{records} key = k.key FROM tenantry.kept k WHERE r.tenant = {own} AND k.tenant = {own} \
         AND k.id = 'a' AND r.id = 'b'"
    ))
    .await;
    let by_id = GetRequest { select: only(&["a"]), ..GetRequest::default() };
    assert_eq!(kind(node.store.get(scope, c, &by_id).await), Some(ErrorKind::Corrupt));
    for mode in [UPSERT, WriteMode::Add(tenantry_types::Existing::Skip)] {
        let wrote = node.store.write(scope, c, mode, vec![record("a", 1.0, &[])]).await;
        assert_eq!(kind(wrote), Some(ErrorKind::Corrupt));
    }
    let gone = node.store.delete(scope, c, &only(&["a"]), None).await;
    assert_eq!(kind(gone), Some(ErrorKind::Corrupt));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_counts_are_damage_and_not_zero() {
    let site = Site::new().await;
    let node = Node::new(site.open().await).await;
    let scope = node.tenant("t").await.unwrap();
    let c = node.make(&scope, "c").await.unwrap();
    let counts = "DELETE FROM tenantry.catalog WHERE family = 36";
    site.run(counts).await;
    let all = Selector::default();
    let filter = Filter::Field { key: "x".into(), test: FieldTest::Exists(true) };
    let some = Selector { ids: None, filter: Some(filter) };
    for select in [all, some] {
        let counted = node.store.count(&scope, &c, &select).await;
        assert_eq!(kind(counted), Some(ErrorKind::Corrupt));
    }
    let wrote = node.store.write(&scope, &c, UPSERT, vec![record("a", 1.0, &[])]).await;
    assert_eq!(kind(wrote), Some(ErrorKind::Corrupt));
}
