//! Where a new tenant is to be, if not with all others. No refusal here repeats what was sent: a
//! URL in the wrong place holds a password all the same.

use serde::Deserialize;
use serde_json::Value;
use tenantry_engine::{Error, Location, LocationName, OwnDatabase, Result, SecretText};
use utoipa::ToSchema;

/// The database that a tenant carries. It is in no answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(try_from = "Value", deny_unknown_fields)]
pub(crate) struct OwnDatabaseIn {
    /// Its URL, with the role that serves.
    #[schema(value_type = String, write_only)]
    url: SecretText,
    /// The same database with its admin role; without it there are no graphs, and its tables are
    /// brought to a new version by `tenantry postgres migrate` alone.
    #[schema(value_type = Option<String>, write_only)]
    admin_url: Option<SecretText>,
}

const FORM: &str = "own_database: an object with the text `url`, and `admin_url` if there is one";

impl TryFrom<Value> for OwnDatabaseIn {
    type Error = &'static str;

    fn try_from(value: Value) -> std::result::Result<Self, &'static str> {
        let Value::Object(members) = value else { return Err(FORM) };
        let (mut url, mut admin_url) = (None, None);
        for (name, value) in members {
            match (name.as_str(), value) {
                ("url", Value::String(text)) => url = Some(SecretText::new(text)),
                ("admin_url", Value::String(text)) => admin_url = Some(SecretText::new(text)),
                ("admin_url", Value::Null) => {}
                _ => return Err(FORM),
            }
        }
        Ok(Self { url: url.ok_or(FORM)?, admin_url })
    }
}

impl From<OwnDatabaseIn> for OwnDatabase {
    fn from(given: OwnDatabaseIn) -> Self {
        Self { url: given.url, admin_url: given.admin_url }
    }
}

/// The location of this name, which `field` says.
pub(super) fn location(field: &str, text: &str) -> Result<Location> {
    Location::parse(text).map_err(|_| {
        Error::invalid(format!(
            "{field}: home, or the name of one: 1 to {} of a-z, 0-9 and -, a letter first",
            LocationName::BYTES_MAX
        ))
    })
}

#[cfg(test)]
mod tests {
    use crate::wire::TenantCreateIn;

    #[test]
    fn a_url_in_the_wrong_place_is_not_repeated() {
        let url = "\"postgres://a:hush@h/d\"";
        for body in [
            format!("{{\"name\": \"t\", \"own_database\": {url}}}"),
            format!("{{\"name\": \"t\", \"own_database\": [{url}]}}"),
            format!("{{\"name\": \"t\", \"own_database\": {{\"url\": [{url}]}}}}"),
            format!("{{\"name\": \"t\", \"own_database\": {{\"admin_url\": {url}}}}}"),
            format!("{{\"name\": \"t\", \"own_database\": {{\"url\": {url}, {url}: 1}}}}"),
            format!("{{\"name\": \"t\", \"location\": {url}}}"),
        ] {
            let spec = |body: TenantCreateIn| body.spec();
            let refusal = match serde_json::from_str(&body).map(spec) {
                Err(why) => why.to_string(),
                Ok(spec) => spec.unwrap_err().to_string(),
            };
            assert!(refusal.contains("own_database: an") || refusal.contains("location: home"));
            assert!(!refusal.contains("hush"), "{body}: {refusal}");
        }
        let good = format!("{{\"name\": \"t\", \"own_database\": {{\"url\": {url}}}}}");
        let body: TenantCreateIn = serde_json::from_str(&good).unwrap();
        assert!(!format!("{body:?}").contains("hush"));
        assert!(body.spec().unwrap().own_database.is_some());
    }
}
