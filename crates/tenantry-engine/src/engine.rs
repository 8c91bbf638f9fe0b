//! The engine itself: from a credential to a handle.

use crate::{
    Operator, Session,
    admission::Gate,
    archive::{ArchiveConfig, Archives},
    break_glass::{ACT_AS, Glass},
    census::Counts,
    compute::Bodies,
    denials::{CROSS_TENANT, DONE, Denials},
    issuer_keys::{self, KeyFetch},
    leases::{LeaseSource, SharedTotals, Sharing},
    logins::Logins,
    measured::Measured,
    metering::{self, Metering},
    placement::{self, Policy},
    provision::Provision,
    signup::SignUpRules,
    sources::{TenantSources, agreed},
    spending::Spending,
    webhooks::{self, Outbox, WebhookSend, WebhookTotals},
};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tenantry_auth::{
    Author, Authority, Credential, Level, Principal, Restriction, Scope, TenantId,
};
use tenantry_store::{AuditOutcome, AuditReason, Health, Store, StoreTotals, TenantInfo};
use tenantry_types::{
    Clock, Error, ErrorKind, PlanName, Resource, Result, TenantName, TenantState, Term, Timestamp,
};
use tokio::sync::Semaphore;

/// What an engine is made of.
#[derive(Debug)]
pub struct EngineConfig {
    /// Where data lives.
    pub store: Store,
    /// Who decides.
    pub authority: Authority,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// The action of opening a collection, which a scope for writing may see and not write.
pub(crate) const OPEN: &str = "collection.open";

/// Which tenant a request means. The credential decides whether it may.
#[derive(Debug, Clone, Copy)]
pub enum Select<'a> {
    /// The tenant that the credential belongs to.
    Own,
    /// The tenant with this name. For a tenant's key it must be its own.
    Named(&'a TenantName),
}

/// Counters since start, over all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records written.
    pub records_written: u64,
    /// Records deleted.
    pub records_deleted: u64,
    /// Query vectors answered.
    pub queries: u64,
    /// Refusals for a missing or wrong credential.
    pub unauthenticated: u64,
    /// Refusals for a missing right, attempts at other tenants included.
    pub denied: u64,
    /// Attempts at other tenants.
    pub cross_tenant_attempts: u64,
    /// Credentials that were not looked at, because too many from their address were refused.
    pub logins_turned_away: u64,
    /// Requests refused because a rate of their tenant was used up, or too many were under way.
    pub rate_limited: u64,
    /// Tenants that have used something of their rates and have not got it back.
    pub rated_tenants: u64,
    /// What the operator's endpoints were told.
    pub webhooks: WebhookTotals,
    /// How rates are shared with other nodes.
    pub shared: SharedTotals,
    /// The store's counters.
    pub store: StoreTotals,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records_written: AtomicU64,
    pub(crate) records_deleted: AtomicU64,
    pub(crate) queries: AtomicU64,
    unauthenticated: AtomicU64,
    denied: AtomicU64,
    cross_tenant_attempts: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) authority: Authority,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Counters,
    pub(crate) denials: Denials,
    /// Reads and refusals by limits of a minute, which are then handed to `denials`.
    pub(crate) reads: Denials,
    pub(crate) metering: Metering,
    pub(crate) spending: Spending,
    pub(crate) bodies: Bodies,
    pub(crate) gate: Gate,
    pub(crate) measured: Measured,
    pub(crate) counts: Counts,
    pub(crate) archives: Archives,
    pub(crate) outbox: Outbox,
    /// Why operators act in tenants.
    pub(crate) glass: Glass,
    /// Plans that may be made at once.
    pub(crate) planning: Semaphore,
    /// The policy that is followed.
    pub(crate) policy: OnceLock<Arc<Policy>>,
    /// How long a deletion can be taken back.
    pub(crate) grace: OnceLock<Duration>,
    /// The plan of new tenants of which nobody says another one.
    pub(crate) default_plan: OnceLock<PlanName>,
    /// What strangers get, if they make tenants.
    pub(crate) sign_up: OnceLock<SignUpRules>,
    /// What tenants get that are made when they are named, if any are.
    pub(crate) provision: OnceLock<Provision>,
    /// Whose credentials are refused too often, if that is bounded.
    pub(crate) logins: OnceLock<Logins>,
    /// The tenant that is served alone, if one is.
    pub(crate) single: OnceLock<TenantName>,
    /// What names tenants, if not all that could.
    pub(crate) sources: OnceLock<TenantSources>,
}

