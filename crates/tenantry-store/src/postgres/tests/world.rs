//! Databases and roles of one test, on a real server.

use super::super::{
    call::{Answers, Transaction},
    conn::Conn,
    connections::{Bounds, Connections},
    failure::{CommitError, Failure, Outcome, Stage},
    statement::{Limits, Mode, Right, Statement, Step},
    target::{Server, Target},
    url::{Cluster, DatabaseUrl},
};
use std::{
    env,
    num::NonZeroUsize,
    ops::Deref,
    process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{runtime::Builder, time::timeout};
use tokio_postgres::types::Type;

const VARIABLE: &str = "TENANTRY_TEST_POSTGRES";
const PASSWORD: &str = "service";

pub(super) const LIMITS: Limits = Limits {
    statement: Duration::from_secs(5),
    lock: Duration::from_millis(300),
    idle: Duration::from_secs(5),
    citus: false,
};
pub(super) const BOUNDS: Bounds = Bounds {
    wait: Duration::from_secs(5),
    waiters: 64,
    idle: Duration::from_secs(60),
    pause: Duration::from_millis(250),
};
pub(super) const LONG: Duration = Duration::from_secs(20);

/// The superuser's URL of a server to test against.
pub(super) fn url() -> DatabaseUrl {
    let Ok(text) = env::var(VARIABLE) else {
        panic!(
            "{VARIABLE} is not set: it names a PostgreSQL server with pgvector, by the URL of a \
             superuser over TCP, such as postgresql://postgres:secret@127.0.0.1:5432/postgres"
        );
    };
    DatabaseUrl::parse(&text).expect("a good URL")
}

/// Host and port of the server.
pub(super) fn address() -> String {
    let text = url().to_string();
    text.split_once('/').expect("a database").0.to_owned()
}

/// The databases and roles of one test; they go when this is dropped.
///
/// Each database has a table `rows (tenant, value)` under forced row-level security, and a table
/// `own.rows` that only the role `…_own` may use. The service's role owns and inherits nothing.
pub(super) struct World {
    name: String,
    databases: usize,
    admin: Linked,
    server: Server,
}

impl World {
    pub(super) async fn new(databases: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tenantry_talk_{}_{number}", process::id());
        let admin = connections_to(Cluster::new(url(), None).expect("loopback"), 1, BOUNDS);
        let server = admin.server.clone();
        let world = Self { name, databases, admin, server };
        let name = &world.name;
        world
            .batch(
                url().database(),
                &format!(
                    "CREATE ROLE {name}_service LOGIN NOINHERIT PASSWORD '{PASSWORD}'; \
                     CREATE ROLE {name}_own; \
                     GRANT {name}_own TO {name}_service WITH INHERIT FALSE, SET TRUE; \
                     CREATE ROLE {name}_foreign"
                ),
            )
            .await;
        for number in 0..databases {
            let database = world.database(number);
            let made = format!("CREATE DATABASE {database} TEMPLATE template0");
            world.batch(url().database(), &made).await;
            world.batch(&database, &tables(name)).await;
        }
        world
    }

    pub(super) fn database(&self, number: usize) -> String {
        format!("{}_{number}", self.name)
    }

    pub(super) fn target(&self, number: usize) -> Target {
        Target { server: self.server.clone(), database: self.database(number).into() }
    }

    pub(super) fn role(&self, which: &str) -> Arc<str> {
        format!("{}_{which}", self.name).into()
    }

    /// The service's URL, at `address` in place of the server's own.
    pub(super) fn service_at(&self, address: &str, options: &str) -> DatabaseUrl {
        let name = &self.name;
        let text = format!("postgresql://{name}_service:{PASSWORD}@{address}/{name}_0?{options}");
        DatabaseUrl::parse(&text).expect("a good URL")
    }

    pub(super) fn connections(&self, budget: usize) -> Linked {
        self.connections_at(&address(), budget, BOUNDS)
    }

    pub(super) fn connections_at(&self, address: &str, budget: usize, bounds: Bounds) -> Linked {
        let cluster = Cluster::new(self.service_at(address, ""), None).expect("loopback");
        connections_to(cluster, budget, bounds)
    }

    /// Of which some are kept for servers that may have all.
    pub(super) fn connections_of(&self, budget: usize, kept: usize) -> Arc<Linked> {
        let cluster = Cluster::new(self.service_at(&address(), ""), None).expect("loopback");
        let budget = NonZeroUsize::new(budget).expect("not zero");
        let connections = Connections::with_bounds(budget, kept, BOUNDS);
        Arc::new(Linked { connections, server: Server::new(cluster) })
    }

    /// The connections that the service has on the server.
    pub(super) async fn open_on_server(&self) -> i64 {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}_service'",
            self.name
        );
        self.ask(url().database(), &sql).await
    }

    /// What the superuser sees in `rows` of the first database.
    pub(super) async fn count(&self, condition: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM rows WHERE {condition}");
        self.ask(&self.database(0), &sql).await
    }

    async fn ask(&self, database: &str, sql: &str) -> i64 {
        let conn = self.admin_conn(database).await;
        let right = Right { tenant: 0, role: None };
        let sql = sql.replace(" rows ", " public.rows ");
        let steps = vec![run(Statement::new(sql))];
        let answers =
            super::super::call::read(conn, LIMITS, right, steps).await.expect("an answer");
        answers[0][0].get(0)
    }

    pub(super) async fn batch(&self, database: &str, text: &str) {
        let mut conn = self.admin_conn(database).await;
        batch(&mut conn, text, LONG).await.expect(text);
    }

    async fn admin_conn(&self, database: &str) -> Conn {
        let target = Target { server: self.server.clone(), database: database.into() };
        self.admin.get(&target).await.expect("a connection")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let (name, databases) = (self.name.clone(), self.databases);
        let dropped = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let cluster = Cluster::new(url(), None).expect("loopback");
                let connections = connections_to(cluster, 1, BOUNDS);
                let target = connections.target(url().database());
                let mut texts: Vec<_> = (0..databases)
                    .map(|number| format!("DROP DATABASE IF EXISTS {name}_{number} WITH (FORCE)"))
                    .collect();
                texts.push(format!(
                    "DROP ROLE IF EXISTS {name}_service, {name}_own, {name}_foreign"
                ));
                for text in texts {
                    let mut conn = connections.get(&target).await.expect("a connection");
                    batch(&mut conn, &text, LONG).await.expect("dropped");
                }
            });
        });
        // A failure here must not hide the test's own.
        drop(dropped.join());
    }
}

