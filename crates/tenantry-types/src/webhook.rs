//! What the operator's endpoints are told.

use crate::{Error, Result, Timestamp};
use std::{collections::BTreeSet, fmt};

/// Endpoints of an installation.
pub const WEBHOOKS_MAX: usize = 16;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// Nothing: somebody has asked for a message.
    Ping,
    /// A tenant was made, and is whole.
    TenantCreated,
    /// A tenant was suspended.
    TenantSuspended,
    /// A suspended tenant is served again.
    TenantResumed,
    /// A tenant was deleted; it may be restored until it is erased.
    TenantDeleted,
    /// A deletion was taken back.
    TenantRestored,
    /// A tenant's key was destroyed.
    TenantErased,
    /// A tenant lives in another place.
    TenantMoved,
    /// Somebody has tried another tenant than its own.
    CrossTenantAttempt,
    /// A tenant has used a part of a budget.
    BudgetThreshold,
    /// An operator has said why it acts in a tenant.
    BreakGlass,
    /// A move has failed, and the tenant stays where it was.
    TenantMoveFailed,
    /// A move was cancelled, and the tenant stays where it was.
    TenantMoveCancelled,
}

impl EventKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Ping,
        Self::TenantCreated,
        Self::TenantSuspended,
        Self::TenantResumed,
        Self::TenantDeleted,
        Self::TenantRestored,
        Self::TenantErased,
        Self::TenantMoved,
        Self::CrossTenantAttempt,
        Self::BudgetThreshold,
        Self::BreakGlass,
        Self::TenantMoveFailed,
        Self::TenantMoveCancelled,
    ];

    /// Its word, which is the `type` of a message.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ping => "test.ping",
            Self::TenantCreated => "tenant.created",
            Self::TenantSuspended => "tenant.suspended",
            Self::TenantResumed => "tenant.resumed",
            Self::TenantDeleted => "tenant.deleted",
            Self::TenantRestored => "tenant.restored",
            Self::TenantErased => "tenant.erased",
            Self::TenantMoved => "tenant.moved",
            Self::CrossTenantAttempt => "security.cross_tenant_attempt",
            Self::BudgetThreshold => "budget.threshold",
            Self::BreakGlass => "security.break_glass",
            Self::TenantMoveFailed => "tenant.move_failed",
            Self::TenantMoveCancelled => "tenant.move_cancelled",
        }
    }

    /// The kind with this word.
    pub fn parse(word: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.word()).collect();
            Error::invalid(format!("{word:?} is no event; there are {}", known.join(", ")))
        })
    }

    /// Its number, which never changes.
    pub fn number(self) -> u8 {
        match self {
            Self::Ping => 0,
            Self::TenantCreated => 1,
            Self::TenantSuspended => 2,
            Self::TenantResumed => 3,
            Self::TenantDeleted => 4,
            Self::TenantRestored => 5,
            Self::TenantErased => 6,
            Self::TenantMoved => 7,
            Self::CrossTenantAttempt => 8,
            Self::BudgetThreshold => 9,
            Self::BreakGlass => 10,
            Self::TenantMoveFailed => 11,
            Self::TenantMoveCancelled => 12,
        }
    }

    /// The kind with this number, if there is one.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Which events somebody wants; none named is all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventKinds(pub BTreeSet<EventKind>);

impl EventKinds {
    /// True if it is wanted.
    pub fn have(&self, kind: EventKind) -> bool {
        self.0.is_empty() || self.0.contains(&kind)
    }
}

/// What one event is known by: a time and a random number, so that they sort by when they happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub [u8; 16]);

impl EventId {
    const PREFIX: &str = "evt_";

    /// An id of this moment. Of `random` ten bytes count.
    pub fn of(at: Timestamp, random: [u8; 16]) -> Self {
        let mut id = random;
        let [_, _, time @ ..] = at.0.to_be_bytes();
        for (to, from) in id.iter_mut().zip(time) {
            *to = from;
        }
        Self(id)
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::invalid("an event's id is evt_ and 32 hexadecimal digits");
        let digits = text.strip_prefix(Self::PREFIX).ok_or_else(wrong)?.as_bytes();
        let mut id = [0; 16];
        if digits.len() != 2 * id.len() {
            return Err(wrong());
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(wrong()),
        };
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let &[high, low] = pair else { return Err(wrong()) };
            *byte = (value(high)? << 4) | value(low)?;
        }
        Ok(Self(id))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One thing that an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A word or a name.
    Text(String),
    /// A count, or milliseconds since 1970.
    Number(u64),
}

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Where an endpoint is: an `https` or `http` URL with a host, without a name or password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(String);

