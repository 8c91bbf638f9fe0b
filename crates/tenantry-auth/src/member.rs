//! Members of a tenant: whom an issuer's tokens speak for, and what they may do there.

use crate::{Grant, Grants, GroupNumber, Role};
use std::{fmt, sync::Arc};
use tenantry_types::{Error, Result, Timestamp};

/// Bytes of the longest name of an issuer.
pub(crate) const ISSUER_BYTES_MAX: usize = 32;
/// Bytes of the longest subject: OpenID Connect allows as many.
const SUBJECT_BYTES_MAX: usize = 255;

/// Whom a token speaks for: `<issuer>/<subject>`, by the issuer's name here and by what its tokens
/// have as subject. Two issuers never speak for the same user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(Arc<str>);

impl UserName {
    /// Of an issuer, whose name is known to be right; `None` if that is no subject.
    pub(crate) fn of(issuer: &str, subject: &str) -> Option<Self> {
        is_subject(subject).then(|| Self(format!("{issuer}/{subject}").into()))
    }

    /// Parses `<issuer>/<subject>`.
    pub fn parse(text: &str) -> Result<Self> {
        let parts = text.split_once('/');
        let found = parts.filter(|(issuer, subject)| is_issuer(issuer) && is_subject(subject));
        match found {
            Some(_) => Ok(Self(text.into())),
            None => Err(Error::invalid(format!(
                "a member is ISSUER/SUBJECT: for the issuer's name 1 to {ISSUER_BYTES_MAX} of a to z, \
                 digits and - are allowed, for the subject 1 to {SUBJECT_BYTES_MAX} bytes are \
                 allowed and no control characters"
            ))),
        }
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the issuer.
    pub fn issuer(&self) -> &str {
        self.0.split_once('/').map_or("", |(issuer, _)| issuer)
    }

    /// What the issuer calls it.
    pub fn subject(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, subject)| subject)
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// True for what an issuer may be called.
pub(crate) fn is_issuer(text: &str) -> bool {
    (1..=ISSUER_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_subject(text: &str) -> bool {
    (1..=SUBJECT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// By what a member of one tenant is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub [u8; 32]);

/// What a member is in its tenant; ordered from the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberRole {
    /// Reaches what its groups give, and nothing else.
    Guest,
    /// Works with data.
    Member,
    /// Runs the tenant.
    Admin,
    /// Answers for it: one always remains.
    Owner,
}

/// What a role means.
#[derive(Debug, Clone, Copy)]
pub struct RoleRights {
    /// Which one.
    pub role: MemberRole,
    /// Its level in the tenant: the highest that a token of such a member can have.
    pub level: Role,
    /// The members that it may add, change and remove, and the roles that it may give.
    pub manages: &'static [MemberRole],
    /// In words.
    pub text: &'static str,
}

/// What roles mean. All that is asked about members is asked of this table, and the page about rights
/// shows it.
pub const ROLE_RIGHTS: [RoleRights; 4] = [
    RoleRights {
        role: MemberRole::Guest,
        level: Role::Write,
        manages: &[],
        text: "reads, or reads and writes, what its groups give; nothing else is there for it",
    },
    RoleRights {
        role: MemberRole::Member,
        level: Role::Write,
        manages: &[],
        text: "reads and writes records, makes and changes collections",
    },
    RoleRights {
        role: MemberRole::Admin,
        level: Role::Admin,
        manages: &[MemberRole::Guest, MemberRole::Member, MemberRole::Admin],
        text: "also databases, keys, members, groups, the audit log and exports",
    },
    RoleRights {
        role: MemberRole::Owner,
        level: Role::Admin,
        manages: &MemberRole::ALL,
        text: "also other owners; the last one stays",
    },
];

impl MemberRole {
    /// All, from the least.
    pub const ALL: [Self; 4] = [Self::Guest, Self::Member, Self::Admin, Self::Owner];

    /// Its word in protocols, commands and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// The role with this word.
    pub fn parse(word: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|one| one.word() == word);
        found.ok_or_else(|| {
            Error::invalid(format!(
                "no role is called {word:?}: it is guest, member, admin or owner"
            ))
        })
    }

    fn rights(self) -> &'static RoleRights {
        match self {
            Self::Guest => &ROLE_RIGHTS[0],
            Self::Member => &ROLE_RIGHTS[1],
            Self::Admin => &ROLE_RIGHTS[2],
            Self::Owner => &ROLE_RIGHTS[3],
        }
    }

    /// The highest level that it reaches.
    pub fn level(self) -> Role {
        self.rights().level
    }

    /// Whether it may add, change and remove members of a role.
    pub fn manages(self, role: Self) -> bool {
        self.rights().manages.contains(&role)
    }
}

/// A member as the directory keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// By what it is kept.
    pub id: MemberId,
    /// Whom tokens call so.
    pub user: UserName,
    /// What it is in the tenant.
    pub role: MemberRole,
    /// While it is, its tokens are refused.
    pub is_suspended: bool,
    /// The groups it is in, in the order of their numbers. Those that are gone mean nothing.
    pub groups: Vec<GroupNumber>,
    /// For people, at most 254 bytes. Proves nothing.
    pub email: Option<String>,
    /// For people, at most 256 bytes.
    pub name: Option<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub changed_at: Timestamp,
}

impl Member {
    /// True if the tenant cannot do without it if there is no other one.
    pub fn is_acting_owner(&self) -> bool {
        self.role == MemberRole::Owner && !self.is_suspended
    }
}

/// A member, and what it may by its groups.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberRights {
    /// Who it is.
    pub member: Member,
    /// What its groups give a guest. None for whom groups add nothing.
    pub(crate) grants: Option<Arc<Grants>>,
}

impl MemberRights {
    /// Of a member to whose groups these rights are given.
    pub fn new(member: Member, given: impl IntoIterator<Item = Grant>) -> Self {
        let is_guest = member.role == MemberRole::Guest;
        let grants = is_guest.then(|| Arc::new(Grants::of(given)));
        Self { member, grants }
    }

    /// The highest level that it reaches, by its role and its groups.
    pub fn level(&self) -> Role {
        let by_role = self.member.role.level();
        self.grants.as_ref().map_or(by_role, |grants| by_role.min(grants.level()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_issuer_and_subject() {
        for (text, issuer, subject) in
            [("login/alice", "login", "alice"), ("a-1/auth0|5/é", "a-1", "auth0|5/é")]
        {
            let user = UserName::parse(text).unwrap();
            assert_eq!((user.issuer(), user.subject(), user.as_str()), (issuer, subject, text));
            assert_eq!(UserName::of(issuer, subject), Some(user));
        }
        let long = format!("login/{}", "x".repeat(256));
        for bad in ["", "alice", "/alice", "login/", "Login/a", "lo gin/a", "login/a\n", &long] {
            assert!(UserName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_table_says_of_each_role_what_it_means() {
        for role in MemberRole::ALL {
            assert_eq!(role.rights().role, role);
            assert_eq!(MemberRole::parse(role.word()).unwrap(), role);
            // Nobody gives a role above their own.
            assert!(role.rights().manages.iter().all(|managed| *managed <= role));
        }
        assert!(MemberRole::parse("root").is_err());
        assert!(!MemberRole::Admin.manages(MemberRole::Owner));
    }
}
