//! By what nodes share tenants' rates, if they do.

use super::Settings;
use crate::shared_rates::RedisConfig;
use anyhow::{Context as _, Result, anyhow, ensure};
use std::{fs, num::NonZeroU32, time::Duration};
use tenantry::Sharing;

const PREFIX: &str = "tenantry";
/// Fewer than there are would let through too much while Redis is away, and one alone need not
/// share.
const NODES: u32 = 2;
const TIMEOUT: Duration = Duration::from_millis(100);
/// Longer, and a Redis that hangs would hold requests up as if it were needed.
const TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// A Redis, and how nodes ask it.
#[derive(Debug, Clone)]
pub(crate) struct SharedRates {
    pub(crate) redis: RedisConfig,
    pub(crate) sharing: Sharing,
}

/// What the settings say of it.
pub(super) fn shared_rates_of(given: &Settings) -> Result<Option<SharedRates>> {
    let Some(url) = &given.redis else {
        let more = given.redis_prefix.is_some()
            || given.redis_nodes.is_some()
            || given.redis_timeout.is_some()
            || given.redis_ca.is_some();
        ensure!(!more, "how Redis is used is said without redis: give its URL too");
        return Ok(None);
    };
    let read = |path| fs::read(path).with_context(|| "redis_ca".to_owned());
    let ca = given.redis_ca.as_ref().map(read).transpose()?;
    let prefix = given.redis_prefix.as_deref().unwrap_or(PREFIX);
    let redis = RedisConfig::new(url.reveal(), prefix, ca).map_err(|why| anyhow!(why))?;
    let nodes = NonZeroU32::new(given.redis_nodes.unwrap_or(NODES));
    let nodes = nodes.context("redis_nodes must be at least 1")?;
    let within = given.redis_timeout.map_or(TIMEOUT, |span| span.0);
    ensure!(
        !within.is_zero() && within <= TIMEOUT_MAX,
        "redis_timeout must be more than nothing and at most 10s"
    );
    Ok(Some(SharedRates { redis, sharing: Sharing { nodes, within } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(url: &str) -> Settings {
        Settings { redis: url.parse().ok(), ..Settings::default() }
    }

    fn why(given: &Settings) -> String {
        format!("{:#}", shared_rates_of(given).unwrap_err())
    }

    #[test]
    fn nothing_is_shared_without_a_url() {
        assert!(shared_rates_of(&Settings::default()).unwrap().is_none());
        let prefix = Settings { redis_prefix: Some("a".into()), ..Settings::default() };
        assert!(why(&prefix).contains("without redis"));
    }

    #[test]
    fn a_url_is_looked_at_and_never_shown() {
        for url in ["redis://127.0.0.1", "rediss://me:geheim@db.internal:6380/1", "unix:///run/r"] {
            let shared = shared_rates_of(&given(url)).unwrap().unwrap();
            assert_eq!((shared.sharing.nodes.get(), shared.sharing.within), (NODES, TIMEOUT));
            assert!(!format!("{shared:?}").contains("geheim"));
            assert!(!shared.redis.is_open_to_others());
        }
        let plain = shared_rates_of(&given("redis://db.internal")).unwrap().unwrap();
        assert!(plain.redis.is_open_to_others());
        for url in [
            "",
            "geheim",
            "http://geheim",
            "redis://:geheim@",
            "rediss://h/geheim",
            "rediss://geheim#insecure",
        ] {
            let why = why(&given(url));
            assert!(why.starts_with("redis: ") && !why.contains("geheim"), "{url}: {why}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let with = |change: fn(&mut Settings)| {
            let mut given = given("redis://127.0.0.1");
            change(&mut given);
            why(&given)
        };
        assert!(with(|given| given.redis_nodes = Some(0)).contains("redis_nodes"));
        assert!(with(|given| given.redis_timeout = "11s".parse().ok()).contains("redis_timeout"));
        for prefix in ["", "a b", "{1}", "\n", &"a".repeat(65)] {
            let given =
                Settings { redis_prefix: Some(prefix.to_owned()), ..given("redis://127.0.0.1") };
            assert!(why(&given).starts_with("redis_prefix: "));
        }
        assert!(with(|given| given.redis_ca = Some("/nowhere".into())).contains("redis_ca"));
        assert!(with(|given| given.redis_ca = Some("/dev/null".into())).contains("no rediss://"));
    }
}
