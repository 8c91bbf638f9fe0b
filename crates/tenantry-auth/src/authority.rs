//! The only maker of scopes.

use crate::{
    Author, Credential, KeyId, KeyRow, Level, MemberRights, OperatorScope, Principal, Scope,
    SystemScope, TenantId, UserName,
    key::invalid_key,
    token::{ClaimedTenant, Issuers, Token, invalid_token},
};
use std::sync::Arc;
use tenantry_types::{Error, ErrorKind, Resource, Result, Timestamp};

/// Where keys are kept.
pub trait KeyDirectory: Send + Sync {
    /// The row of a key that is neither revoked nor unknown.
    fn find_key(&self, id: KeyId) -> impl Future<Output = Result<Option<Arc<KeyRow>>>> + Send;

    /// The tenant that a token of an issuer names, and since when it has its name; `None` if there
    /// is none.
    fn claimed_tenant(
        &self,
        claimed: &ClaimedTenant,
    ) -> impl Future<Output = Result<Option<(TenantId, Timestamp)>>> + Send;

    /// The member of a tenant whom tokens call so, whether or not it is suspended, and what its groups
    /// give it.
    fn find_member(
        &self,
        tenant: TenantId,
        user: &UserName,
    ) -> impl Future<Output = Result<Option<Arc<MemberRights>>>> + Send;

    /// Grows whenever a key is revoked, a member or a group changed or a tenant suspended, before the
    /// call that did it returns.
    fn revocations(&self) -> u64;
}

/// Turns credentials into principals and principals into scopes. The only maker of either.
#[derive(Debug)]
pub struct Authority {
    keyless: Keyless,
    issuers: Arc<Issuers>,
}

/// Who a caller without a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyless {
    Nobody,
    Development,
    LocalOperator,
}

impl Authority {
    /// An authority that demands a key of everybody.
    pub fn new() -> Self {
        Self::keyless(Keyless::Nobody)
    }

    /// An authority for a program that opened the data folder itself and serves nobody else: a
    /// caller without a key is the local operator, audited as such.
    pub fn local() -> Self {
        Self::keyless(Keyless::LocalOperator)
    }

    /// An authority that takes every caller for an operator. For a server on a loopback address
    /// only; whoever starts it checks the address.
    pub fn development() -> Self {
        Self::keyless(Keyless::Development)
    }

    fn keyless(keyless: Keyless) -> Self {
        Self { keyless, issuers: Arc::default() }
    }

    /// The same, and it trusts these issuers of tokens.
    #[must_use]
    pub fn with_issuers(self, issuers: Issuers) -> Self {
        Self { issuers: Arc::new(issuers), ..self }
    }

    /// The issuers that it trusts.
    pub fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// True for an authority made by [`Authority::development`].
    pub fn is_development(&self) -> bool {
        self.keyless == Keyless::Development
    }

    /// Who presents this credential. In development mode a key is still honoured when one is
    /// presented, so that isolation can be tried out.
    pub async fn authenticate(
        &self,
        credential: Credential,
        directory: &impl KeyDirectory,
        now: Timestamp,
    ) -> Result<Principal> {
        match (credential, self.keyless) {
            (Credential::Key(key), _) => {
                // Read first: a revocation from here on makes whoever uses the right look again.
                let revocations = directory.revocations();
                let row = directory.find_key(key.id()).await?.ok_or_else(invalid_key)?;
                row.verify(&key, now)?;
                Ok(Principal::from_key(&row, revocations))
            }
            // Boxed: whoever presents a key need not carry what a token takes.
            (Credential::Token(token), _) => Box::pin(self.of_token(&token, directory, now)).await,
            (Credential::None, Keyless::Development) => Ok(Principal::development()),
            (Credential::None, Keyless::LocalOperator) => Ok(Principal::local()),
            (Credential::None, Keyless::Nobody) => Err(Error::new(
                ErrorKind::Unauthenticated,
                "an API key is required: send it as `Authorization: Bearer tnt_…`",
            )),
        }
    }