impl Inner {
    /// Passes on the outcome of an action, and notes in the tenant's audit log if it was refused
    /// for a missing right or by a limit. What is done is noted in its commit.
    pub(crate) fn watched<L: Level, T>(
        &self,
        scope: &Scope<L>,
        action: &str,
        target: &str,
        outcome: Result<T>,
    ) -> Result<T> {
        if let Err(error) = &outcome
            && error.kind() == ErrorKind::Denied
        {
            let reason = narrowed(scope.restriction());
            self.refuse((scope.tenant(), scope.author()), action, target, (error, reason));
        }
        if let Some(limit) = outcome.as_ref().err().and_then(Error::limit) {
            self.limited((scope.tenant(), scope.author()), action, target, limit);
        }
        outcome
    }

    pub(crate) fn refuse(
        &self,
        (tenant, by): (TenantId, Author<'_>),
        action: &str,
        target: &str,
        (why, reason): (&Error, AuditReason),
    ) {
        Counters::add(&self.counters.denied, 1);
        let outcome = (AuditOutcome::Refused(why.kind()), reason);
        self.denials.note((tenant, by), action, target, outcome);
    }

    /// Notes a refusal by a limit, summed up for a minute as reads are: whoever is refused a
    /// thousand times a second costs no more than who reads.
    pub(crate) fn limited(
        &self,
        log: (TenantId, Author<'_>),
        action: &str,
        target: &str,
        limit: Term,
    ) {
        let outcome = (AuditOutcome::Refused(ErrorKind::LimitExceeded), AuditReason::Limit(limit));
        self.reads.note(log, action, target, outcome);
    }

    /// What [`KeyRow::verify`](tenantry_auth::KeyRow::verify) says of a wrong key, and the authority
    /// of a wrong token.
    fn not_valid(who: &Principal) -> Error {
        let what = if who.is_user() { "token" } else { "API key" };
        Error::new(ErrorKind::Unauthenticated, format!("the {what} is not valid"))
    }
}

/// Why a session refuses what its level allows. Whoever is bound to a filter is refused for it,
/// whatever else narrows the key.
pub(crate) fn narrowed(restriction: &Restriction) -> AuditReason {
    match (&restriction.filter, &restriction.objects) {
        (Some(_), _) => AuditReason::Filter,
        (None, Some(_)) => AuditReason::Objects,
        (None, None) => AuditReason::None,
    }
}

/// Why nobody gets a session of this level.
fn refusal(who: &Principal, error: &Error) -> AuditReason {
    match error.kind() {
        ErrorKind::NotFound => AuditReason::ForeignTenant,
        // An operator has every role.
        ErrorKind::Denied if who.is_operator() => AuditReason::ActAs,
        ErrorKind::Denied => AuditReason::Role,
        _ => AuditReason::None,
    }
}

/// The engine. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

impl Engine {
    /// Starts an engine. Must be called inside a tokio runtime, which runs its background work.
    pub fn start(config: EngineConfig) -> Self {
        Self::start_with(config, ArchiveConfig::default())
    }

    /// [`Engine::start`] with a place of its own for archives.
    pub fn start_with(config: EngineConfig, archives: ArchiveConfig) -> Self {
        let engine = Self(Arc::new(Inner {
            bodies: Bodies::new(config.store.pool().places()),
            store: config.store,
            authority: config.authority,
            clock: config.clock,
            counters: Counters::default(),
            denials: Denials::default(),
            reads: Denials::default(),
            metering: Metering::default(),
            spending: Spending::default(),
            gate: Gate::default(),
            measured: Measured::default(),
            counts: Counts::default(),
            archives: Archives::new(archives),
            outbox: Outbox::default(),
            glass: Glass::default(),
            planning: Semaphore::new(placement::AT_ONCE),
            policy: OnceLock::new(),
            grace: OnceLock::new(),
            default_plan: OnceLock::new(),
            sign_up: OnceLock::new(),
            provision: OnceLock::new(),
            logins: OnceLock::new(),
            single: OnceLock::new(),
            sources: OnceLock::new(),
        }));
        crate::denials::spawn_flusher(&engine.0);
        crate::admission::spawn_sweeper(&engine.0);
        metering::spawn(&engine.0);
        engine
    }

    /// Lets deletions be taken back for so long from now on, which may be no time at all, and erases
    /// the tenants whose time has come, also those of before. Called once, at start.
    pub fn keep_deleted(&self, grace: Duration) {
        let _ = self.0.grace.set(grace);
        crate::operator::grace::spawn_eraser(&self.0);
    }

    /// Erases all deleted tenants whose time has come. Whoever was told to
    /// [`Engine::keep_deleted`] does so by itself.
    pub async fn erase_due(&self) -> Result<()> {
        let scope = self.0.authority.system("erase deleted tenants");
        self.0.store.erase_due(&scope).await
    }

    /// Gives new tenants this plan from now on if nobody says another one. A plan that does not exist
    /// then is a refusal: nobody is made with more than was meant. Counts once.
    pub fn give_new_tenants(&self, plan: PlanName) {
        let _ = self.0.default_plan.set(plan);
    }

    /// Moves tenants by themselves as this policy says, from now on, if this is the process that moves
    /// tenants. Called once, at start.
    pub fn follow(&self, policy: Policy) {
        let policy = Arc::clone(self.0.policy.get_or_init(|| Arc::new(policy)));
        placement::spawn(&self.0, policy);
    }

    /// Who presents this key or token of an issuer; `None` means that nothing was presented. Must
    /// precede everything else that a listener does with a request.
    ///
    /// The principal stands for this one request: a key that is revoked, expires or loses its
    /// tenant is refused from the next call on, but a principal that exists is not called back.
    pub async fn authenticate(&self, token: Option<&str>) -> Result<Principal> {
        let outcome = self.identify(token).await;
        if let Err(error) = &outcome
            && let Some(why) = std::error::Error::source(error)
        {
            tracing::debug!(%why, "a credential was refused");
        }
        if matches!(&outcome, Err(e) if e.kind() == ErrorKind::Unauthenticated) {
            Counters::add(&self.0.counters.unauthenticated, 1);
        }
        outcome
    }

    async fn identify(&self, token: Option<&str>) -> Result<Principal> {
        let credential = token.map_or(Ok(Credential::None), Credential::parse)?;
        let now = self.0.clock.now();
        let who = self.0.authority.authenticate(credential, &self.0.store, now).await?;
        // An erased tenant's keys are removed in the background; until then they are refused here, as
        // those of one are that can be restored.
        if let Some(tenant) = who.bound_to() {
            let found = self.0.store.tenant_by_id(tenant).await?;
            let is_there = |info: &TenantInfo| info.erase_at.is_none() && self.0.serves(&info.name);
            if !found.is_some_and(|info| is_there(&info)) {
                return Err(Inner::not_valid(&who));
            }
        }
        issuer_keys::check_bound(&who)?;
        Ok(who)
    }

    /// Fetches the keys of those issuers of tokens whose keys are elsewhere, now and again and again.
    /// Called once, at start.
    pub fn fetch_keys(&self, with: Arc<dyn KeyFetch>) {
        issuer_keys::spawn(&self.0, &with);
    }

    /// Tells the operator's endpoints what happens, from now on, also what was to be told before.
    /// Called once, at start. Without it what is to be told waits.
    pub fn send_webhooks(&self, with: Arc<dyn WebhookSend>) {
        webhooks::spawn(&self.0, with);
    }

    /// Shares the rates of all tenants with other nodes, by a source that they ask, too. Without its
    /// answer in time each goes on with its part, or refuses, as the tenant's plan says.
    /// Requests at the same time are counted by each node for itself. Counts once.
    pub fn share_rates(&self, source: Arc<dyn LeaseSource>, sharing: Sharing) {
        self.0.gate.share(source, sharing);
    }

    /// True if the server runs without authentication (`--dev`).
    pub fn is_development(&self) -> bool {
        self.0.authority.is_development()
    }

    /// The present, by the engine's clock.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The handle that manages tenants, for an operator.
    pub fn operator(&self, who: &Principal) -> Result<Operator> {
        match self.0.authority.authorize_operator(who) {
            Ok(scope) => Ok(Operator::new(Arc::clone(&self.0), scope)),
            Err(error) => {
                let tenant = who.tenant().unwrap_or(TenantId::INSTALLATION);
                let actor = who.to_string();
                let by = Author::new(&actor, who.request());
                let why = (&error, AuditReason::Role);
                self.0.refuse((tenant, by), "operator", "installation", why);
                Err(error)
            }
        }
    }

    /// A session of `who` in the selected tenant at level `L`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a tenant that does not exist or is not the caller's: the two
    /// cannot be told apart. [`ErrorKind::Denied`] if the role does not reach `L`, or for an operator
    /// key that may not open tenants, or states no reason where it must.
    /// [`ErrorKind::Suspended`] for the caller's own suspended tenant.
    /// [`ErrorKind::Unavailable`] if an operator's reason cannot be written to the tenant's log.
    pub async fn session<L: Level>(
        &self,
        who: &Principal,
        select: Select<'_>,
    ) -> Result<Session<L>> {
        self.check_reason(who, select)?;
        let tenant = self.select(who, select).await?;
        let name = tenant.name.as_str();
        let scope = match self.0.authority.authorize::<L>(who, tenant.id, name) {
            Ok(scope) => scope,
            Err(error) => return Err(self.refused::<L>(who, &tenant, error)),
        };
        if tenant.erase_at.is_some() {
            // Whoever is no operator was told nothing but this since it was deleted.
            if !who.is_operator() {
                return Err(Inner::not_valid(who));
            }
            let why = "this tenant is deleted; restore it first";
            return Err(Error::new(ErrorKind::Conflict, why));
        }
        match tenant.state {
            TenantState::Active => {}
            // The operator may look at a suspended tenant, to repair or export it.
            TenantState::Suspended if who.is_operator() => {}
            TenantState::Suspended => {
                let why = "this tenant is suspended; ask the operator to resume it";
                let error = Error::new(ErrorKind::Suspended, why);
                return Err(self.refused::<L>(who, &tenant, error));
            }
            TenantState::Deleted | TenantState::Provisioning => {
                return Err(Error::not_found(Resource::Tenant, name));
            }
        }
        if who.is_operator() && !who.is_development() {
            if let Some(reason) = who.reason() {
                // Not in every request's future.
                Box::pin(self.0.break_glass(who, &tenant, reason)).await?;
            }
            let log = (tenant.id, scope.author());
            self.0.denials.note(log, ACT_AS, L::ROLE.word(), DONE);
        }
        self.0.store.pool().bill_here(tenant.id);
        let mut session = Session::new(Arc::clone(&self.0), scope, tenant);
        session.is_admin = who.role() >= tenantry_auth::Role::Admin;
        Ok(session)
    }

    /// Refuses a credential of one tenant at an address that names another one, or none that exists,
    /// with the answer of [`Engine::session`], and every caller whose path names none, or who names one
    /// by what does not count here. To be asked before every route, since some open no session.
    pub async fn check_address(&self, who: &Principal) -> Result<()> {
        self.addresses(who)?;
        if who.bound_to().is_some() && who.addressed().is_some() {
            self.select(who, Select::Own).await?;
        }
        Ok(())
    }

    fn refused<L: Level>(&self, who: &Principal, tenant: &TenantInfo, error: Error) -> Error {
        let action = format!("session.{}", L::ROLE.word());
        let actor = who.to_string();
        let log = (tenant.id, Author::new(&actor, who.request()));
        let why = (&error, refusal(who, &error));
        self.0.refuse(log, &action, tenant.name.as_str(), why);
        error
    }

    /// The tenant that a request means, refused with one answer for foreign and missing alike.
    async fn select(&self, who: &Principal, select: Select<'_>) -> Result<Arc<TenantInfo>> {
        let store = &self.0.store;
        let named = match select {
            Select::Named(name) => Some(name),
            Select::Own => None,
        };
        let [host, path, header] = self.addresses(who)?;
        if let Some(own) = who.bound_to() {
            let info = store.tenant_by_id(own).await?.filter(|info| self.0.serves(&info.name));
            let info = info.ok_or_else(|| Inner::not_valid(who))?;
            let mut said = [host, path, header, named].into_iter().flatten();
            return match said.find(|name| info.name != **name) {
                Some(foreign) => Err(self.cross_tenant(who, own, foreign)),
                None => Ok(info),
            };
        }
        let said =
            agreed([("host", host), ("path", path), ("header", header), ("request", named)])?;
        match said.or(self.single_tenant()) {
            Some(name) => match self.0.find_tenant(name).await? {
                Some(found) => Ok(found),
                // Not in every request's future.
                None if self.0.serves(name) => Box::pin(self.provisioned(who, name)).await,
                None => Err(Error::not_found(Resource::Tenant, name.as_str())),
            },
            None => {
                Err(Error::invalid("an operator belongs to no tenant: name the tenant to act in"))
            }
        }
    }

    /// The answer to a tenant's key or token that names another tenant: the same work and the same
    /// words whether that tenant exists or not, because nobody looks.
    fn cross_tenant(&self, who: &Principal, own: TenantId, name: &TenantName) -> Error {
        let error = Error::not_found(Resource::Tenant, name.as_str());
        let (actor, reason) = (who.to_string(), AuditReason::ForeignTenant);
        let by = Author::new(&actor, who.request());
        let outcome = (AuditOutcome::Refused(error.kind()), reason);
        Counters::add(&self.0.counters.cross_tenant_attempts, 1);
        self.0.refuse((own, by), CROSS_TENANT, name.as_str(), (&error, reason));
        // Quoted: a name may be any text, also of another entry.
        let told = format!("tenant {own} tried {:?}", name.as_str());
        self.0.denials.note_of(own, (TenantId::INSTALLATION, by), CROSS_TENANT, (&told, outcome));
        self.0.outbox.attempts.note(own, &actor, name);
        error
    }

    /// Whether data can be served.
    pub fn health(&self) -> Health {
        self.0.store.health()
    }

    /// Counters since start.
    pub fn totals(&self) -> Totals {
        let c = &self.0.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            records_written: get(&c.records_written),
            records_deleted: get(&c.records_deleted),
            queries: get(&c.queries),
            unauthenticated: get(&c.unauthenticated),
            denied: get(&c.denied),
            cross_tenant_attempts: get(&c.cross_tenant_attempts),
            logins_turned_away: self.0.logins.get().map_or(0, Logins::turned_away),
            rate_limited: self.0.gate.refused(),
            rated_tenants: self.0.gate.tenants() as u64,
            webhooks: self.0.outbox.totals(),
            shared: self.0.gate.shared(),
            store: self.0.store.totals(),
        }
    }

    /// Makes the operator key of a new installation; `None` if there is an operator key already.
    /// Called once at start, before any listener opens.
    pub async fn first_operator_key(&self) -> Result<Option<String>> {
        let scope = self.0.authority.authorize_operator(&self.0.authority.local_operator())?;
        if !self.0.store.operator_keys(&scope).await?.is_empty() {
            return Ok(None);
        }
        let (_, key) =
            self.0.store.create_operator_key(&scope, true, "first operator key", None).await?;
        Ok(Some(key.reveal()))
    }

    /// A principal for the command line on a data folder that no server holds: whoever can read
    /// the folder and its master key is the operator. Never for a caller from outside.
    #[expect(clippy::unused_async, reason = "callers treat it like `authenticate`")]
    pub async fn local_operator(&self) -> Result<Principal> {
        Ok(self.0.authority.local_operator())
    }

    /// Writes what is still pending and closes the store. Requests that were accepted must have
    /// been answered before. What a tenant's database elsewhere does not take is lost, and said in
    /// the log.
    pub async fn shutdown(&self) -> Result<()> {
        let flushed = crate::denials::flush_last(&self.0).await;
        let flushed = flushed.and(metering::flush(&self.0).await);
        crate::break_glass::tell_last(&self.0).await;
        self.0.store.close();
        flushed
    }
}
