//! From a credential to a principal to a scope.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use tenantry_auth::{
    Admin, AllowedSet, ApiKey, Authority, Credential, KeyDirectory, KeyId, KeyOwner, KeyRow, Level,
    MemberRights, Principal, Read, Restriction, Role, TenantId, UserName, Write,
    token::ClaimedTenant,
};
use tenantry_types::{Error, ErrorKind, Result, Timestamp};

/// A directory of a few rows; `None` stands for one that cannot be read.
struct Directory(Option<Vec<KeyRow>>);

impl KeyDirectory for Directory {
    async fn find_key(&self, id: KeyId) -> Result<Option<Arc<KeyRow>>> {
        let rows = self.0.as_ref().ok_or_else(|| Error::internal("disk"))?;
        Ok(rows.iter().find(|row| row.id == id).cloned().map(Arc::new))
    }

    async fn claimed_tenant(&self, _: &ClaimedTenant) -> Result<Option<(TenantId, Timestamp)>> {
        Err(Error::internal("disk"))
    }

    async fn find_member(&self, _: TenantId, _: &UserName) -> Result<Option<Arc<MemberRights>>> {
        Err(Error::internal("disk"))
    }

    fn revocations(&self) -> u64 {
        0
    }
}

fn key(number: u8) -> ApiKey {
    ApiKey::from_random(&[number; ApiKey::RANDOM_BYTES])
}

fn row(key: &ApiKey, owner: KeyOwner, role: Role) -> KeyRow {
    KeyRow {
        id: key.id(),
        owner,
        role,
        restriction: Arc::new(Restriction { objects: Some(AllowedSet::default()), filter: None }),
        label: String::new(),
        created_at: Timestamp(0),
        expires_at: Some(Timestamp(100)),
        secret_hash: key.hash(),
    }
}

const A: TenantId = TenantId::new(1);
const B: TenantId = TenantId::new(2);

async fn principal(owner: KeyOwner, role: Role) -> Principal {
    let key = key(1);
    let directory = Directory(Some(vec![row(&key, owner, role)]));
    let credential = Credential::parse(&key.reveal()).unwrap();
    Authority::new().authenticate(credential, &directory, Timestamp(0)).await.unwrap()
}

fn kind<T>(outcome: Result<T>) -> ErrorKind {
    outcome.map(drop).unwrap_err().kind()
}

#[tokio::test]
async fn a_principal_is_what_its_row_says() {
    let who = principal(KeyOwner::Tenant(A), Role::Write).await;
    assert_eq!((who.tenant(), who.role(), who.key()), (Some(A), Role::Write, Some(key(1).id())));
    assert!(!who.is_operator() && !who.may_act_as() && !who.is_development());
    assert_eq!(who.restriction().objects, Some(AllowedSet::default()));
    assert_eq!(who.to_string(), format!("key:{}", key(1).id()));
    let operator = principal(KeyOwner::Operator { act_as: false }, Role::Admin).await;
    assert_eq!((operator.tenant(), operator.is_operator()), (None, true));
    assert!(!operator.may_act_as());
    assert_eq!(operator.to_string(), format!("operator:{}", key(1).id()));
}

#[tokio::test]
async fn a_wrong_unknown_or_expired_key_gets_one_answer() {
    let directory = Directory(Some(vec![row(&key(1), KeyOwner::Tenant(A), Role::Read)]));
    let authority = Authority::new();
    let answer = async |credential: Result<Credential>, now| {
        let outcome = match credential {
            Ok(credential) => authority.authenticate(credential, &directory, Timestamp(now)).await,
            Err(error) => Err(error),
        };
        format!("{:?}", outcome.map(|who| who.to_string()))
    };
    assert!(answer(Ok(Credential::Key(key(1))), 99).await.starts_with("Ok"));
    let wrong_secret = [&[1; 10][..], &[2; 32]].concat();
    let wrong_secret = ApiKey::from_random(wrong_secret.as_slice().try_into().unwrap());
    let refused = "Err(Unauthenticated: the API key is not valid)";
    assert_eq!(answer(Ok(Credential::Key(wrong_secret)), 0).await, refused);
    assert_eq!(answer(Ok(Credential::Key(key(2))), 0).await, refused);
    assert_eq!(answer(Ok(Credential::Key(key(1))), 100).await, refused);
    assert_eq!(answer(Credential::parse("tnt_nonsense"), 0).await, refused);
}

