//! One open connection.

use super::{
    connections::Counted,
    failure::{Cause, Failure, Outcome, Stage},
    prepared::Prepared,
    statement::Statement,
    target::Target,
    tls::Tls,
};
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tenantry_types::ErrorKind;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::{
    AsyncMessage, Client, Connection, Row, Socket,
    error::SqlState,
    tls::TlsStream,
    types::{Kind, Type},
};

/// From the first packet until the first answer.
pub(super) const OPENING: Duration = Duration::from_secs(5);
/// How long a closing connection may take to say goodbye.
const CLOSING: Duration = Duration::from_secs(2);

/// A server may still count the connection that was closed for this one.
const RETRIES: u32 = 5;
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// pgvector, as it is in one database.
#[derive(Debug)]
pub(crate) struct VectorType {
    /// `vector[]`, for values. No statement may return it.
    pub(crate) many: Type,
}

/// What is asked once for each database.
#[derive(Debug)]
pub(crate) struct Facts {
    /// None if pgvector is not installed here.
    pub(crate) vector: Option<VectorType>,
}

/// An open connection, with the task that moves its bytes.
///
/// Dropped, it ends as soon as what was sent is answered.
pub(super) struct Link {
    client: Client,
    task: JoinHandle<()>,
    tls: Tls,
    pub(super) target: Target,
    pub(super) facts: Arc<Facts>,
    /// Held for the connection's whole life.
    counted: Counted,
    /// It was ended; the client notices that only some time later.
    is_killed: AtomicBool,
    pub(super) prepared: Prepared,
}

impl Link {
    /// Opens a connection to `target`.
    pub(super) async fn open(
        target: Target,
        facts: Option<Arc<Facts>>,
        counted: Counted,
    ) -> Outcome<Self> {
        let asked = target.clone();
        match timeout(OPENING, open(target, facts, counted)).await {
            Ok(opened) => {
                if opened.is_ok() {
                    asked.server.reach().well();
                }
                opened
            }
            Err(_) => {
                say(&asked, "it does not answer");
                Err(Failure::silent(Stage::Connect, OPENING))
            }
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_killed.load(Ordering::Acquire) || self.client.is_closed()
    }

    /// Ends the connection now, whatever is on its way.
    pub(super) fn kill(&self) {
        self.is_killed.store(true, Ordering::Release);
        self.task.abort();
    }

    /// Ends the connection and waits, not for long, until the server was told. Gives back the
    /// place that it took.
    pub(super) async fn close(self) -> Counted {
        let Self { client, mut task, counted, .. } = self;
        drop(client);
        if timeout(CLOSING, &mut task).await.is_err() {
            task.abort();
            // What is left is to drop the socket.
            let _ = task.await;
        }
        counted
    }

    /// Asks the server to stop what it does for this connection. It may arrive later than this
    /// returns: the connection must not be used again.
    pub(super) async fn cancel(&self) {
        let token = self.client.cancel_token();
        if !matches!(timeout(CLOSING, token.cancel_query(self.tls.clone())).await, Ok(Ok(()))) {
            tracing::debug!(target = %self.target, "a request to cancel could not be sent");
        }
    }
}

/// A database that is down is tried by every request for it.
fn say(target: &Target, why: &str) {
    if let Some(tried) = target.server.reach().failed_by(&ErrorKind::Unavailable) {
        tracing::warn!(database = %target, tried, why, "the database cannot be reached");
    }
}

/// What it means that no connection came to be.
fn unconnected(target: &Target, error: &tokio_postgres::Error) -> Failure {
    use std::error::Error as _;
    let failure = Failure::of(error, Stage::Connect);
    if failure.cause() == Cause::Lost {
        match error.as_db_error() {
            Some(answer) => say(target, answer.message()),
            None => {
                let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                say(target, &cause);
            }
        }
    }
    failure
}

async fn open(target: Target, facts: Option<Arc<Facts>>, counted: Counted) -> Outcome<Link> {
    let cluster = target.server.cluster();
    let url = cluster.url().with_database(&target.database);
    let tls = cluster.tls().clone();
    let mut left = RETRIES;
    let (client, connection) = loop {
        match url.config().connect(tls.clone()).await {
            Ok(connected) => break connected,
            Err(error) if left > 0 && error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => {
                left -= 1;
                sleep(RETRY_AFTER).await;
            }
            Err(error) => return Err(unconnected(&target, &error)),
        }
    };
    let task = tokio::spawn(drive(connection, target.clone()));
    // From here on an early return ends the task, because it ends the client.
    let facts = match facts {
        Some(facts) => facts,
        None => Arc::new(ask(&client, &target).await?),
    };
    let is_killed = AtomicBool::new(false);
    let prepared = Prepared::default();
    Ok(Link { client, task, tls, target, facts, counted, is_killed, prepared })
}

/// Moves bytes until the connection ends. Notices of the server may hold values: dropped unread.
async fn drive<S>(mut connection: Connection<Socket, S>, target: Target)
where
    S: TlsStream + Unpin,
{
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notice(_) | AsyncMessage::Notification(_) | _)) => {}
            Some(Err(error)) => {
                let code = error.code().map(|code| code.code().to_owned());
                tracing::debug!(%target, %error, code, "a connection to the database ended");
                return;
            }
            None => return,
        }
    }
}

const FACTS: &str = "SELECT v.schema, v.one, v.many \
     FROM (SELECT 1) AS always LEFT JOIN ( \
       SELECT n.nspname::pg_catalog.text AS schema, t.oid AS one, t.typarray AS many \
       FROM pg_catalog.pg_extension AS e \
       JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace \
       JOIN pg_catalog.pg_type AS t ON t.typnamespace = n.oid AND t.typname = 'vector' \
       WHERE e.extname = 'vector') AS v ON true";

async fn ask(client: &Client, target: &Target) -> Outcome<Facts> {
    let Statement { text, values, .. } = Statement::new(FACTS);
    debug_assert!(values.is_empty());
    let rows = client
        .query_typed(text.as_str(), &[])
        .await
        .map_err(|error| unconnected(target, &error))?;
    let odd = |()| Failure::internal("the database says nothing sensible about itself");
    let row = rows.first().ok_or(()).map_err(odd)?;
    facts(row).map_err(|_| ()).map_err(odd)
}

fn facts(row: &Row) -> std::result::Result<Facts, Box<dyn std::error::Error + Send + Sync>> {
    let vector = match row.try_get::<_, Option<String>>(0)? {
        None => None,
        Some(schema) => {
            let one = Type::new("vector".to_owned(), row.try_get(1)?, Kind::Simple, schema.clone());
            let many = Type::new("_vector".to_owned(), row.try_get(2)?, Kind::Array(one), schema);
            Some(VectorType { many })
        }
    };
    Ok(Facts { vector })
}

/// True if the failure says that what was once asked is not true any more.
pub(super) fn is_stale(failure: &Failure) -> bool {
    failure.cause() == Cause::TypesChanged
}
