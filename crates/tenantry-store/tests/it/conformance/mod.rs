//! What a store means. Every backend passes every case of this suite; what a backend cannot do
//! is written down beside its call.

mod budgets;
mod cases;
mod events;
mod grace;
pub(crate) mod groups;
pub(crate) mod members;
mod plans;
mod stock;
mod usage;
mod vectors;
mod webhooks;

use std::{pin::Pin, sync::Arc};
use tenantry_auth::{Admin, Authority, Credential, OperatorScope, Principal, Scope, TenantId};
use tenantry_store::{CollectionRef, DatabaseRef, Store, TenantInfo};
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
        a_dimension_is_bounded_where_it_is_fixed,
        a_tenant_gets_no_plan_that_does_not_have_it_live_where_it_does,
        a_tenant_is_made_where_its_plan_has_tenants_live,
        an_exception_counts_before_the_plan_until_it_ends,
        a_plan_that_a_tenant_has_is_not_deleted,
        a_new_tenant_has_its_plan_from_the_first_commit_on,
        a_plan_is_not_deleted_while_a_tenant_is_made_with_it,
        exceptions_are_made_and_ended_one_by_one,
        limits_that_are_changed_at_once_are_all_kept,
    );
}

/// Cases of members and their groups.
pub(crate) async fn run_members<K>(make: &impl AsyncFn() -> (Store, K)) {
    run!(
        make, members:
        members_come_and_go,
        one_owner_remains_whoever_races,
        members_are_never_more_than_the_limit,
        members_go_with_their_tenant,
        a_members_right_is_looked_at_again,
        nobody_gives_more_than_they_have,
    );
    run!(
        make, groups:
        groups_come_and_go,
        groups_have_one_name_and_a_bound,
        a_guest_reaches_what_its_groups_give,
        objects_have_their_present_names,
        groups_add_nothing_to_whoever_has_a_role,
        whoever_may_write_a_database_makes_collections_in_it,
        a_guests_right_ends_with_what_gave_it,
        a_group_that_is_made_anew_has_no_members,
        the_log_says_who_was_in_a_group,
        groups_go_with_their_tenant,
    );
}

/// Cases of usage.
pub(crate) async fn run_usage<K>(make: &impl AsyncFn() -> (Store, K)) {
    run!(
        make, usage:
        a_write_counts_in_its_commit_and_once,
        what_changes_nothing_counts_nothing,
        a_journal_counts_once_under_its_number,
        a_node_that_is_forgotten_goes_on_under_another_id,
        usage_of_another_tenant_is_not_seen,
        a_deleted_collection_is_not_kept,
    );
}

/// Cases of budgets.
pub(crate) async fn run_budgets<K>(make: &impl AsyncFn() -> (Store, K)) {
    run!(
        make, budgets:
        a_look_says_what_bills_say_and_writes_nothing,
        what_is_kept_costs_without_a_commit,
        what_is_kept_for_a_day_is_taken_over_once,
        each_part_of_a_budget_is_told_once,
        a_budget_of_which_nobody_wants_to_know_is_told_later,
        what_was_told_goes_with_its_tenant,
    );
}

/// Cases of what applications report.
pub(crate) async fn run_events<K>(make: &impl AsyncFn() -> (Store, K)) {
    run!(
        make, events:
        an_event_counts_once,
        an_id_that_stands_for_something_else_counts_nothing,
        the_largest_report_is_counted_whole,
        a_quota_of_a_day_is_passed_by_nobody_who_holds_to_it,
        what_is_reported_is_on_the_bill,
        nobody_reports_for_a_tenant_that_is_gone,
    );
}

/// Cases of endpoints that are told what happens.
pub(crate) async fn run_webhooks<K>(make: &impl AsyncFn() -> (Store, K)) {
    run!(
        make, webhooks:
        webhooks_come_and_go,
        there_are_so_many_webhooks_and_no_more,
        nobody_is_told_who_does_not_want_to_know,
        a_tenants_life_is_told_in_its_commits,
        what_is_refused_is_told_nobody,
        one_claim_of_an_event_is_one_and_ends,
        what_does_not_arrive_is_kept_sent_again_or_forgotten,
        a_test_and_an_attempt_are_told_and_signed_by_both_secrets,
    );
}

/// Cases of what is kept.
pub(crate) async fn run_stocks<K>(make: &impl AsyncFn() -> (Store, K)) {
    run!(
        make, stock:
        the_stock_is_the_sum_of_what_is_there,
        bytes_that_are_kept_count_over_time,
        a_quota_of_bytes_is_never_passed,
        a_quota_of_records_is_never_passed,
        records_are_limited_in_all_collections_together,
        whoever_keeps_too_much_can_keep_less,
        the_total_is_what_living_tenants_keep,
    );
}

/// Cases of what a tenant's row says of its name, its making and its end.
pub(crate) async fn run_graces<K>(make: &impl AsyncFn() -> (Store, K)) {
    run!(
        make, grace:
        a_name_has_a_date,
        a_restored_tenant_is_what_it_was,
        a_deleted_tenants_key_is_refused_until_it_is_restored,
        a_tenant_is_erased_when_its_time_has_come,
        one_restores_or_one_erases,
    );
}

/// Makes a tenant of which the row has all that it can have, and deletes it for a while; what it is.
pub(crate) async fn made_rich(store: &Store, name: &str) -> TenantInfo {
    let world = World::new(store).await;
    grace::rich(&world, name).await;
    let name = TenantName::parse(name).expect("name");
    store.retire_tenant(&world.operator, &name, Timestamp(u64::MAX)).await.expect("deleted")
}

/// Two nodes: what one has written is told by one of them, once.
pub(crate) async fn told_once_by_two(one: &Store, two: &Store) {
    webhooks::told_once_by_two(&World::new(one).await, &World::new(two).await).await;
}

/// Two nodes that look at the same time: each part of a budget is told once.
pub(crate) async fn thresholds_once_by_two(one: &Store, two: &Store) {
    budgets::told_once_by_two(&World::new(one).await, &World::new(two).await).await;
}

/// Two nodes: what both are told counts once.
pub(crate) async fn counted_once_by_two(one: &Store, two: &Store) {
    events::counted_once_by_two(&World::new(one).await, &World::new(two).await).await;
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