fn tables(name: &str) -> String {
    format!(
        "CREATE TABLE rows (tenant bigint NOT NULL, value text NOT NULL UNIQUE); \
         ALTER TABLE rows ENABLE ROW LEVEL SECURITY; ALTER TABLE rows FORCE ROW LEVEL SECURITY; \
         CREATE POLICY own ON rows USING (tenant = current_setting('tenantry.tenant')::bigint) \
           WITH CHECK (tenant = current_setting('tenantry.tenant')::bigint); \
         GRANT SELECT, INSERT, UPDATE, DELETE ON rows TO {name}_service; \
         CREATE SCHEMA own; GRANT USAGE ON SCHEMA own TO {name}_own; \
         CREATE TABLE own.rows (value text NOT NULL); \
         GRANT SELECT, INSERT ON own.rows TO {name}_own"
    )
}

pub(super) fn connections_to(cluster: Cluster, budget: usize, bounds: Bounds) -> Linked {
    let budget = NonZeroUsize::new(budget).expect("not zero");
    let connections = Connections::with_bounds(budget, 0, bounds);
    Linked { connections, server: Server::new(cluster) }
}

/// Connections to one server, which may be reached in another way than a target says.
pub(super) struct Linked {
    connections: Connections,
    server: Server,
}

impl Linked {
    pub(super) async fn get(&self, target: &Target) -> Outcome<Conn> {
        self.connections.get(&self.target(&target.database)).await
    }

    pub(super) fn forget(&self, target: &Target) {
        self.connections.forget(&self.target(&target.database));
    }

    pub(super) fn target(&self, database: &str) -> Target {
        Target { server: self.server.clone(), database: database.into() }
    }
}

impl Deref for Linked {
    type Target = Connections;

    fn deref(&self) -> &Connections {
        &self.connections
    }
}

pub(super) fn right(tenant: u64) -> Right {
    Right { tenant, role: None }
}

pub(super) fn run(statement: Statement) -> Step {
    Step::Run(statement)
}

pub(super) fn sql(text: &'static str) -> Step {
    Step::Run(Statement::new(text))
}

/// Adds a row of `tenant` and returns it.
pub(super) fn insert(tenant: i64, value: &str) -> Step {
    run(Statement::new("INSERT INTO public.rows VALUES ($1, $2) RETURNING value")
        .with(tenant, Type::INT8)
        .with(value.to_owned(), Type::TEXT))
}

/// All rows that can be seen.
pub(super) fn select() -> Step {
    sql("SELECT tenant, value FROM public.rows")
}

/// Runs commands outside any transaction, for those that a transaction refuses.
pub(super) async fn batch(conn: &mut Conn, text: &str, patience: Duration) -> Outcome<()> {
    conn.set_dirty();
    let failure = match timeout(patience, conn.client()?.batch_execute(text)).await {
        Ok(Ok(())) => {
            conn.set_clean();
            return Ok(());
        }
        Ok(Err(error)) => Failure::of(&error, Stage::Statement),
        Err(_) => Failure::silent(Stage::Statement, patience),
    };
    conn.learn(&failure);
    Err(failure)
}

pub(super) async fn begin(conn: Conn, mode: Mode, right: Right) -> Outcome<Transaction> {
    Transaction::begin(conn, mode, LIMITS, right, Vec::new()).await.map(|(begun, _)| begun)
}

/// Writes one row in two round trips.
pub(super) async fn write(
    connections: &Linked,
    target: &Target,
    tenant: u64,
    value: &str,
) -> Result<Answers, CommitError> {
    let conn = connections.get(target).await.map_err(CommitError::NotCommitted)?;
    let open = begin(conn, Mode::Write, right(tenant)).await.map_err(CommitError::NotCommitted)?;
    open.commit(vec![insert(i64::try_from(tenant).expect("small"), value)], 0).await
}
