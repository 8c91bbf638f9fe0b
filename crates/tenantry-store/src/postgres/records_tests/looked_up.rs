//! Records of some ids are looked up whatever the statistics say.

use super::{
    super::{
        admin::Session,
        draft::Draft,
        statement::{LOOKING_UP, Statement},
        view,
    },
    *,
};
use crate::tenancy::keys;
use tenantry_types::Isolation;

/// What makes the planner take the collection of the tenant `$1` for empty, and the primary key,
/// which is a level lower than the index of keys, for the cheaper way to each of its records.
const FILL: &str = "INSERT INTO {schema}.records (tenant, collection, ordinal, key, id, body) \
     SELECT $1, $2, 1000000 + n, decode(md5($2::int || '.' || n), 'hex'), ''::bytea, ''::bytea \
     FROM generate_series(1, 20000) n";

/// A node that makes schemas.
fn with_admin(config: &mut PostgresConfig, set_up: &SetUp) {
    config.admin_url = Some(DatabaseUrl::parse(&set_up.database_admin_url).unwrap());
}

/// The collection of a new tenant, and the schema that it is in.
async fn place(node: &Node, isolation: Isolation) -> (Scope<Admin>, CollectionRef, String) {
    let name = TenantName::parse(format!("{isolation:?}").to_lowercase()).unwrap();
    let spec = TenantSpec { isolation: Some(isolation), ..TenantSpec::new(name.clone()) };
    let info = node.store.create_tenant(&node.operator, &spec).await.unwrap();
    let authority = Authority::development();
    let principal =
        authority.authenticate(Credential::None, &node.store, Timestamp(0)).await.unwrap();
    let scope = authority.authorize(&principal, info.id, name.as_str()).unwrap();
    let database = node.store.database(&scope, &DatabaseName::default_database()).await.unwrap();
    let spec = CollectionSpec::new(CollectionName::parse("c").unwrap());
    let made = node.store.create_collection(&scope, &database, &spec, false).await.unwrap();
    let tenant = node.inner().tenancy.open_tenant(info.id).await.unwrap().unwrap();
    let schema = node.inner().place(&tenant).await.unwrap().text("{schema}").as_str().to_owned();
    (scope, made.0, schema)
}

/// All that looks ids up and then reads or replaces records, with what was said for it.
async fn use_ids(node: &Node, scope: &Scope<Admin>, collection: &CollectionRef) -> Vec<Said> {
    let store = &node.store;
    let batch = || (0..300).map(record).collect::<Vec<_>>();
    store.write(scope, collection, WriteMode::Upsert, batch()).await.unwrap();
    let connections = &node.inner().shared.connections;
    drop(connections.said());
    for mode in [WriteMode::Upsert, WriteMode::Add(Existing::Skip)] {
        store.write(scope, collection, mode, batch()).await.unwrap();
    }
    let ids = || Some(batch().into_iter().map(|one| one.id).collect::<Vec<_>>());
    for (filter, left) in [(None, 300), (Some(is_below(200)), 200), (Some(has_text("text 1")), 111)]
    {
        let select = Selector { ids: ids(), filter };
        assert_eq!(store.count(scope, collection, &select).await.unwrap().value, left);
        for order in [Order::Insertion, Order::Id] {
            let request = GetRequest { select: select.clone(), order, ..GetRequest::default() };
            let got = store.get(scope, collection, &request).await.unwrap().value;
            assert_eq!(got.len(), left);
        }
        let request = QueryRequest { select: select.clone(), ..nearest(3) };
        let found = store.query(scope, collection, &request).await.unwrap().value;
        assert_eq!(found.hits[0].len(), 3);
    }
    let all = Selector { ids: ids(), filter: None };
    assert_eq!(store.delete(scope, collection, &all, None).await.unwrap(), 300);
    connections.said()
}

type Said = (String, Vec<Type>);

