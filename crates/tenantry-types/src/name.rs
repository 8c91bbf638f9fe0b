//! Names and ids. Names are data: they are never part of a path or a statement.

use crate::{Error, Result};
use std::fmt;

/// The longest name of a tenant, database or collection, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 512;

/// The database that every tenant starts with.
pub const DEFAULT_DATABASE: &str = "default_database";

fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(format!("{what} name: must not be empty")));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::invalid(format!(
            "{what} name: {} bytes, at most {NAME_BYTES_MAX} are allowed",
            name.len()
        )));
    }
    if let Some(bad) = name.chars().find(|c| c.is_control()) {
        return Err(Error::invalid(format!(
            "{what} name: control character U+{:04X} is not allowed",
            u32::from(bad)
        )));
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Parses a name: 1 to 512 bytes of UTF-8 without control characters.
            pub fn parse(name: impl Into<String>) -> Result<Self> {
                let name = name.into();
                check_name($what, &name)?;
                Ok(Self(name))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name_type!(
    /// A tenant's chosen name. May be renamed, and reused after erasure; never on disk beside data.
    TenantName,
    "tenant"
);
name_type!(
    /// A database's name, unique within its tenant.
    DatabaseName,
    "database"
);
name_type!(
    /// A collection's name, unique within its database.
    CollectionName,
    "collection"
);

name_type!(
    /// An operator's name for what its tenants have.
    PlanName,
    "plan"
);
name_type!(
    /// An operator's name for an endpoint that is told what happens.
    WebhookName,
    "webhook"
);
name_type!(
    /// A tenant's name for a group of its members, unique within it.
    GroupName,
    "group"
);

impl PlanName {
    /// What settings say where there is no plan; no plan is called so.
    pub const NONE: &'static str = "none";
}

impl DatabaseName {
    /// The database that every tenant starts with.
    pub fn default_database() -> Self {
        Self(DEFAULT_DATABASE.to_owned())
    }
}

/// A record's id: 1 to 8,192 bytes of UTF-8, unique within its collection (and partition).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(String);

impl RecordId {
    /// The longest id, in bytes of UTF-8.
    pub const BYTES_MAX: usize = 8192;

    /// Parses a record id.
    pub fn parse(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        if id.is_empty() {
            return Err(Error::invalid("Empty ID, ID must have at least one character"));
        }
        if id.len() > Self::BYTES_MAX {
            return Err(Error::invalid(format!(
                "record id: {} bytes, at most {} are allowed",
                id.len(),
                Self::BYTES_MAX
            )));
        }
        Ok(Self(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as text, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);
    };
}

number_type!(
    /// A database's tenant-local number: assigned in order, never reused.
    DatabaseNumber
);
number_type!(
    /// A collection's tenant-local number: assigned in order over all databases, never reused.
    CollectionNumber
);

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Parses 32 hexadecimal digits, upper or lower case, with or without hyphens.
            pub fn parse(text: &str) -> Option<Self> {
                let mut bytes = [0_u8; 16];
                let mut digits = 0_usize;
                for c in text.chars() {
                    if c == '-' && matches!(text.len(), 36) && matches!(digits, 8 | 12 | 16 | 20) {
                        continue;
                    }
                    let value = u8::try_from(c.to_digit(16)?).ok()?;
                    let byte = bytes.get_mut(digits / 2)?;
                    *byte = (*byte << 4) | value;
                    digits += 1;
                }
                (digits == 32).then_some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (i, byte) in self.0.iter().enumerate() {
                    if matches!(i, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id_type!(
    /// A collection's public id, in the form of a version 4 UUID (RFC 9562). It is derived from
    /// the tenant's own key, so it says nothing about other tenants.
    CollectionId
);
id_type!(
    /// A database's public id, in the form of a version 4 UUID (RFC 9562).
    DatabaseId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_data() {
        let long = "x".repeat(512);
        for good in ["../", "a/b", "\"quoted\"", "tenant_user:user1", "🦀", "C:\\x", " ", &long] {
            assert_eq!(TenantName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "nul\0", "line\nbreak", &"x".repeat(513)] {
            assert!(TenantName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_round_trip() {
        let text = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let id = CollectionId::parse(text).unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(CollectionId::parse(&text.to_uppercase().replace('-', "")), Some(id));
        for bad in [
            "",
            "0f8fad5b",
            "0f8fad5b-d9cb-469f-a165-70867728950",
            "not-a-uuid",
            "0f8fad5b_d9cb_469f_a165_70867728950e",
        ] {
            assert_eq!(CollectionId::parse(bad), None, "{bad}");
        }
    }
}
