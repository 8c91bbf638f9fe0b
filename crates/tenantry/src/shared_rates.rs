//! Takes requests of tenants' rates from a Redis that all nodes of an installation ask.
//!
//! One connection, over which all questions go at the same time. It is made when it is needed, and
//! thrown away when somebody has stopped waiting for an answer: those that come after do not wait
//! behind it.

#[cfg(test)]
mod tests;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, RedisError, Script, ScriptInvocation,
    TlsCertificates, aio::MultiplexedConnection,
};
use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tenantry::{LeaseAnswer, LeaseAsk, LeaseSource, Leasing, Period, TenantId};

/// Bytes of the longest prefix.
const PREFIX_MAX: usize = 64;

/// A Redis, and what this installation's keys begin with.
pub(crate) struct RedisLeases {
    client: Client,
    prefix: String,
    script: Script,
    /// The present connection, and the number of those that were made before it.
    connection: Mutex<(u64, Option<MultiplexedConnection>)>,
    /// Held by whoever makes one.
    connecting: tokio::sync::Mutex<()>,
}

impl fmt::Debug for RedisLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client knows the password.
        f.debug_struct("RedisLeases").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Where a Redis is, and how it is used.
#[derive(Clone)]
pub(crate) struct RedisConfig {
    client: Client,
    prefix: String,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// A Redis at a URL, whose certificate one in `ca` vouches for (PEM), or one that the system
    /// trusts. Nothing that is said of a wrong URL repeats it: it may have a password.
    pub(crate) fn new(url: &str, prefix: &str, ca: Option<Vec<u8>>) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if prefix.is_empty() || prefix.len() > PREFIX_MAX || !prefix.chars().all(fits) {
            return Err(format!(
                "redis_prefix: it must have 1 to {PREFIX_MAX} letters, digits and - _ . :"
            ));
        }
        let schemes = ["redis://", "rediss://", "unix://"];
        if !schemes.iter().any(|scheme| url.starts_with(scheme)) || url.contains('#') {
            return Err(
                "redis: write it like redis://HOST:PORT, rediss://USER:PASSWORD@HOST:PORT \
                        for TLS, or unix:///PATH"
                    .to_owned(),
            );
        }
        let made = match ca {
            None => Client::open(url),
            Some(_) if !url.starts_with("rediss://") => {
                return Err("redis_ca is given, and redis is no rediss:// URL".to_owned());
            }
            Some(ca) => {
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(ca) };
                Client::build_with_tls(url, certificates)
            }
        };
        let client = made.map_err(|why| format!("redis: {why}"))?;
        Ok(Self { client, prefix: prefix.to_owned() })
    }

    /// True if others on the way could read the password, and change what is answered.
    pub(crate) fn is_open_to_others(&self) -> bool {
        match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, _) => {
                let address = host.parse::<std::net::IpAddr>();
                host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
            }
            _ => false,
        }
    }
}

impl RedisLeases {
    pub(crate) fn new(config: &RedisConfig) -> Self {
        Self {
            client: config.client.clone(),
            prefix: config.prefix.clone(),
            script: Script::new(include_str!("shared_rates/lease.lua")),
            connection: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// A tenant's key. What is in braces says where a cluster has it.
    fn key(&self, tenant: TenantId) -> String {
        format!("{}:{{{}}}", self.prefix, tenant.get())
    }

    fn slot(&self) -> MutexGuard<'_, (u64, Option<MultiplexedConnection>)> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self) -> Option<(u64, MultiplexedConnection)> {
        let slot = self.slot();
        slot.1.clone().map(|connection| (slot.0, connection))
    }

    /// The present connection, or a new one, and whether it is new.
    async fn connected(&self) -> Result<(u64, MultiplexedConnection, bool), RedisError> {
        if let Some((number, connection)) = self.present() {
            return Ok((number, connection, false));
        }
        let _connecting = self.connecting.lock().await;
        if let Some((number, connection)) = self.present() {
            return Ok((number, connection, true));
        }
        // Whoever waits knows how long.
        let config = AsyncConnectionConfig::new();
        let config = config.set_connection_timeout(None).set_response_timeout(None);
        let made = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut slot = self.slot();
        *slot = (slot.0 + 1, Some(made.clone()));
        Ok((slot.0, made, true))
    }

    async fn ask(&self, ask: LeaseAsk) -> Result<LeaseAnswer, String> {
        let mut question = self.script.prepare_invoke();
        question.key(self.key(ask.tenant)).arg(ask.wanted);
        for period in Period::ALL {
            let rate = ask.rates.rate(period);
            question.arg(rate.map_or(0, |rate| rate.amount.get()));
            question.arg(rate.map_or(0, |rate| rate.burst.get()));
        }
        let said = |why: RedisError| why.to_string();
        loop {
            let (number, connection, is_new) = self.connected().await.map_err(said)?;
            match self.once(&question, number, connection).await {
                Ok(answer) => return read(&answer).ok_or_else(|| "an odd answer".to_owned()),
                // The server was started anew, or has closed what nobody used. Whether the question
                // was answered is not known: asked twice, a tenant gets less, and never more.
                Err(why) if !is_new && why.is_connection_dropped() => {}
                Err(why) => return Err(said(why)),
            }
        }
    }

    /// One question over a connection, which is thrown away unless it is answered.
    async fn once(
        &self,
        question: &ScriptInvocation<'_>,
        number: u64,
        mut connection: MultiplexedConnection,
    ) -> Result<Vec<u64>, RedisError> {
        let mut unless_answered = Discard { of: self, number, is_answered: false };
        let answer = question.invoke_async(&mut connection).await;
        unless_answered.is_answered = answer.is_ok();
        answer
    }
}

/// Throws a connection away when it is dropped before an answer has come.
struct Discard<'a> {
    of: &'a RedisLeases,
    number: u64,
    is_answered: bool,
}

impl Drop for Discard<'_> {
    fn drop(&mut self) {
        let mut slot = self.of.slot();
        if !self.is_answered && slot.0 == self.number {
            slot.1 = None;
        }
    }
}

impl LeaseSource for RedisLeases {
    fn take(&self, ask: LeaseAsk) -> Leasing<'_> {
        Box::pin(self.ask(ask))
    }
}

/// What the script returns.
fn read(answer: &[u64]) -> Option<LeaseAnswer> {
    let [granted, wait, slowest, rates @ ..] = answer else { return None };
    let (granted, wait, slowest) = (*granted, *wait, *slowest);
    let nanos = |micros: u64| micros.saturating_mul(1_000);
    let number = |of: u64| u32::try_from(of).unwrap_or(u32::MAX);
    let slowest = usize::try_from(slowest).ok()?.checked_sub(1);
    let slowest = slowest.and_then(|n| Period::ALL.get(n)).filter(|_| wait > 0);
    let mut left = [(0, 0); Period::ALL.len()];
    if rates.len() != 2 * left.len() {
        return None;
    }
    for (one, said) in left.iter_mut().zip(rates.chunks(2)) {
        *one = (number(said[0]), nanos(said[1]));
    }
    let wait = slowest.map(|period| (*period, nanos(wait)));
    Some(LeaseAnswer { granted: number(granted), wait, left })
}
