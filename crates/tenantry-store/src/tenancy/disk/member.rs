//! Members of tenants and their groups on disk. The rules of [`super`] hold.

use super::unreadable;
use serde::{Deserialize, Serialize};
use tenantry_auth::{Allowed, Grant, Group, GroupNumber, Member, MemberId, MemberRole, UserName};
use tenantry_types::{CollectionNumber, DatabaseNumber, GroupName, Result, Timestamp};

const WHAT: &str = "a member";
const GROUP: &str = "a group";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DiskMember {
    V1(DiskMemberParts),
    /// Of one that is in groups or a guest: with the numbers of its groups.
    V2(DiskMemberParts, Vec<u32>),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskMemberParts {
    /// `<issuer>/<subject>`.
    user: String,
    /// 0 member, 1 admin, 2 owner, 3 guest.
    role: u8,
    suspended: bool,
    email: Option<String>,
    name: Option<String>,
    created_at: u64,
    changed_at: u64,
}

impl DiskMember {
    pub(crate) fn from_member(member: &Member) -> Self {
        let parts = DiskMemberParts {
            user: member.user.to_string(),
            role: match member.role {
                MemberRole::Member => 0,
                MemberRole::Admin => 1,
                MemberRole::Owner => 2,
                MemberRole::Guest => 3,
            },
            suspended: member.is_suspended,
            email: member.email.clone(),
            name: member.name.clone(),
            created_at: member.created_at.0,
            changed_at: member.changed_at.0,
        };
        if member.groups.is_empty() && member.role != MemberRole::Guest {
            return Self::V1(parts);
        }
        Self::V2(parts, member.groups.iter().map(|group| group.0).collect())
    }

    pub(crate) fn into_member(self, id: MemberId) -> Result<Member> {
        let (parts, groups) = match self {
            Self::V1(parts) if parts.role > 2 => return Err(unreadable(WHAT)),
            Self::V1(parts) => (parts, Vec::new()),
            Self::V2(parts, groups) => (parts, groups),
        };
        Ok(Member {
            id,
            user: UserName::parse(&parts.user).map_err(|_| unreadable(WHAT))?,
            role: match parts.role {
                0 => MemberRole::Member,
                1 => MemberRole::Admin,
                2 => MemberRole::Owner,
                3 => MemberRole::Guest,
                _ => return Err(unreadable(WHAT)),
            },
            is_suspended: parts.suspended,
            groups: groups.into_iter().map(GroupNumber).collect(),
            email: parts.email,
            name: parts.name,
            created_at: Timestamp(parts.created_at),
            changed_at: Timestamp(parts.changed_at),
        })
    }
}

/// How many members a tenant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DiskMemberCounts {
    V1 {
        /// All.
        members: u32,
        /// Owners that are not suspended.
        owners: u32,
    },
    /// Of a tenant that has had groups.
    V2 {
        members: u32,
        owners: u32,
        /// The number of the last group that was made.
        last_group: u32,
    },
}

/// A group of members.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DiskGroup {
    V1 {
        name: String,
        /// Database and, for a single collection, collection; and whether it may be written.
        grants: Vec<(u32, Option<u32>, bool)>,
        created_at: u64,
        changed_at: u64,
    },
}

impl DiskGroup {
    pub(crate) fn from_group(group: &Group) -> Self {
        let grant = |Grant { on, writes }: &Grant| match on {
            Allowed::Database(d) => (d.0, None, *writes),
            Allowed::Collection(d, c) => (d.0, Some(c.0), *writes),
        };
        Self::V1 {
            name: group.name.to_string(),
            grants: group.grants.iter().map(grant).collect(),
            created_at: group.created_at.0,
            changed_at: group.changed_at.0,
        }
    }

    pub(crate) fn into_group(self, number: GroupNumber) -> Result<Group> {
        let Self::V1 { name, grants, created_at, changed_at } = self;
        let grant = |(d, c, writes): (u32, Option<u32>, bool)| {
            let d = DatabaseNumber(d);
            let on = match c {
                Some(c) => Allowed::Collection(d, CollectionNumber(c)),
                None => Allowed::Database(d),
            };
            Grant { on, writes }
        };
        Ok(Group {
            number,
            name: GroupName::parse(name).map_err(|_| unreadable(GROUP))?,
            grants: grants.into_iter().map(grant).collect(),
            created_at: Timestamp(created_at),
            changed_at: Timestamp(changed_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{decode, encode},
        *,
    };

    #[test]
    fn a_member_is_read_as_it_was_written() {
        let mut member = Member {
            id: MemberId([4; 32]),
            user: UserName::parse("login/alice").unwrap(),
            role: MemberRole::Owner,
            is_suspended: true,
            groups: Vec::new(),
            email: Some("a@b".into()),
            name: None,
            created_at: Timestamp(5),
            changed_at: Timestamp(6),
        };
        let row = encode(&DiskMember::from_member(&member));
        assert_eq!(row, b"\0\x0blogin/alice\x02\x01\x01\x03a@b\0\x05\x06");
        let read: DiskMember = decode(&row, WHAT).unwrap();
        assert_eq!(read.into_member(member.id).unwrap(), member);

        member.role = MemberRole::Guest;
        member.groups = vec![GroupNumber(2), GroupNumber(300)];
        let row = encode(&DiskMember::from_member(&member));
        assert_eq!(row, b"\x01\x0blogin/alice\x03\x01\x01\x03a@b\0\x05\x06\x02\x02\xac\x02");
        let read: DiskMember = decode(&row, WHAT).unwrap();
        assert_eq!(read.into_member(member.id).unwrap(), member);

        let DiskMember::V2(mut later, groups) = DiskMember::from_member(&member) else {
            panic!("a guest is of version 2");
        };
        later.role = 4;
        assert!(DiskMember::V2(later, groups).into_member(member.id).is_err());
        let DiskMember::V2(guest, _) = DiskMember::from_member(&member) else {
            panic!("a guest is of version 2");
        };
        assert!(DiskMember::V1(guest).into_member(member.id).is_err());
        assert_eq!(encode(&DiskMemberCounts::V1 { members: 3, owners: 1 }), [0, 3, 1]);
        let counts = DiskMemberCounts::V2 { members: 3, owners: 1, last_group: 7 };
        assert_eq!(encode(&counts), [1, 3, 1, 7]);
    }

    #[test]
    fn a_group_is_read_as_it_was_written() {
        let of = |on, writes| Grant { on, writes };
        let group = Group {
            number: GroupNumber(9),
            name: GroupName::parse("readers").unwrap(),
            grants: vec![
                of(Allowed::Database(DatabaseNumber(1)), true),
                of(Allowed::Collection(DatabaseNumber(2), CollectionNumber(3)), false),
            ],
            created_at: Timestamp(5),
            changed_at: Timestamp(6),
        };
        let row = encode(&DiskGroup::from_group(&group));
        assert_eq!(row, b"\0\x07readers\x02\x01\0\x01\x02\x01\x03\0\x05\x06");
        let read: DiskGroup = decode(&row, GROUP).unwrap();
        assert_eq!(read.into_group(group.number).unwrap(), group);
    }
}
