//! What is left of a tenant's rates, in the headers of every answer.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;
use tenantry_engine::limiter::Left;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// Says it as draft-ietf-httpapi-ratelimit-headers does: a member for each rate, with its amount `q`
/// in `w` seconds, and `r` that are left now and all of them in `t` seconds. Says nothing if there
/// are no rates.
pub(crate) fn tell(headers: &mut HeaderMap, all: &[Left]) {
    let (mut policy, mut left) = (String::new(), String::new());
    for one in all {
        let comma = if policy.is_empty() { "" } else { ", " };
        let (name, amount) = (one.period.word(), one.rate.amount);
        let (window, full) = (one.period.seconds(), one.full_in.div_ceil(1_000_000_000));
        // Writing to a text does not fail.
        let _ = write!(policy, "{comma}\"{name}\";q={amount};w={window}");
        let _ = write!(left, "{comma}\"{name}\";r={};t={full}", one.remaining);
    }
    for (name, value) in [(POLICY, policy), (LEFT, left)] {
        if let Ok(value) = HeaderValue::try_from(value)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use tenantry_engine::{Period, Rate};

    #[test]
    fn every_rate_is_told_and_nothing_if_there_is_none() {
        let rate = |n| Rate::new(NonZeroU32::new(n).unwrap());
        let second = Left { period: Period::Second, rate: rate(5), remaining: 4, full_in: 1 };
        let full_in = 1_500_000_000;
        let hour = Left { period: Period::Hour, rate: rate(900), remaining: 0, full_in };
        let mut headers = HeaderMap::new();
        tell(&mut headers, &[]);
        assert!(headers.is_empty());
        tell(&mut headers, &[second, hour]);
        assert_eq!(headers["ratelimit-policy"], r#""second";q=5;w=1, "hour";q=900;w=3600"#);
        assert_eq!(headers["ratelimit"], r#""second";r=4;t=1, "hour";r=0;t=2"#);
    }
}
