//! Tenants that strangers make for themselves.
//!
//! What they get is the operator's to say: the plan, what is in the tenant from the start, and how
//! often. The tenant is filled like an imported one: nobody sees it before it has all of that and its
//! first key, and if the process ends before, it is deleted.

use crate::{
    Engine, Operator, Session,
    limiter::{Limiter, Refused},
    validate,
};
use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};
use tenantry_auth::{Admin, RequestId, Restriction, Role, TenantId};
use tenantry_store::{Arrival, Arrived, NewKey, TenantInfo};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, Email, Error, ErrorKind, Isolation, Limits,
    PlanName, Rates, Resource, Result, TenantName, TenantSpec,
};

/// Of an address of version 6, the bits that one subscriber has, who may have many networks below.
const SUBSCRIBER_BITS: u32 = 56;

/// What a new tenant gets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SignUpRules {
    /// Its plan; the installation's for new tenants if absent.
    pub plan: Option<PlanName>,
    /// Databases that it has from the start, beside the default one, with their collections.
    pub template: Vec<(DatabaseName, Vec<CollectionName>)>,
    /// How often one address may ask.
    pub by_address: Rates,
    /// How often all may together.
    pub in_all: Rates,
}

impl SignUpRules {
    /// The plan of strangers.
    fn plan_or<'r>(&'r self, usual: Option<&'r PlanName>) -> Option<&'r PlanName> {
        self.plan.as_ref().or(usual)
    }

    /// Fails if a tenant with these limits has no room for what it gets from the start, as
    /// [`SignUp::make`] would.
    fn check_room(&self, limits: &Limits) -> Result<()> {
        let mut databases = BTreeSet::from([DatabaseName::default_database()]);
        let mut collections = BTreeSet::new();
        for (database, all) in &self.template {
            if !databases.contains(database) {
                limits.room_for_database(databases.len())?;
                databases.insert(database.clone());
            }
            for collection in all {
                if !collections.contains(&(database, collection)) {
                    limits.room_for_collection(collections.len())?;
                    collections.insert((database, collection));
                }
            }
        }
        limits.room_for_key(0)
    }
}

impl Operator {
    /// Fails if no stranger could get a tenant by these rules as things are.
    ///
    /// # Errors
    /// Those of [`Operator::check_plan`], and [`ErrorKind::LimitExceeded`] if the plan has no room for
    /// what such a tenant gets from the start.
    pub async fn check_sign_up(&self, rules: &SignUpRules) -> Result<()> {
        let plan = rules.plan_or(self.inner.default_plan.get());
        let Some(plan) = plan else { return rules.check_room(&Limits::default()) };
        let plan = self.plan_for_new(plan, Some(Isolation::Shared)).await?;
        rules.check_room(&plan.allowance.limits)
    }

    /// Warns if a plan that says something else now is that of strangers, who get no tenant by it.
    pub(crate) async fn look_at_sign_up(&self, plan: &PlanName) {
        let Some(rules) = self.inner.sign_up.get() else { return };
        if rules.plan_or(self.inner.default_plan.get()) != Some(plan) {
            return;
        }
        if let Err(why) = self.check_sign_up(rules).await {
            tracing::warn!(%plan, "signup: strangers get no tenant by what its plan says now: {why}");
        }
    }
}

/// Lets strangers make tenants.
#[derive(Debug)]
pub struct SignUp {
    engine: Engine,
    rules: SignUpRules,
    /// By a keyed hash of the address, so that nobody chooses whose entry is his.
    limiter: Limiter,
    keys: RandomState,
    began: Instant,
}

impl SignUp {
    /// A handle with these rules. Rates hold for this process.
    pub fn new(engine: Engine, rules: SignUpRules) -> Self {
        // For whoever changes their plan.
        let _ = engine.0.sign_up.set(rules.clone());
        let (limiter, keys, began) = (Limiter::default(), RandomState::new(), Instant::now());
        Self { engine, rules, limiter, keys, began }
    }

    /// Fails if this address may ask for no tenant now, and counts nothing. To be asked before anything
    /// of the request is read; an address that is not known is one like any other.
    pub fn look(&self, address: Option<IpAddr>) -> Result<()> {
        let now = self.now();
        self.ask_if_used_up(TenantId::INSTALLATION, &self.rules.in_all, now)?;
        self.ask_if_used_up(self.whose(address), &self.rules.by_address, now)
    }

