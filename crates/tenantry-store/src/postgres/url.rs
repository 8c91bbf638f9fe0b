//! Where a server is, and whether the way there is safe.

use super::tls::Tls;
use crate::tenancy::master::open_error;
use percent_encoding::percent_decode_str;
use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tenantry_types::{Error, Result};
use tokio_postgres::{
    Config,
    config::{Host, SslMode, SslNegotiation},
};

/// For each address a name stands for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that vanished is noticed after 25 seconds without traffic,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// and after 15 while something sent is not acknowledged.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// A PostgreSQL server and one database of it, as a URL or a libpq connection string.
///
/// It holds a password, so it is never shown whole: `Debug` and `Display` give hosts, ports and
/// the database.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// As it was given, without `sslrootcert`, and with modes of TLS that the driver knows.
    text: String,
    config: Config,
    database: String,
    /// The file of certificates that may vouch for the server's.
    authority: Option<PathBuf>,
}

impl DatabaseUrl {
    /// Understands `text`, with libpq's `sslrootcert=FILE` among its options. No error repeats any
    /// part of it that could be a password.
    pub fn parse(text: &str) -> Result<Self> {
        if !has_clear_parts(text) {
            return Err(not_understood());
        }
        let (text, authority) = for_the_driver(text);
        let mut config: Config = text.parse().map_err(|error| what_is_wrong(&error))?;
        // In the other form, too, a password may have been written where the host is.
        let odd = |host: &Host| matches!(host, Host::Tcp(name) if name.contains('@'));
        if config.get_hosts().iter().any(odd) {
            return Err(not_understood());
        }
        let user = config.get_user().filter(|user| !user.is_empty()).map(str::to_owned);
        let Some(user) = user else {
            return Err(Error::invalid("the database's URL names no user"));
        };
        if config.get_hosts().is_empty() {
            return Err(Error::invalid("the database's URL names no host"));
        }
        let addresses = config.get_hostaddrs().len();
        if addresses > 0 && addresses != config.get_hosts().len() {
            return Err(Error::invalid("the database's URL needs one hostaddr for each host"));
        }
        let ports = config.get_ports().len();
        if ports > 1 && ports != config.get_hosts().len() {
            return Err(Error::invalid("the database's URL needs one port, or one for each host"));
        }
        // As libpq does.
        let database = config.get_dbname().map_or(user, str::to_owned);
        config
            .dbname(&database)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(TCP_USER_TIMEOUT);
        if config.get_application_name().is_none() {
            config.application_name("tenantry");
        }
        Ok(Self { text, config, database, authority })
    }

    /// The same with a file of certificates, if it names none itself.
    #[must_use]
    pub fn or_authority(mut self, file: Option<&Path>) -> Self {
        self.authority = self.authority.or_else(|| file.map(Path::to_owned));
        self
    }

    /// True if it names a file of certificates.
    pub(super) fn has_authority(&self) -> bool {
        self.authority.is_some()
    }

    /// The same server and user, but another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        let mut config = self.config.clone();
        config.dbname(name);
        Self { config, database: name.to_owned(), ..self.clone() }
    }

    /// The database it names.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The user it names.
    pub(crate) fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Where it really connects to: an address goes before the name that stands beside it.
    fn ends(&self) -> impl Iterator<Item = (&Host, Option<&IpAddr>)> {
        let hosts = self.config.get_hosts().iter().enumerate();
        hosts.map(|(at, host)| (host, self.config.get_hostaddrs().get(at)))
    }
}

/// False if a password may reach into another part of a URL, so that a message which names the host
/// or the database would show some of it: the driver ends the password at the first `@`, other
/// programs at other characters, and both leave the rest to what follows.
fn has_clear_parts(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return true };
    match rest.split_once('@') {
        None => true,
        Some((who, place)) => !who.contains(['/', '?', '#']) && !place.contains('@'),
    }
}

/// The text without the option `sslrootcert`, and its value. Certificates are always verified, as
/// are names in them, so that libpq's modes which say so are the one that demands TLS.
fn for_the_driver(text: &str) -> (String, Option<PathBuf>) {
    const NAME: &str = "sslrootcert=";
    let Some((before, query)) = text.split_once('?') else { return (text.to_owned(), None) };
    let (ours, rest): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|part| part.starts_with(NAME));
    let known = |part| match part {
        "sslmode=verify-ca" | "sslmode=verify-full" => "sslmode=require",
        other => other,
    };
    let rest: Vec<&str> = rest.into_iter().map(known).collect();
    let file = ours.last().map(|part| {
        let path = percent_decode_str(&part[NAME.len()..]);
        PathBuf::from(path.decode_utf8_lossy().into_owned())
    });
    let rest = rest.join("&");
    let text = if rest.is_empty() { before.to_owned() } else { format!("{before}?{rest}") };
    (text, file)
}