#[tokio::test]
async fn a_directory_that_fails_lets_nobody_in() {
    for authority in [Authority::new(), Authority::development()] {
        let credential = Credential::Key(key(1));
        let outcome = authority.authenticate(credential, &Directory(None), Timestamp(0)).await;
        assert_eq!(kind(outcome), ErrorKind::Internal);
    }
}

#[tokio::test]
async fn only_development_mode_takes_nothing_for_an_answer() {
    let nothing = Directory(Some(Vec::new()));
    let ask = async |authority: Authority, credential| {
        authority.authenticate(credential, &nothing, Timestamp(0)).await
    };
    let refused = ask(Authority::default(), Credential::None).await;
    assert_eq!(kind(refused), ErrorKind::Unauthenticated);
    let anybody = ask(Authority::development(), Credential::None).await.unwrap();
    assert!(anybody.is_development() && anybody.may_act_as());
    assert_eq!((anybody.to_string(), anybody.key()), ("development".into(), None));
    // A key that is presented is still checked.
    let wrong = ask(Authority::development(), Credential::Key(key(1))).await;
    assert_eq!(kind(wrong), ErrorKind::Unauthenticated);
    let local = Authority::new().local_operator();
    assert!(local.may_act_as() && !local.is_development());
    assert_eq!(local.to_string(), "operator:local");
}

fn outcome<L: Level>(who: &Principal, tenant: TenantId) -> Result<TenantId> {
    Authority::new().authorize::<L>(who, tenant, "name").map(|scope| scope.tenant())
}

#[tokio::test]
async fn a_scope_needs_the_right_tenant_and_a_high_enough_role() {
    for (role, level) in [(Role::Read, 0), (Role::Write, 1), (Role::Admin, 2)] {
        let who = principal(KeyOwner::Tenant(A), role).await;
        let own = [outcome::<Read>(&who, A), outcome::<Write>(&who, A), outcome::<Admin>(&who, A)];
        for (needed, outcome) in own.into_iter().enumerate() {
            if needed <= level {
                assert_eq!(outcome.unwrap(), A);
            } else {
                assert_eq!(kind(outcome), ErrorKind::Denied);
            }
        }
        // Elsewhere the role does not matter, not even to the words.
        for foreign in [outcome::<Read>(&who, B), outcome::<Admin>(&who, B)] {
            let shown = format!("{:?}", foreign.unwrap_err());
            assert_eq!(shown, "NotFound: Tenant [name] does not exist");
        }
    }
}

#[tokio::test]
async fn an_operator_opens_tenants_only_with_act_as_and_the_installation_never() {
    for act_as in [false, true] {
        let who = principal(KeyOwner::Operator { act_as }, Role::Admin).await;
        // Operators know which tenants there are, so this is said.
        match outcome::<Admin>(&who, A) {
            Ok(tenant) => assert!(act_as && tenant == A),
            Err(error) => assert!(!act_as && error.kind() == ErrorKind::Denied, "{error}"),
        }
        let scope = Authority::new().authorize_operator(&who).unwrap();
        assert_eq!((scope.may_act_as(), scope.actor()), (act_as, who.to_string().as_str()));
        assert_eq!(kind(outcome::<Read>(&who, TenantId::INSTALLATION)), ErrorKind::NotFound);
    }
    let local = Authority::new().local_operator();
    assert_eq!(kind(outcome::<Read>(&local, TenantId::INSTALLATION)), ErrorKind::NotFound);
    // Not even a key whose row says so: such a row is a mistake of the directory.
    let who = principal(KeyOwner::Tenant(TenantId::INSTALLATION), Role::Admin).await;
    assert_eq!(kind(outcome::<Read>(&who, TenantId::INSTALLATION)), ErrorKind::NotFound);
    assert_eq!(kind(Authority::new().authorize_operator(&who)), ErrorKind::Denied);
}

#[tokio::test]
async fn a_narrowed_scope_keeps_its_restriction() {
    let who = principal(KeyOwner::Tenant(A), Role::Admin).await;
    let scope = Authority::new().authorize::<Admin>(&who, A, "name").unwrap();
    let (write, read) = (scope.to_write(), scope.to_read());
    for (tenant, actor, restriction) in [
        (write.tenant(), write.actor(), write.restriction()),
        (read.tenant(), read.actor(), read.restriction()),
        (scope.tenant(), scope.actor(), scope.clone().restriction()),
    ] {
        assert_eq!((tenant, actor), (A, who.to_string().as_str()));
        assert_eq!(restriction.objects, Some(AllowedSet::default()));
    }
    assert_eq!(Authority::new().system("why").reason(), "why");
}