    /// Counts a request of this address for a name that could be given, whether it is free or not:
    /// whoever looks for names that are taken asks for tenants.
    pub fn admit(&self, address: Option<IpAddr>) -> Result<()> {
        let (now, whose) = (self.now(), self.whose(address));
        let (everybody, in_all) = (TenantId::INSTALLATION, &self.rules.in_all);
        // Nothing is kept of addresses that come when all is used up, however many they are; and one
        // address that has used up its own takes nothing from the others.
        self.ask_if_used_up(everybody, in_all, now)?;
        self.ask(whose, &self.rules.by_address, now)?;
        self.ask(everybody, in_all, now)?;
        self.limiter.sweep(now);
        Ok(())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// What an address is called in the limiter; 0 is everybody's.
    fn whose(&self, address: Option<IpAddr>) -> TenantId {
        let address = address.map(|one| neighbourhood(one, SUBSCRIBER_BITS));
        TenantId::new(self.keys.hash_one(address).max(1))
    }

    fn ask_if_used_up(&self, whose: TenantId, rates: &Rates, now: u64) -> Result<()> {
        if self.limiter.left(whose, rates, now).iter().any(|left| left.remaining == 0) {
            self.ask(whose, rates, now)?;
        }
        Ok(())
    }

    fn ask(&self, whose: TenantId, rates: &Rates, now: u64) -> Result<()> {
        self.limiter.admit(whose, rates, now).map(drop).map_err(too_many)
    }

    /// Makes a tenant with its first key, which is shown once. The address is handed on to whoever is
    /// told of the new tenant.
    pub async fn make(
        &self,
        name: TenantName,
        email: Option<Email>,
        request: Option<RequestId>,
    ) -> Result<(TenantInfo, String)> {
        let inner = &self.engine.0;
        inner.check_new(&name)?;
        if inner.store.find_tenant(&name).await?.is_some() {
            return Err(Error::already_exists(Resource::Tenant, name.as_str()));
        }
        let who = inner.authority.sign_up().in_request(request);
        let scope = inner.authority.authorize_operator(&who)?;
        let plan = self.rules.plan_or(inner.default_plan.get()).cloned();
        let spec = TenantSpec {
            plan,
            isolation: Some(Isolation::Shared),
            ..TenantSpec::new(name.clone())
        };
        validate::tenant_spec(&spec)?;
        let arrival = inner.store.begin_arrival(&scope, &spec).await.map_err(unready)?;
        let info = Arc::new(arrival.info().clone());
        let session = inner.authority.authorize::<Admin>(&who, info.id, name.as_str());
        let session = session.map(|scope| Session::new(Arc::clone(inner), scope, info));
        let key = match session {
            Ok(session) => self.furnish(&session).await,
            Err(why) => Err(why),
        };
        let key = match key {
            Ok(key) => key,
            Err(why) => return Err(given_up(arrival, unready(why)).await),
        };
        let told = name.to_string();
        let arrived = Arrived { action: "tenant.signup", told: told.clone(), target: told, email };
        let limits = arrival.info().limits;
        Ok((arrival.end(&scope, limits, arrived).await?, key))
    }

    /// Fills a new tenant; its key.
    async fn furnish(&self, session: &Session<Admin>) -> Result<String> {
        for (name, collections) in &self.rules.template {
            let database = match session.database(name).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    session.create_database(name).await?
                }
                found => found?,
            };
            for collection in collections {
                database.create_collection(&CollectionSpec::new(collection.clone()), true).await?;
            }
        }
        let label = "signup".to_owned();
        let restriction = Restriction::default();
        let key = NewKey { role: Role::Admin, restriction, label, expires_at: None };
        Ok(session.create_key(key).await?.1)
    }
}

/// The refusal of whoever asks for a tenant too often.
pub(crate) fn too_many(refused: Refused) -> Error {
    let seconds = match refused {
        Refused::Rate { wait, .. } => wait.div_ceil(1_000_000_000).max(1),
        Refused::Concurrent(_) => 1,
    };
    let why = format!("too many ask for tenants; ask again in {seconds} s");
    Error::new(ErrorKind::LimitExceeded, why).with_retry_after(seconds)
}

/// An address of version 4, or so many bits in front of one of version 6, at most 64.
pub(crate) fn neighbourhood(address: IpAddr, bits: u32) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> (128 - bits)).unwrap_or_default(),
    }
}

/// What the operator has to mend is in the server's log, and no stranger's mistake.
fn unready(why: Error) -> Error {
    match why.kind() {
        ErrorKind::NotFound
        | ErrorKind::LimitExceeded
        | ErrorKind::Invalid
        | ErrorKind::Conflict
        | ErrorKind::Unsupported => {
            tracing::warn!(?why, "make a tenant for a stranger: the rules of sign-up do not fit");
            let why = "no tenant can be made here now; ask whoever runs this server";
            Error::new(ErrorKind::Unavailable, why)
        }
        _ => why,
    }
}

async fn given_up(arrival: Arrival, why: Error) -> Error {
    let tenant = arrival.info().id;
    if let Err(error) = arrival.give_up().await {
        tracing::warn!(?error, %tenant, "delete a tenant that could not be made");
    }
    why
}

#[cfg(test)]
#[path = "signup_tests.rs"]
mod tests;