    /// Who presents this token of an issuer: an operator by no other word than one that the issuer's
    /// settings list, and then one that manages nothing. A tenant that is missing, one that the token
    /// cannot mean, one without such a member and a token that nobody has signed get one answer.
    async fn of_token(
        &self,
        token: &Token,
        directory: &impl KeyDirectory,
        now: Timestamp,
    ) -> Result<Principal> {
        let revocations = directory.revocations();
        let claimed = self.issuers.verify(token, now)?;
        let tenant = match &claimed.tenant {
            Some(named) => Some(meant(named, directory).await?),
            None => None,
        };
        if claimed.is_operator {
            return Ok(Principal::from_operator(&claimed, tenant, revocations));
        }
        let tenant = tenant.ok_or_else(invalid_token)?;
        if !claimed.needs_member {
            return Ok(Principal::from_token(&claimed, tenant, revocations));
        }
        let found = directory.find_member(tenant, &claimed.user).await?;
        let rights = found.ok_or_else(|| invalid_token().with_source("it is of no member"))?;
        if rights.member.is_suspended {
            return Err(invalid_token().with_source("its member is suspended"));
        }
        Ok(Principal::from_member(&claimed, tenant, &rights, revocations))
    }

    /// The operator, for a program that opened the data folder itself: whoever can read the folder
    /// and its master key needs no key to prove it. Never for a caller from outside.
    pub fn local_operator(&self) -> Principal {
        Principal::local()
    }

    /// The same, for what the server makes because a stranger signs up: logs call it `signup`. Never for
    /// a caller from outside.
    pub fn sign_up(&self) -> Principal {
        Principal::sign_up()
    }

    /// The right of `who` to act in `tenant` at level `L`. `called` is the name that the caller
    /// used for the tenant, for the answer: a foreign tenant and a missing one are the same. Only to
    /// an operator, who may list them, it is said that the key may not open tenants.
    pub fn authorize<L: Level>(
        &self,
        who: &Principal,
        tenant: TenantId,
        called: &str,
    ) -> Result<Scope<L>> {
        let allowed = match who.bound_to() {
            Some(only) => only == tenant,
            None => who.is_operator(),
        };
        if !allowed || tenant == TenantId::INSTALLATION {
            return Err(Error::not_found(Resource::Tenant, called));
        }
        if who.is_operator() && !who.may_act_as() {
            return Err(Error::denied("this operator key may not open tenants"));
        }
        if who.role() < L::ROLE {
            return Err(Error::denied(format!("this needs the role {}", L::ROLE.word())));
        }
        Ok(Scope::new(tenant, who))
    }

    /// The right of `who` to manage tenants.
    pub fn authorize_operator(&self, who: &Principal) -> Result<OperatorScope> {
        if who.may_manage() {
            let actor = who.to_string();
            let author = Author::new(&actor, who.request());
            Ok(OperatorScope::new(author, who.may_act_as(), who.standing().clone()))
        } else {
            Err(Error::denied("this needs an operator key"))
        }
    }

    /// The operator's right for what a server does by itself because he has told it to, audited under
    /// this name. It opens no tenant.
    pub fn by_order(&self, name: &'static str) -> OperatorScope {
        OperatorScope::new(Author::work(name), false, Principal::local().standing().clone())
    }

    /// The right of background work; `reason` says what for.
    pub fn system(&self, reason: &'static str) -> SystemScope {
        SystemScope::new(reason)
    }
}

/// The tenant that a token names.
async fn meant(named: &ClaimedTenant, directory: &impl KeyDirectory) -> Result<TenantId> {
    let found = directory.claimed_tenant(named).await?;
    let (tenant, named_at) = found.ok_or_else(invalid_token)?;
    let is_meant = match named {
        ClaimedTenant::Id(id) => *id == tenant,
        // An older token means whoever had the name before.
        ClaimedTenant::Name(_, issued_at) => *issued_at >= named_at,
    };
    if is_meant { Ok(tenant) } else { Err(invalid_token()) }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