/// The options whose value was not understood are named by constants; other causes might be a
/// part of the password that was taken for an option.
fn what_is_wrong(error: &tokio_postgres::Error) -> Error {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if cause.starts_with("invalid value for option `sslmode`") {
        return Error::invalid(
            "the database's URL has an sslmode other than disable, prefer, require, verify-ca and \
             verify-full; certificates are verified in all but the first",
        );
    }
    if cause.starts_with("invalid value for option `") {
        return Error::invalid(format!("the database's URL has an {cause}"));
    }
    not_understood()
}

fn not_understood() -> Error {
    Error::invalid(
        "the database's URL is not understood; it is written \
         postgresql://user:password@host:5432/database, with special characters percent-encoded \
         (an @ in the password is %40)",
    )
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        for (at, (host, _)) in self.ends().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => write!(f, "{name}:{port}")?,
                #[cfg(unix)]
                Host::Unix(folder) => write!(f, "{}:{port}", folder.display())?,
            }
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// A server together with how it is spoken to: in the clear, or over TLS with its certificate
/// verified. There is nothing between the two.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    url: DatabaseUrl,
    tls: Tls,
}

impl Cluster {
    /// With the certificates that the URL names.
    pub(crate) fn open(url: DatabaseUrl) -> Result<Self> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|why| open_error("read the certificates", path, why))
        };
        let authority = url.authority.as_ref().map(read).transpose()?;
        Self::new(url, authority.as_deref())
    }

    /// `authority` holds the certificates (PEM) that may vouch for the server's.
    ///
    /// In the clear: Unix sockets, whatever says `sslmode=disable`, and loopback if there is no
    /// `authority`. Everything else is TLS and needs one: `prefer` would let whoever sits between
    /// choose, and no list of public authorities comes with Tenantry.
    pub(crate) fn new(url: DatabaseUrl, authority: Option<&[u8]>) -> Result<Self> {
        let local = url.ends().filter(|(host, _)| is_unix(host)).count();
        if local > 0 && local < url.ends().count() {
            return Err(Error::invalid(format!(
                "{url} mixes Unix sockets and network addresses; name one kind"
            )));
        }
        let is_loopback = url.ends().all(|(host, address)| is_loopback(host, address));
        let mode = url.config.get_ssl_mode();
        let may_be_clear = mode == SslMode::Disable
            || local > 0
            || (is_loopback && authority.is_none() && mode != SslMode::Require);
        if may_be_clear {
            return Ok(Self { url: with_mode(url, SslMode::Disable), tls: Tls::none() });
        }
        let Some(authority) = authority else {
            return Err(Error::invalid(format!(
                "{url} is reached over TLS and needs the file of its certificate authority \
                 (?sslrootcert=FILE in the URL, or a server's --database-ca; the system's bundle \
                 will do for public authorities); if the network is trusted, write \
                 sslmode=disable into the URL"
            )));
        };
        let is_direct = url.config.get_ssl_negotiation() == SslNegotiation::Direct;
        let tls = Tls::verified(authority, is_direct)?;
        Ok(Self { url: with_mode(url, SslMode::Require), tls })
    }

    /// The way to another database of the same server.
    pub(super) fn with_database(&self, name: &str) -> Self {
        Self { url: self.url.with_database(name), tls: self.tls.clone() }
    }

    pub(crate) fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }
}

fn with_mode(mut url: DatabaseUrl, mode: SslMode) -> DatabaseUrl {
    url.config.ssl_mode(mode);
    url
}

