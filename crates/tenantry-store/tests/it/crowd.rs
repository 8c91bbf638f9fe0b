//! Many tenants: at once, and idle.

use crate::stand::{Stand, arguments, record, tenant};
use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};
use tenantry_auth::{Admin, Scope};
use tenantry_store::CollectionRef;
use tenantry_types::{Page, TenantSpec, WriteMode};

const FOLDER: &str = "TENANTRY_SLOW_DISK_FOLDER";
/// How much longer a synchronisation takes, in microseconds.
const SYNC_US: u64 = 20_000;
/// Open tenants that are kept at most (`OPEN_TENANTS_MAX` of the embedded store), and a few that
/// were in use at the moment.
const OPEN_MAX: u64 = 4_096 + 64;

/// Works where each synchronisation takes [`SYNC_US`] longer, so that the disk is what the
/// writers wait for, however busy the machine is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_with_a_slow_disk() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let stand = Arc::new(Stand::open(Path::new(&folder)).await);
    let mut makers = tokio::task::JoinSet::new();
    for n in 0..64 {
        let stand = Arc::clone(&stand);
        makers.spawn(async move { stand.tenant_with_collection(&format!("t{n}")).await });
    }
    let places = makers.join_all().await;
    let before = stand.store.totals();
    write_all(&stand, &places).await;
    let after = stand.store.totals();
    let (commits, syncs) = (after.commits - before.commits, after.syncs - before.syncs);
    assert_eq!(commits, 64 * 20);
    assert!(syncs > 0 && commits > 4 * syncs, "{commits} commits took {syncs} synchronisations");
    println!("shared");
}

#[test]
fn writers_of_many_tenants_share_synchronisations() {
    let dir = tempfile::tempdir().expect("a folder");
    let output = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync", "-e"])
        .arg(format!("inject=fdatasync:delay_exit={SYNC_US}"))
        .arg(std::env::current_exe().expect("this test binary"))
        .args(arguments("crowd::child_with_a_slow_disk"))
        .env(FOLDER, dir.path())
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(why) => panic!("this test needs strace (`apt-get install strace`): {why}"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("shared"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// Twenty writes of each tenant, one after another; all tenants at once.
async fn write_all(stand: &Arc<Stand>, places: &[(Scope<Admin>, CollectionRef)]) {
    let mut writers = tokio::task::JoinSet::new();
    for (scope, collection) in places {
        let (stand, scope, collection) = (Arc::clone(stand), scope.clone(), collection.clone());
        writers.spawn(async move {
            for n in 0..20 {
                let batch = vec![record(&n.to_string(), vec![1.0, 2.0], &[])];
                let written = stand.store.write(&scope, &collection, WriteMode::Upsert, batch);
                written.await.expect("write");
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("writer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_tenants_cost_rows_only() {
    const TENANTS: usize = 10_000;
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Arc::new(Stand::open(dir.path()).await);
    let mut makers = tokio::task::JoinSet::new();
    for maker in 0..200 {
        let stand = Arc::clone(&stand);
        makers.spawn(async move {
            for n in 0..TENANTS / 200 {
                let mut spec = TenantSpec::new(tenant(&format!("t-{maker:03}-{n:03}")));
                spec.default_database = n % 10 == 0;
                stand.store.create_tenant(&stand.operator, &spec).await.expect("create");
            }
        });
    }
    while let Some(maker) = makers.join_next().await {
        maker.expect("maker");
    }
    Arc::into_inner(stand).expect("the makers are done").close();

    let start = Instant::now();
    let stand = Stand::open(dir.path()).await;
    let opening = start.elapsed();
    assert!(opening.as_secs_f64() < 3.0, "opening took {opening:?}");
    // The installation's own, for the check at the start.
    assert!(stand.store.totals().open_tenants <= 1, "{:?}", stand.store.totals());

    let mut after = None;
    let mut seen = 0;
    loop {
        let page = stand.store.tenants(&stand.operator, after.as_ref(), 1_000).await;
        let page = page.expect("list");
        let Some(last) = page.last() else { break };
        seen += page.len();
        after = Some(last.name.clone());
        let open = stand.store.totals().open_tenants;
        assert!(open <= OPEN_MAX, "{open} tenants are open");
    }
    assert_eq!(seen, TENANTS);
    let first = stand.store.find_tenant(&tenant("t-000-000")).await.expect("find").expect("it");
    let databases = stand.store.databases(&stand.scope(first.id), Page::default()).await;
    assert_eq!(databases.expect("databases").len(), 1);
    stand.close();
}
