//! What a store means. Every backend passes every case of this suite; what a backend cannot do
//! is written down beside its call.

mod cases;
mod plans;
mod vectors;

use std::{pin::Pin, sync::Arc};
use tenantry_auth::{Admin, Authority, Credential, OperatorScope, Principal, Scope, TenantId};
use tenantry_store::{CollectionRef, DatabaseRef, Store};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, GetRequest, Include, MemoryStatistics,
    OwnDatabase, QueryRequest, RecordId, RecordWrite, Result, Selector, TenantName, TenantSpec,
    Timestamp, Value, WriteMode,
};

tokio::task_local! {
    /// Makes a database for each tenant of the cases, to be carried by it.
    pub(crate) static OWN: Arc<dyn Fn() -> BoxFuture<OwnDatabase> + Send + Sync>;
}

/// What makes a database takes a while.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs each case on a store of its own. `make` returns a new, empty store and whatever keeps it
/// alive.
macro_rules! run {
    ($make:ident, $module:ident: $($case:ident),* $(,)?) => {$({
        let (store, _keep) = Box::pin($make()).await;
        let world = Box::pin(World::new(&store)).await;
        Box::pin($module::$case(&world)).await;
        store.close();
    })*};
}

/// Runs every case.
pub(crate) async fn run_all<K>(make: impl AsyncFn() -> (Store, K)) {
    run_catalogs(&make).await;
    run_records(&make).await;
}

/// Cases of tenants, keys, logs and catalogs: they need no records.
pub(crate) async fn run_catalogs<K>(make: &impl AsyncFn() -> (Store, K)) {
    run!(
        make, cases:
        tenants_live_and_die,
        two_creations_of_one_name_make_one_tenant,
        databases_come_and_go,
        a_collection_changes_and_keeps_its_id,
        keys_are_found_until_revoked,
        an_operator_who_waits_is_looked_at_again,
    );
}

/// Cases of plans.
pub(crate) async fn run_plans<K>(make: &impl AsyncFn() -> (Store, K)) {
    run!(
        make, plans:
        plans_come_and_go,
        a_tenant_without_a_plan_has_what_it_was_given,
        a_plan_counts_from_the_moment_it_is_changed,
        every_stock_of_a_plan_is_asked_in_the_commit,
        an_exception_counts_before_the_plan_until_it_ends,
        a_plan_that_a_tenant_has_is_not_deleted,
        a_new_tenant_has_its_plan_from_the_first_commit_on,
        a_plan_is_not_deleted_while_a_tenant_is_made_with_it,
        exceptions_are_made_and_ended_one_by_one,
    );
}

/// Makes a tenant of a store.
pub(crate) async fn made_tenant(store: &Store, name: &str) -> TenantId {
    World::new(store).await.tenant(name).await.tenant()
}

/// Gives a tenant a plan with so many databases, which is made for it.
pub(crate) async fn try_plan(store: &Store, name: &str, databases: u32) -> Result<()> {
    plans::give(&World::new(store).await, name, databases).await
}

/// Takes that plan from it again, and deletes it.
pub(crate) async fn take_plan(store: &Store, name: &str) -> Result<()> {
    plans::take(&World::new(store).await, name).await
}

/// Cases with records.
pub(crate) async fn run_records<K>(make: &impl AsyncFn() -> (Store, K)) {
    run!(
        make, cases:
        tenant_names_are_data,
        a_deleted_tenant_is_out_of_reach_of_old_scopes,
        collections_come_and_go,
        deleting_a_database_deletes_its_collections,
        writing_modes_do_what_they_say,
        a_batch_is_atomic,
        metadata_merges_by_key,
        order_is_the_order_of_insertion,
        gets_are_the_same_cold_and_hot,
        filters_select,
        queries_find_the_nearest,
        deletes_select,
        every_commit_grows_the_version,
        the_dimension_is_set_once,
        things_of_another_tenant_do_not_exist,
        limits_hold_where_the_write_commits,
        a_right_that_was_taken_away_stops_at_its_next_use,
        limited_scopes_see_only_their_objects,
        a_bound_filter_holds_on_every_path,
        audit_chains_verify,
        many_writers_at_once_lose_nothing,
        an_operator_sees_how_much_a_tenant_has_in_numbers,
    );
    run!(
        make, vectors:
        each_name_has_its_own_metric_and_dimension,
        what_a_write_does_not_name_stays,
        vectors_that_do_not_fit_are_refused,
        rounded_vectors_belong_to_the_version_that_was_found,
        named_vectors_of_another_tenant_do_not_exist,
        distances_are_numbers_whatever_the_vectors,
    );
}