fn is_unix(host: &Host) -> bool {
    match host {
        Host::Tcp(_) => false,
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn is_loopback(host: &Host, address: Option<&IpAddr>) -> bool {
    match (host, address) {
        (_, Some(address)) => address.is_loopback(),
        (Host::Tcp(name), None) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        #[cfg(unix)]
        (Host::Unix(_), None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> DatabaseUrl {
        DatabaseUrl::parse(text).expect("a good URL")
    }

    #[test]
    fn nothing_shows_the_password() {
        for text in [
            "postgresql://anna:hush@db.example:6432/main",
            "host=db.example port=6432 user=anna password=hush dbname=main",
        ] {
            let url = url(text).with_database("other");
            assert_eq!(url.to_string(), "db.example:6432/other");
            assert_eq!(format!("{url:?}"), "DatabaseUrl(db.example:6432/other)");
            let cluster = Cluster::new(url, None).expect_err("needs an authority");
            assert!(!format!("{cluster:?}").contains("hush"), "{cluster:?}");
        }
    }

    #[test]
    fn no_error_repeats_a_part_of_the_password() {
        for text in [
            "postgresql://anna:hush@db.example:port/main",
            "host=db.example user=anna password=a hush=1",
            "host=db.example user=anna password='hush",
            "postgresql://anna:hush@db.example/main?sslmode=hush",
            "postgresql://anna:hush@/main",
            "postgresql://:hush@db.example/main",
            "postgresql://anna:x@hush@db.example/main",
            "postgresql://anna:x@hush@127.0.0.1:5432/main",
            "postgresql://anna:x@y,hush@db.example/main",
            "postgresql://anna:x@y/hush@db.example/main",
            "postgresql://anna:x@y?user=hush@db.example/main",
            "postgresql://anna:12/hush@db.example/main",
            "postgresql://anna:x?sslrootcert=hush@db.example/main",
            "postgresql://anna:x#hush@db.example/main",
            "postgres://anna:x@hush@db.example",
            "host=anna:hush@db.example user=anna",
            "hush",
            "",
        ] {
            let error = DatabaseUrl::parse(text).expect_err("a bad URL");
            assert_eq!(error.kind(), tenantry_types::ErrorKind::Invalid, "{text}");
            assert!(!format!("{error:?} {error}").contains("hush"), "{text}: {error:?}");
        }
        let error = DatabaseUrl::parse("postgresql://anna:hush@db.example:port/main");
        assert!(error.expect_err("a bad port").to_string().contains("`port`"));
    }

    #[test]
    fn the_database_is_the_user_if_none_is_named() {
        assert_eq!(url("postgresql://anna@localhost").database(), "anna");
        assert_eq!(url("postgresql://anna@localhost/main").database(), "main");
    }

    #[test]
    fn beyond_loopback_it_is_tls_or_said_so() {
        let clear = |text: &str| Cluster::new(url(text), None).map(|cluster| cluster.tls.is_none());
        for text in [
            "postgresql://a@localhost/d",
            "postgresql://a@127.0.0.9/d",
            "postgresql://a@[::1]/d",
            "postgresql://a@%2Frun/d?sslmode=require",
            "postgresql://a@db.example/d?sslmode=disable",
            "host=db.example hostaddr=127.0.0.1 user=a",
        ] {
            assert!(clear(text).expect(text), "{text}");
        }
        for text in [
            "postgresql://a@db.example/d",
            "postgresql://a@db.example/d?sslmode=prefer",
            "postgresql://a@db.example/d?sslmode=require",
            "postgresql://a@localhost/d?sslmode=require",
            "postgresql://a@localhost/d?sslmode=verify-full",
            "postgresql://a@db.example/d?connect_timeout=3&sslmode=verify-ca",
            "postgresql://a@localhost,db.example/d",
            "postgresql://a@10.0.0.1/d",
            "host=localhost hostaddr=10.0.0.1 user=a",
        ] {
            let error = clear(text).expect_err(text).to_string();
            assert!(error.contains("--database-ca"), "{text}: {error}");
            assert!(error.contains("?sslrootcert=FILE"), "{text}: {error}");
        }
        let mixed = clear("host=localhost,/run user=a").expect_err("two kinds").to_string();
        assert!(mixed.contains("mixes"), "{mixed}");
    }

    #[test]
    fn with_an_authority_the_network_is_always_tls() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let pem = made.cert.pem();
        for text in ["postgresql://a@localhost/d", "postgresql://a@db.example/d?sslmode=prefer"] {
            let cluster = Cluster::new(url(text), Some(pem.as_bytes())).expect("TLS");
            assert!(!cluster.tls.is_none(), "{text}");
            assert_eq!(cluster.url.config.get_ssl_mode(), SslMode::Require, "{text}");
        }
        let unix = Cluster::new(url("host=/run user=a"), Some(pem.as_bytes())).expect("a socket");
        assert!(unix.tls.is_none());
    }
}