/// What reads records by their numbers.
async fn by_ordinal(node: &Node, scope: &Scope<Admin>, collection: &CollectionRef) -> Said {
    let tenant = node.inner().tenancy.open_tenant(scope.tenant()).await.unwrap().unwrap();
    let place = node.inner().place(&tenant).await.unwrap();
    let mut draft = Draft::new(&tenant, collection.info().number).unwrap();
    let these = draft.these(&[1], &[]);
    said(draft.finish(&place, "", Some(&these)))
}

fn said(statement: Statement) -> Said {
    let types = statement.values.iter().map(|(_, of)| of.clone()).collect();
    (statement.text.as_str().to_owned(), types)
}

/// Those that look ids up, each once; each came behind what it has to be planned with.
fn looking_up(said: Vec<Said>) -> Vec<Said> {
    let is_one = |text: &str| text.contains("AS k (key)");
    for pair in said.windows(2).filter(|pair| is_one(&pair[1].0)) {
        assert_eq!(pair[0].0, LOOKING_UP, "before {}", pair[1].0);
    }
    let mut ones: Vec<_> = said.into_iter().filter(|(text, _)| is_one(text)).collect();
    ones.sort_by(|a, b| a.0.cmp(&b.0));
    ones.dedup_by(|a, b| a.0 == b.0);
    ones
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_looked_up_by_their_index_in_a_collection_that_nobody_has_counted() {
    Node::with_config(with_admin, |node| async move {
        let superuser = node.stand.superuser(node.stand.names.database()).await;
        for isolation in [Isolation::Shared, Isolation::Schema] {
            let (scope, collection, schema) = place(&node, isolation).await;
            let tenant = scope.tenant().get().cast_signed();
            let number = i32::try_from(collection.info().number.0).unwrap();
            let off = format!("ALTER TABLE {schema}.records SET (autovacuum_enabled = false)");
            superuser.batch_execute(&off).await.unwrap();
            let fill = FILL.replace("{schema}", &schema);
            superuser.execute(&fill, &[&tenant, &(number - 1)]).await.unwrap();
            superuser.batch_execute(&format!("ANALYZE {schema}.records")).await.unwrap();
            superuser.execute(&fill, &[&tenant, &number]).await.unwrap();
            let said = use_ids(&node, &scope, &collection).await;
            let is_joined = |(text, _): &&Said| text.starts_with("UPDATE");
            assert_eq!(said.iter().filter(is_joined).count(), 0, "a join reads all");
            let ones = looking_up(said);
            let by_ordinal = by_ordinal(&node, &scope, &collection).await;
            assert!(ones.len() >= 8, "{}", ones.len());
            for mode in ["force_custom_plan", "force_generic_plan"] {
                let role = match isolation {
                    Isolation::Shared => node.stand.names.service(),
                    _ => "NONE".into(),
                };
                let opening = format!(
                    "SET ROLE {role}; SET tenantry.tenant = '{tenant}'; \
                     SET search_path = pg_catalog, pg_temp; \
                     SET plan_cache_mode = {mode}; SET enable_sort = off"
                );
                let client = node.stand.superuser(node.stand.names.database()).await;
                client.batch_execute(&opening).await.unwrap();
                for (text, types) in &ones {
                    let plan = plan(&client, text, types, (tenant, number)).await;
                    assert!(plan.contains("(key >= k.key) AND (key <= k.key)"), "{text}\n{plan}");
                    assert!(!plan.contains("Filter: (key"), "{text}\n{plan}");
                    assert!(!plan.contains("Filter: ((ordinal"), "{text}\n{plan}");
                }
                client.batch_execute("SET enable_sort = on").await.unwrap();
                let plan = plan(&client, &by_ordinal.0, &by_ordinal.1, (tenant, number)).await;
                assert!(plan.contains("(ordinal >= o.ordinal)"), "{plan}");
                for slow in ["Filter: ((ordinal", "Join Filter"] {
                    assert!(!plan.contains(slow), "{plan}");
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_begin_at_a_place_know_what_clients_will_ask_for() {
    Node::with_config(with_admin, |node| async move {
        for isolation in [Isolation::Shared, Isolation::Schema, Isolation::Database] {
            let (scope, collection, _) = place(&node, isolation).await;
            let tenant = node.inner().tenancy.open_tenant(scope.tenant()).await.unwrap().unwrap();
            let connections = &node.inner().shared.connections;
            drop(connections.said());
            node.inner().begin_sessions(&tenant).await.unwrap();
            let known: Vec<_> = connections.said().into_iter().map(|(text, _)| text).collect();
            for _ in 0..2 {
                node.store
                    .write(&scope, &collection, WriteMode::Upsert, vec![record(1)])
                    .await
                    .unwrap();
            }
            let asked = connections.said();
            let of_records =
                asked.iter().filter(|(text, _)| text.contains(".records") || text.contains(".vec"));
            let of_records: Vec<_> = of_records.map(|(text, _)| text).collect();
            assert!(of_records.len() >= 6, "{isolation:?}: {of_records:?}");
            for text in of_records {
                assert!(known.contains(text), "{isolation:?}: {text}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_counted_for_whoever_arrives_unless_it_is_hardly_more_than_before() {
    Node::with_config(with_admin, |node| async move {
        for isolation in [Isolation::Shared, Isolation::Schema, Isolation::Database] {
            let (scope, _, schema) = place(&node, isolation).await;
            let tenant = node.inner().tenancy.open_tenant(scope.tenant()).await.unwrap().unwrap();
            let at = node.inner().place(&tenant).await.unwrap().target.database;
            let superuser = node.stand.superuser(&at).await;
            let off = format!("ALTER TABLE {schema}.records SET (autovacuum_enabled = false)");
            superuser.batch_execute(&off).await.unwrap();
            let number = scope.tenant().get().cast_signed();
            let counted = format!(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = '{schema}.records'::regclass"
            );
            // After so many of one collection. What a tenth more are is not looked at where others are.
            let expected = match isolation {
                Isolation::Shared => [20_000, 20_000],
                _ => [20_000, 21_000],
            };
            for (collection, rows, expected) in [(8, 20_000, expected[0]), (9, 1_000, expected[1])]
            {
                let fill = FILL.replace("{schema}", &schema).replace("20000", &rows.to_string());
                superuser.execute(&fill, &[&number, &collection]).await.unwrap();
                superuser.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
                node.inner().shared.survey_place(tenant.placement()).await.unwrap();
                let found: i64 = superuser.query_one(&counted, &[]).await.unwrap().get(0);
                assert_eq!(found, expected, "{isolation:?}");
            }
        }
    })
    .await;
}

/// Many rows of the tenant's that the statistics know nothing of, as after a move.
const FILL_CATALOG: &str = "INSERT INTO {schema}.catalog (tenant, family, key, row) \
     SELECT $1, f, decode(md5(n::text), 'hex'), decode(repeat('00', 1000), 'hex') \
     FROM generate_series(1, 40000) n, generate_series(16, 50) f WHERE n % 50 = f % 50";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_removed_by_their_index_in_a_table_that_nobody_has_counted() {
    Node::with_config(with_admin, |node| async move {
        let superuser = node.stand.superuser(node.stand.names.database()).await;
        for isolation in [Isolation::Shared, Isolation::Schema] {
            let (scope, collection, schema) = place(&node, isolation).await;
            let tenant = scope.tenant().get().cast_signed();
            let off = format!(
                "ALTER TABLE {schema}.catalog SET (autovacuum_enabled = false); \
                 ANALYZE {schema}.catalog"
            );
            superuser.batch_execute(&off).await.unwrap();
            let connections = &node.inner().shared.connections;
            drop(connections.said());
            node.store.delete_collection(&scope, &collection).await.unwrap();
            let fill = FILL_CATALOG.replace("{schema}", &schema);
            superuser.execute(&fill, &[&tenant]).await.unwrap();
            let is_one = |(text, _): &Said| {
                text.starts_with("DELETE FROM")
                    && text.contains(".catalog")
                    && text.contains("ANY ($3)")
            };
            let ones: Vec<_> = connections.said().into_iter().filter(is_one).collect();
            assert!(!ones.is_empty(), "nothing was removed");
            for (text, types) in &ones {
                for mode in ["force_custom_plan", "force_generic_plan"] {
                    superuser
                        .batch_execute(&format!("SET plan_cache_mode = {mode}"))
                        .await
                        .unwrap();
                    let plan = plan(&superuser, text, types, (tenant, 18)).await;
                    assert!(plan.contains("AND (key = ANY"), "{text}\n{plan}");
                    assert!(!plan.contains("Filter"), "{text}\n{plan}");
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_found_by_their_index_in_a_table_that_nobody_has_counted() {
    Node::with_config(with_admin, |node| async move {
        let superuser = node.stand.superuser(node.stand.names.database()).await;
        for isolation in [Isolation::Shared, Isolation::Schema] {
            let (scope, _, schema) = place(&node, isolation).await;
            let tenant = node.inner().tenancy.open_tenant(scope.tenant()).await.unwrap().unwrap();
            let number = scope.tenant().get().cast_signed();
            let off = format!("ALTER TABLE {schema}.catalog SET (autovacuum_enabled = false)");
            superuser.batch_execute(&off).await.unwrap();
            let fill = FILL_CATALOG.replace("{schema}", &schema);
            superuser.execute(&fill, &[&number]).await.unwrap();
            // Counted when somebody had left: many pages with hardly a row.
            let leave = format!(
                "DELETE FROM {schema}.catalog WHERE octet_length(row) = 1000; \
                 ANALYZE {schema}.catalog"
            );
            superuser.batch_execute(&leave).await.unwrap();
            superuser.execute(&fill, &[&number]).await.unwrap();
            let place = node.inner().place(&tenant).await.unwrap();
            let many = view::many(&place, &[keys::Head {}.encode(tenant.prefix())]).unwrap();
            let (text, types) = said(many);
            for mode in ["force_custom_plan", "force_generic_plan"] {
                superuser.batch_execute(&format!("SET plan_cache_mode = {mode}")).await.unwrap();
                let plan = plan(&superuser, &text, &types, (number, 0)).await;
                assert!(plan.contains("(family = g.family) AND (key = g.key))"), "{plan}");
                assert!(!plan.contains("Filter"), "{plan}");
            }
        }
    })
    .await;
}

/// How a statement is planned for 300 ids of this tenant's collection.
async fn plan(
    client: &Session,
    text: &str,
    types: &[Type],
    (tenant, collection): (i64, i32),
) -> String {
    let named: Vec<_> = types.iter().map(name_of_type).collect();
    let prepare = format!("PREPARE one ({}) AS {text}", named.join(", "));
    client.batch_execute(&prepare).await.unwrap_or_else(|why| panic!("{prepare}: {why:?}"));
    let keys = "(SELECT array_agg(decode(md5(n::text), 'hex')) FROM generate_series(1, 300) n)";
    let rows = client.simple_query(&format!("SELECT {keys}::text")).await.unwrap();
    let keys = first_column(&rows).concat();
    let value = |(at, of): (usize, &Type)| match at {
        0 => tenant.to_string(),
        1 if *of != Type::INT2_ARRAY => collection.to_string(),
        _ if *of == Type::BYTEA_ARRAY => format!("'{keys}'"),
        // Such that nothing is left out beforehand.
        _ if *of == Type::INT8 || *of == Type::INT2 => "10".to_owned(),
        _ if *of == Type::TEXT => "'1'".to_owned(),
        _ if [Type::INT2_ARRAY, Type::INT8_ARRAY, Type::TEXT_ARRAY].contains(of) => {
            "'{1}'".to_owned()
        }
        _ => "NULL".to_owned(),
    };
    let values: Vec<_> = types.iter().enumerate().map(value).collect();
    let explain = format!("EXPLAIN (COSTS OFF) EXECUTE one ({})", values.join(", "));
    let rows = client.simple_query(&explain).await.unwrap();
    client.batch_execute("DEALLOCATE one").await.unwrap();
    first_column(&rows).join("\n")
}

pub(super) fn first_column(rows: &[tokio_postgres::SimpleQueryMessage]) -> Vec<String> {
    let value = |message: &tokio_postgres::SimpleQueryMessage| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    rows.iter().filter_map(value).collect()
}
