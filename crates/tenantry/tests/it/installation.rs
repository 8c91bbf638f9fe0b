//! A database on the PostgreSQL for tests, and a way to it that can be shut.

use crate::program::{Server, done, key_in, tenantry};
use serde_json::Value;
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{self, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};
use tempfile::TempDir;

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) fn superuser_url() -> String {
    std::env::var("TENANTRY_TEST_POSTGRES").expect(
        "TENANTRY_TEST_POSTGRES must hold the URL of a superuser of a PostgreSQL for tests: \
         `cargo xtask test` starts one, clients/postgres/server.py does it by hand",
    )
}

/// What `tenantry postgres setup` has made, removed when this is dropped.
pub(crate) struct Installation {
    pub(crate) name: String,
    /// Of the role that serves.
    pub(crate) url: String,
    /// Of the admin role.
    pub(crate) admin_url: String,
    /// Holds the master key, once a server has made it.
    pub(crate) keys: TempDir,
}

impl Installation {
    pub(crate) fn new() -> Self {
        // Fails here rather than when it is dropped.
        superuser_url();
        let name = format!("c{}_{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut made = Self {
            name,
            url: String::new(),
            admin_url: String::new(),
            keys: TempDir::new().unwrap(),
        };
        let told: Value = serde_json::from_str(&made.setup(&["--json"])).unwrap();
        assert_eq!(told["urls_have_passwords"], true);
        let url = |which: &str| told[which].as_str().unwrap().to_owned();
        (made.url, made.admin_url) = (url("database_url"), url("database_admin_url"));
        made
    }

    /// Runs setup with further arguments.
    pub(crate) fn setup(&self, more: &[&str]) -> String {
        let url = superuser_url();
        let start = ["postgres", "setup", "--superuser-url", &url, "--name", &self.name];
        done(&[&start, more].concat())
    }

    /// The folder of the master key.
    pub(crate) fn keys(&self) -> String {
        self.keys.path().join("keys").display().to_string()
    }

    /// `serve` through this URL with further arguments.
    pub(crate) fn command(&self, url: &str, args: &[&str]) -> Command {
        let mut command = tenantry(&["serve", "--backend", "postgres", "--data-dir"]);
        command.arg(self.keys()).env("TENANTRY_DATABASE_URL", url);
        command.args(["--listen", "127.0.0.1:0", "--chroma-listen", "127.0.0.1:0"]).args(args);
        command
    }

    /// Starts a server.
    pub(crate) fn serve(&self) -> Server {
        Server::spawn(&mut self.command(&self.url, &[]))
    }

    /// Starts the first server and ends it; the operator key that it showed.
    pub(crate) fn found(&self) -> String {
        key_in(&self.serve().stop()).to_owned()
    }

    /// What a superuser does in the installation's database.
    pub(crate) fn sql(&self, statements: &[&str]) {
        let url = superuser_url();
        let (start, _) = url.rsplit_once('/').unwrap();
        run_sql(&format!("{start}/{}", self.name), statements, true);
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        let name = &self.name;
        let statements = [
            format!("ALTER DATABASE {name}_template IS_TEMPLATE false"),
            format!("DROP DATABASE {name} WITH (FORCE)"),
            format!("DROP DATABASE {name}_template"),
            // Of tenants with a schema: their schemas are gone with the database.
            format!(
                "DO $$ DECLARE place text; BEGIN FOR place IN SELECT of.rolname FROM \
                 pg_auth_members JOIN pg_roles of ON of.oid = roleid JOIN pg_roles taker ON \
                 taker.oid = member WHERE taker.rolname = '{name}_service' AND of.rolname LIKE \
                 'ten\\_%' LOOP EXECUTE format('DROP ROLE %I', place); END LOOP; END $$"
            ),
            format!("DROP ROLE {name}_service"),
            format!("DROP ROLE {name}_admin"),
        ];
        let statements: Vec<_> = statements.iter().map(String::as_str).collect();
        run_sql(&superuser_url(), &statements, false);
    }
}

fn run_sql(url: &str, statements: &[&str], must_work: bool) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        let work = tokio::spawn(connection);
        for statement in statements {
            let done = client.batch_execute(statement).await;
            assert!(done.is_ok() || !must_work, "{statement}: {done:?}");
        }
        drop(client);
        let _ = work.await;
    });
}

/// Passes connections on to the server of a URL, or breaks them.
pub(crate) struct Door {
    /// The URL that leads through it.
    pub(crate) url: String,
    shut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Door {
    pub(crate) fn to(url: &str) -> Self {
        let (user, rest) = url.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let server: SocketAddr = server.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{user}@{}/{database}", listener.local_addr().unwrap());
        let (shut, open) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let door = Self { url, shut, open };
        let (shut, open) = (Arc::clone(&door.shut), Arc::clone(&door.open));
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // Dropped while it is shut.
                if shut.load(Ordering::SeqCst) {
                    continue;
                }
                let far = TcpStream::connect(server).unwrap();
                pipe(&near, &far);
                pipe(&far, &near);
                open.lock().unwrap().extend([near, far]);
            }
        });
        door
    }

    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }
}

fn pipe(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