/// Cases that need a collection of some 70 MiB to fit. Returns what collections of full, half and
/// 8-bit vectors take in memory.
pub(crate) async fn run_large<K>(
    make: impl AsyncFn() -> (Store, K),
) -> Vec<Option<MemoryStatistics>> {
    let (store, _keep) = Box::pin(make()).await;
    let world = Box::pin(World::new(&store)).await;
    Box::pin(cases::an_answer_has_a_largest_size(&world)).await;
    let memory = vectors::rounded_vectors_come_back_as_they_were_given(&world).await;
    store.close();
    memory
}

/// A store with an operator.
pub(crate) struct World<'a> {
    pub(crate) store: &'a Store,
    pub(crate) authority: Authority,
    pub(crate) principal: Principal,
    pub(crate) operator: OperatorScope,
}

impl<'a> World<'a> {
    async fn new(store: &'a Store) -> Self {
        let authority = Authority::development();
        let principal =
            authority.authenticate(Credential::None, store, Timestamp(0)).await.expect("operator");
        let operator = authority.authorize_operator(&principal).expect("operator");
        Self { store, authority, principal, operator }
    }

    pub(crate) fn scope(&self, tenant: TenantId) -> Scope<Admin> {
        self.authority.authorize(&self.principal, tenant, "tenant").expect("scope")
    }

    /// A new tenant with its scope.
    pub(crate) async fn tenant(&self, name: &str) -> Scope<Admin> {
        let own_database = match OWN.try_with(Clone::clone) {
            Ok(make) => Some(make().await),
            Err(_) => None,
        };
        let name = TenantName::parse(name).expect("name");
        let spec = TenantSpec { own_database, ..TenantSpec::new(name) };
        let info = self.store.create_tenant(&self.operator, &spec).await.expect("tenant");
        self.scope(info.id)
    }

    pub(crate) async fn database(&self, scope: &Scope<Admin>) -> DatabaseRef {
        let name = DatabaseName::default_database();
        self.store.database(scope, &name).await.expect("database")
    }

    /// A new tenant with a collection in its default database.
    pub(crate) async fn collection(&self, tenant: &str) -> (Scope<Admin>, CollectionRef) {
        let scope = self.tenant(tenant).await;
        let database = self.database(&scope).await;
        let made = self.store.create_collection(&scope, &database, &spec("c"), false).await;
        (scope, made.expect("collection").0)
    }

    pub(crate) async fn ids(&self, scope: &Scope<Admin>, c: &CollectionRef) -> Vec<String> {
        let got = self.store.get(scope, c, &GetRequest::default()).await.expect("get").value;
        got.into_iter().map(|record| record.id.into_string()).collect()
    }
}

pub(crate) fn spec(name: &str) -> CollectionSpec {
    CollectionSpec::new(CollectionName::parse(name).expect("name"))
}

pub(crate) fn id(id: &str) -> RecordId {
    RecordId::parse(id).expect("id")
}

/// A record with a vector (1, x) and one metadata key.
pub(crate) fn record(name: &str, x: f32, metadata: &[(&str, Value)]) -> RecordWrite {
    RecordWrite {
        vector: Some(vec![1.0, x]),
        document: Some(format!("text of {name}")),
        metadata: metadata.iter().map(|(k, v)| ((*k).to_owned(), Some(v.clone()))).collect(),
        ..RecordWrite::new(id(name))
    }
}

pub(crate) fn only(ids: &[&str]) -> Selector {
    Selector { ids: Some(ids.iter().map(|one| id(one)).collect()), filter: None }
}

pub(crate) fn all_parts() -> Include {
    Include { vector: true, vectors: true, document: true, uri: true, metadata: true }
}

pub(crate) fn nearest(vector: [f32; 2], k: usize) -> QueryRequest {
    QueryRequest {
        vectors: vec![vector.to_vec()],
        k,
        include: all_parts(),
        ..QueryRequest::default()
    }
}

pub(crate) const UPSERT: WriteMode = WriteMode::Upsert;
