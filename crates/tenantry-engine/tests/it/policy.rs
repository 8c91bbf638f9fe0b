//! Who may do what, as a table that anybody can read: `docs/reference/policy.md`. Every cell is
//! the answer of a running engine. `UPDATE_EXPECT=1` writes the table anew; read the difference.

mod installation;
mod members;
mod numbers;

use crate::support::*;
use installation::{ARCHIVES, OPERATORS, PLACES, PLANS, TENANTS, WEBHOOKS};
use members::{GROUPS, MEMBERS, as_guest, as_member};
use numbers::{MONEY, STATISTICS};
use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, sync::Arc};
use tenantry_engine::{
    token::{ClaimPath, Issuers, TenantBy},
    *,
};
use tokio::{sync::Semaphore, task::JoinSet};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Nobody,
    Read,
    Write,
    Admin,
    Member,
    AdminMember,
    Owner,
    Guest,
    MixedGuest,
    IdleGuest,
    OneDatabase,
    OneCollection,
    Bound,
    Neighbour,
    Operator,
    ActingOperator,
    OperatorToken,
}

/// Who stands in one table.
type Party = (&'static str, &'static [(Who, &'static str)]);

/// Each has a table of its own: one of all is too wide to be read.
const PARTIES: [Party; 3] = [
    (
        "Keys of a tenant",
        &[
            (Who::Nobody, "no key"),
            (Who::Read, "read"),
            (Who::Write, "write"),
            (Who::Admin, "admin"),
            (Who::OneDatabase, "admin, only d1"),
            (Who::OneCollection, "admin, only d1/c1"),
            (Who::Bound, "admin, only own records"),
            (Who::Neighbour, "another tenant's admin"),
        ],
    ),
    (
        "Members of a tenant",
        &[
            (Who::Member, "member"),
            (Who::AdminMember, "admin"),
            (Who::Owner, "owner"),
            (Who::Guest, "guest: read d1, write d1/c1"),
            (Who::MixedGuest, "guest: read d1/c1, write d2"),
            (Who::IdleGuest, "guest, no group"),
        ],
    ),
    (
        "Operators",
        &[
            (Who::Operator, "operator's key"),
            (Who::ActingOperator, "operator's key, act_as"),
            (Who::OperatorToken, "operator's token"),
        ],
    ),
];

fn everybody() -> impl Iterator<Item = Who> {
    PARTIES.into_iter().flat_map(|(_, party)| party).map(|(who, _)| *who)
}

/// Headings, and the actions below each.
const ACTIONS: [(&str, &[&str]); 14] = [
    (
        "The tenant, its keys and its log",
        &[
            "open it for reading",
            "open it for writing",
            "open it for administration",
            "list databases",
            "make a database",
            "delete d1",
            "delete d2",
            "list keys",
            "make a key",
            "revoke a key",
            "read the audit log",
        ],
    ),
    (MEMBERS.0, &MEMBERS.1),
    (GROUPS.0, &GROUPS.1),
    (
        "Databases d1 and d2",
        &[
            "open d1",
            "open d2",
            "list collections of d1",
            "list collections of d2",
            "make a collection in d1",
            "make a collection in d2",
            "get or make d1/c1",
            "get or make d1/c2",
        ],
    ),
    (
        "Collections c1 and c2 of d1",
        &[
            "open c1",
            "open c2",
            "open c1 by id",
            "open c2 by id",
            "change c1's metadata",
            "rename c1",
            "delete c1",
            "delete c2",
        ],
    ),
    (
        "Records of d1/c1: two of the user, one of another",
        &[
            "count",
            "get all",
            "query",
            "add an own record",
            "add a foreign record",
            "overwrite an own record",
            "overwrite a foreign record",
            "update a foreign record",
            "give an own record away",
            "delete all own records",
            "delete a foreign record",
        ],
    ),
    (STATISTICS.0, &STATISTICS.1),
    (MONEY.0, &MONEY.1),
    (ARCHIVES.0, &ARCHIVES.1),
    (TENANTS.0, &TENANTS.1),
    (PLANS.0, &PLANS.1),
    (PLACES.0, &PLACES.1),
    (WEBHOOKS.0, &WEBHOOKS.1),
    (OPERATORS.0, &OPERATORS.1),
];

/// The first words of actions that change nothing of a tenant: whoever does them can share one.
const LOOKS: [&str; 8] = ["ask", "count", "list", "look", "open", "query", "read", "see"];

fn only_looks(action: &str) -> bool {
    action.split(' ').next().is_some_and(|word| LOOKS.contains(&word))
}

const INTRODUCTION: &str = "\
# Who may do what

Three tables have the same rows, for [keys of a tenant](#keys-of-a-tenant), [its members](#members-of-a-tenant) and [operators](#operators).

Written by a test that does every action as everybody (`crates/tenantry-engine/tests/it/policy.rs`).
`UPDATE_EXPECT=1 cargo test -p tenantry-engine policy` writes it anew.

| answer | means |
|---|---|
| `yes` | done |
| a number | done, and this many were seen or changed |
| `no` | refused for a missing right |
| `hidden` | the same answer as if there was no such thing |
| `key?` | refused, a key or a token is needed |
| `taken` | refused because the id exists |
| `stays` | refused because one must remain |

A row is about the tenant, in it, unless it says something else; *as an operator* is the operator's own way, which opens no tenant.
The tenant has the databases d1 (collections c1 and c2) and d2 (collection c1).
A key has a role (`read`, `write`, `admin`), and may be limited to a database or a collection, or bound to the records of one user (`only own records`).
A member comes with a token of an [issuer whose tokens count for members only](../guides/members.md).
A guest is one who reaches what its groups give.
An operator's key manages tenants and reaches no data; with `act_as` it may also act in every tenant.
An operator's token is of an [issuer whose `operator_roles`](../guides/tokens.md#operators) make its holder one: it acts in tenants as an operator's key with `act_as` does, and makes, changes and deletes no tenant and no operator's key.
";

/// One cell's surroundings: a tenant of its own and a key of whoever acts.
struct Cell {
    engine: Engine,
    /// Unlimited, to look things up that the actor may not see.
    operator: Principal,
    tenant: TenantName,
    token: Option<String>,
}

impl Cell {
    async fn who(&self) -> Result<Principal> {
        self.engine.authenticate(self.token.as_deref()).await
    }

    async fn session<L: Level>(&self) -> Result<Session<L>> {
        self.engine.session(&self.who().await?, Select::Named(&self.tenant)).await
    }

    async fn database<L: Level>(&self, name: &str) -> Result<Database<L>> {
        self.session().await?.database(&database(name)).await
    }

    async fn collection<L: Level>(&self, name: &str) -> Result<Collection<L>> {
        self.database("d1").await?.collection(&collection(name)).await
    }

    async fn id_of(&self, name: &str) -> CollectionId {
        let select = Select::Named(&self.tenant);
        let session = self.engine.session::<Read>(&self.operator, select).await.unwrap();
        let db = session.database(&database("d1")).await.unwrap();
        db.collection(&collection(name)).await.unwrap().info().id
    }

    async fn run(&self, action: &str) -> Result<String> {
        for outcome in [
            Box::pin(self.on_tenant(action)).await,
            Box::pin(self.on_members(action)).await,
            Box::pin(self.on_groups(action)).await,
            Box::pin(self.on_databases(action)).await,
            Box::pin(self.on_collections(action)).await,
            Box::pin(self.on_records(action)).await,
            Box::pin(self.on_statistics(action)).await,
            Box::pin(self.on_money(action)).await,
            Box::pin(self.on_archives(action)).await,
            Box::pin(self.on_tenants(action)).await,
            Box::pin(self.on_plans(action)).await,
            Box::pin(self.on_places(action)).await,
            Box::pin(self.on_webhooks(action)).await,
            Box::pin(self.on_operators(action)).await,
        ] {
            if let Some(answer) = outcome.transpose() {
                return answer;
            }
        }
        panic!("nobody knows how to {action}");
    }

    async fn on_tenant(&self, action: &str) -> Result<Option<String>> {
        let admin = async || self.session::<Admin>().await;
        match action {
            "open it for reading" => self.session::<Read>().await.map(drop)?,
            "open it for writing" => self.session::<Write>().await.map(drop)?,
            "open it for administration" => admin().await.map(drop)?,
            "list databases" => {
                let found = self.session::<Read>().await?.databases(Page::default()).await?;
                return Ok(Some(found.len().to_string()));
            }
            "make a database" => admin().await?.create_database(&database("d3")).await.map(drop)?,
            "delete d1" => admin().await?.delete_database(&database("d1")).await?,
            "delete d2" => admin().await?.delete_database(&database("d2")).await?,
            "list keys" => admin().await?.keys().await.map(drop)?,
            "make a key" => admin().await?.create_key(new_key(Role::Admin)).await.map(drop)?,
            "revoke a key" => {
                let select = Select::Named(&self.tenant);
                let all = self.engine.session::<Admin>(&self.operator, select).await?;
                let (row, _) = all.create_key(new_key(Role::Read)).await?;
                admin().await?.revoke_key(row.id).await?;
            }
            "read the audit log" => admin().await?.audit(0, 1).await.map(drop)?,
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }

    async fn on_databases(&self, action: &str) -> Result<Option<String>> {
        let count = async |name: &str| {
            let found = self.database::<Read>(name).await?.collections(Page::default()).await?;
            Ok(Some(found.len().to_string()))
        };
        let make = async |place: &str, name: &str, or_get: bool| {
            let db = self.database::<Write>(place).await?;
            db.create_collection(&spec(name), or_get).await.map(drop)
        };
        match action {
            "open d1" => self.database::<Read>("d1").await.map(drop)?,
            "open d2" => self.database::<Read>("d2").await.map(drop)?,
            "list collections of d1" => return count("d1").await,
            "list collections of d2" => return count("d2").await,
            "make a collection in d1" => make("d1", "new", false).await?,
            "make a collection in d2" => make("d2", "new", false).await?,
            "get or make d1/c1" => make("d1", "c1", true).await?,
            "get or make d1/c2" => make("d1", "c2", true).await?,
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }

    async fn on_collections(&self, action: &str) -> Result<Option<String>> {
        let by_id = async |name: &str| {
            let db = self.database::<Read>("d1").await?;
            db.collection_by_id(self.id_of(name).await).await.map(drop)
        };
        let change = async |change: CollectionChange| {
            self.collection::<Write>("c1").await?.change(&change).await.map(drop)
        };
        let nothing = CollectionChange::default;
        match action {
            "open c1" => self.collection::<Read>("c1").await.map(drop)?,
            "open c2" => self.collection::<Read>("c2").await.map(drop)?,
            "open c1 by id" => by_id("c1").await?,
            "open c2 by id" => by_id("c2").await?,
            "change c1's metadata" => {
                change(CollectionChange { metadata: Some(None), ..nothing() }).await?;
            }
            "rename c1" => {
                change(CollectionChange { name: Some(collection("new")), ..nothing() }).await?;
            }
            "delete c1" => self.collection::<Write>("c1").await?.remove().await?,
            "delete c2" => self.collection::<Write>("c2").await?.remove().await?,
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }

    async fn on_records(&self, action: &str) -> Result<Option<String>> {
        let reading = async || self.collection::<Read>("c1").await;
        let upsert = WriteMode::Upsert;
        let write = async |mode: WriteMode, record: RecordWrite| {
            let done = self.collection::<Write>("c1").await?.write(mode, vec![record]).await?;
            Ok::<_, Error>(done.inserted + done.updated)
        };
        let delete = async |select: Selector| {
            self.collection::<Write>("c1").await?.delete(&select, None).await
        };
        let add = WriteMode::Add(Existing::Fail);
        let number = match action {
            "count" => reading().await?.count(None).await?,
            "get all" => reading().await?.get(&GetRequest::default()).await?.len(),
            "query" => reading().await?.query(&query(&[0.0], 9)).await?[0].len(),
            "add an own record" => write(add, record("new", "me")).await?,
            "add a foreign record" => write(add, record("new", "you")).await?,
            "overwrite an own record" => write(upsert, record("mine", "me")).await?,
            "overwrite a foreign record" => write(upsert, record("yours", "me")).await?,
            "update a foreign record" => {
                write(WriteMode::Update(Missing::Fail), record("yours", "me")).await?
            }
            "give an own record away" => write(upsert, record("mine", "you")).await?,
            "delete all own records" => delete(by_filter(is("owner", text("me")))).await?,
            "delete a foreign record" => delete(by_ids(&["yours"])).await?,
            _ => return Ok(None),
        };
        Ok(Some(number.to_string()))
    }
}

fn record(name: &str, owner: &str) -> RecordWrite {
    write(name).vector(&[1.0]).set("owner", text(owner))
}

/// Makes a cell's tenant, what it holds, and the actor's key; with members and groups beside the
/// actor, if they are of interest.
async fn set_up(
    (engine, operator): (Engine, Principal),
    who: Who,
    has_others: bool,
    number: usize,
) -> Cell {
    let name = tenant(&format!("t{number}"));
    let manage = engine.operator(&operator).unwrap();
    let bare = TenantSpec { default_database: false, ..TenantSpec::new(name.clone()) };
    manage.create_tenant(&bare).await.unwrap();
    let session = engine.session::<Admin>(&operator, Select::Named(&name)).await.unwrap();
    let d1 = session.create_database(&database("d1")).await.unwrap();
    let (c1, _) = d1.create_collection(&spec("c1"), false).await.unwrap();
    d1.create_collection(&spec("c2"), false).await.unwrap();
    let d2 = session.create_database(&database("d2")).await.unwrap();
    d2.create_collection(&spec("c1"), false).await.unwrap();
    let batch = vec![record("mine", "me"), record("mine too", "me"), record("yours", "you")];
    c1.write(WriteMode::Upsert, batch).await.unwrap();

    if has_others {
        members::add_others(&session).await;
        numbers::agree(&manage, &name).await;
    }
    let make = async |key: NewKey| session.create_key(key).await.unwrap().1;
    let token = match who {
        Who::Nobody => None,
        Who::Read => Some(make(new_key(Role::Read)).await),
        Who::Write => Some(make(new_key(Role::Write)).await),
        Who::Admin => Some(make(new_key(Role::Admin)).await),
        Who::Member => Some(as_member(&session, MemberRole::Member).await),
        Who::AdminMember => Some(as_member(&session, MemberRole::Admin).await),
        Who::Owner => Some(as_member(&session, MemberRole::Owner).await),
        Who::Guest => {
            Some(as_guest(&session, &[("d1", None, false), ("d1", Some("c1"), true)]).await)
        }
        Who::MixedGuest => {
            Some(as_guest(&session, &[("d1", Some("c1"), false), ("d2", None, true)]).await)
        }
        Who::IdleGuest => Some(as_guest(&session, &[]).await),
        Who::OneDatabase => {
            let objects = vec![Allowed::Database(d1.info().number)];
            Some(make(limited_key(Role::Admin, objects)).await)
        }
        Who::OneCollection => {
            let objects = vec![Allowed::Collection(d1.info().number, c1.info().number)];
            Some(make(limited_key(Role::Admin, objects)).await)
        }
        Who::Bound => Some(make(bound_key(Role::Admin, is("owner", text("me")))).await),
        Who::Neighbour => {
            let other = tenant(&format!("t{number} neighbour"));
            manage.create_tenant(&TenantSpec::new(other.clone())).await.unwrap();
            let session = engine.session::<Admin>(&operator, Select::Named(&other)).await.unwrap();
            Some(session.create_key(new_key(Role::Admin)).await.unwrap().1)
        }
        Who::Operator => Some(manage.create_key(false, "", None).await.unwrap().1),
        Who::ActingOperator => Some(manage.create_key(true, "", None).await.unwrap().1),
        Who::OperatorToken => Some(crate::tokens::token(r#""roles":["staff"]"#)),
    };
    Cell { engine, operator, tenant: name, token }
}

fn word(outcome: Result<String>) -> String {
    match outcome {
        Ok(answer) => answer,
        Err(error) => match error.kind() {
            ErrorKind::Unauthenticated => "key?".into(),
            ErrorKind::Denied => "no".into(),
            ErrorKind::NotFound => "hidden".into(),
            ErrorKind::AlreadyExists => "taken".into(),
            ErrorKind::Conflict => "stays".into(),
            other => panic!("{other:?} is no answer to a question of policy: {error}"),
        },
    }
}

fn table(answers: &BTreeMap<(&str, Who), String>) -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Roles of members\n\n| role | level | manages | it |\n|---|---|---|---|\n");
    for rights in ROLE_RIGHTS {
        let manages: Vec<_> = rights.manages.iter().map(|role| role.word()).collect();
        let manages = if manages.is_empty() { "nobody".to_owned() } else { manages.join(", ") };
        let (role, level) = (rights.role.word(), rights.level.word());
        let _ = writeln!(page, "| {role} | {level} | {manages} | {} |", rights.text);
    }
    for (title, party) in PARTIES {
        let _ = write!(page, "\n## {title}\n");
        for (heading, actions) in ACTIONS {
            let _ = write!(page, "\n### {heading}\n\n| action |");
            for (_, name) in party {
                let _ = write!(page, " {name} |");
            }
            page.push('\n');
            page.push_str(&"|---".repeat(party.len() + 1));
            page.push_str("|\n");
            for action in actions {
                let _ = write!(page, "| {action} |");
                for (who, _) in party {
                    let _ = write!(page, " {} |", answers[&(*action, *who)]);
                }
                page.push('\n');
            }
        }
    }
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_rights_is_as_committed() {
    let mut issuer = crate::tokens::spec(TenantBy::Id(ClaimPath::parse("org").unwrap()));
    issuer.claims.needs_member = true;
    issuer.claims.operator_roles = ["staff".to_owned()].into();
    let world = World::trusting(Issuers::new(vec![issuer]).unwrap()).await;
    installation::prepare(&world.operator()).await;
    let own = |who, has_others, number| {
        set_up((world.engine.clone(), world.operator.clone()), who, has_others, number)
    };
    let mut shared = BTreeMap::new();
    for (number, who) in everybody().enumerate() {
        shared.insert(who, Arc::new(own(who, true, number).await));
    }
    let turns = Arc::new(Semaphore::new(64));
    let mut running = JoinSet::new();
    let actions = ACTIONS.iter().flat_map(|(_, actions)| actions.iter().copied());
    let cells = actions.flat_map(|action| everybody().map(move |who| (action, who)));
    for (number, (action, who)) in cells.enumerate() {
        let found = only_looks(action).then(|| Arc::clone(&shared[&who]));
        let has_others = MEMBERS.1.contains(&action) || GROUPS.1.contains(&action);
        let making = own(who, has_others, shared.len() + number);
        let turns = Arc::clone(&turns);
        running.spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            let cell = match found {
                Some(cell) => cell,
                None => Arc::new(making.await),
            };
            ((action, who), word(cell.run(action).await))
        });
    }
    let answers: BTreeMap<_, _> = running.join_all().await.into_iter().collect();
    let found = table(&answers);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/policy.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    for (found, committed) in found.lines().zip(committed.lines()) {
        assert_eq!(
            found,
            committed,
            "the policy changed; UPDATE_EXPECT=1 writes {}",
            path.display()
        );
    }
    assert_eq!(found.lines().count(), committed.lines().count());
}