impl WebhookUrl {
    /// The longest, in bytes.
    pub const BYTES_MAX: usize = 2_048;

    /// Parses a URL.
    pub fn parse(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let wrong = |why: &str| Err(Error::invalid(format!("url: {why}")));
        if text.len() > Self::BYTES_MAX {
            return wrong(&format!("longer than {} bytes", Self::BYTES_MAX));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("visible ASCII characters alone are allowed");
        }
        if text.contains(['#', '\\', '"', '<', '>', '^', '`', '{', '|', '}']) {
            return wrong("a character is not allowed in a URL, or it has a fragment");
        }
        let url = Self(text);
        let Some(authority) = url.authority() else {
            return wrong("it must begin with https:// (or, in allowed networks, http://)");
        };
        if authority.contains('@') {
            return wrong("no name or password may be in it; messages are signed");
        }
        let Some(host) = url.host() else { return wrong("its host or port is none") };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if host.is_empty()
            || !(host.parse::<std::net::IpAddr>().is_ok() || host.bytes().all(is_name))
        {
            return wrong("its host is none");
        }
        Ok(url)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// False for plain `http`.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    fn authority(&self) -> Option<&str> {
        let rest = self.0.strip_prefix("https://").or_else(|| self.0.strip_prefix("http://"))?;
        Some(rest.split(['/', '?']).next().unwrap_or(rest))
    }

    /// Its host: a name, or an address without brackets.
    pub fn host(&self) -> Option<&str> {
        let authority = self.authority()?;
        let (host, rest) = match authority.strip_prefix('[') {
            Some(inside) => inside.split_once(']')?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let is_port = |port: &str| {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            is_number && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        let is_whole = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        let is_bracketed = authority.starts_with('[');
        (is_whole && is_bracketed == host.contains(':')).then_some(host)
    }
}

/// The query may hold a secret, so it is not shown.
impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({:?}, …)", self.host().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_of_events_lead_back() {
        for (at, kind) in EventKind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.number()), at);
            assert_eq!(EventKind::of_number(kind.number()), Some(kind));
            assert_eq!(EventKind::parse(kind.word()).unwrap(), kind);
        }
        assert!(EventKind::parse("tenant").is_err() && EventKind::of_number(13).is_none());
    }

    #[test]
    fn ids_sort_by_time_and_are_read_as_they_were_written() {
        let ids = [1, 2, 0x0123_4567_89ab].map(|at| EventId::of(Timestamp(at), [0xfe; 16]));
        assert!(ids.is_sorted());
        assert_eq!(ids[2].to_string(), "evt_0123456789abfefefefefefefefefefe");
        for id in ids {
            assert_eq!(EventId::parse(&id.to_string()).unwrap(), id);
        }
        for bad in ["", "evt_", "evt_0123456789ABfefefefefefefefefefe", "0123"] {
            assert!(EventId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_has_a_host_and_no_password() {
        for (url, host) in [
            ("https://example.com", "example.com"),
            ("https://hooks.example.com:8443/a?b=c", "hooks.example.com"),
            ("http://127.0.0.1:1/x", "127.0.0.1"),
            ("https://[fd00::1]:443/", "fd00::1"),
        ] {
            assert_eq!(WebhookUrl::parse(url).unwrap().host(), Some(host));
        }
        for bad in [
            "",
            "ftp://example.com",
            "https://",
            "https:///path",
            "https://a@example.com/",
            "https://example.com:0/",
            "https://example.com:99999/",
            "https://example.com:+1/",
            "https://fd00::1/",
            "https://[example.com]/",
            "https://[fd00::1",
            "https://exa mple.com/",
            "https://example.com/#a",
            "https://exämple.com/",
        ] {
            assert!(WebhookUrl::parse(bad).is_err(), "{bad}");
        }
        let long = format!("https://example.com/{}", "a".repeat(WebhookUrl::BYTES_MAX));
        assert!(WebhookUrl::parse(long).is_err());
        let shown = format!("{:?}", WebhookUrl::parse("https://example.com/?key=hush").unwrap());
        assert!(!shown.contains("hush"), "{shown}");
    }
}
