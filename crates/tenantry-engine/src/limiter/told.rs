//! What is left of a tenant's rates, as clients read it.

use super::Left;
use std::fmt::Write as _;

/// The headers of draft-ietf-httpapi-ratelimit-headers: a member for each rate, with its amount `q`
/// in `w` seconds, and `r` that are left now and all of them in `t` seconds. Nothing if there are no
/// rates.
pub(crate) fn headers(all: &[Left]) -> Option<[(&'static str, String); 2]> {
    let (mut policy, mut left) = (String::new(), String::new());
    for one in all {
        let comma = if policy.is_empty() { "" } else { ", " };
        let (name, amount) = (one.period.word(), one.rate.amount);
        let (window, full) = (one.period.seconds(), one.full_in.div_ceil(1_000_000_000));
        // Writing to a text does not fail.
        let _ = write!(policy, "{comma}\"{name}\";q={amount};w={window}");
        let _ = write!(left, "{comma}\"{name}\";r={};t={full}", one.remaining);
    }
    (!all.is_empty()).then_some([("ratelimit-policy", policy), ("ratelimit", left)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use tenantry_types::{Period, Rate};

    #[test]
    fn every_rate_is_told_and_nothing_if_there_is_none() {
        let rate = |n| Rate::new(NonZeroU32::new(n).unwrap());
        let second = Left { period: Period::Second, rate: rate(5), remaining: 4, full_in: 1 };
        let full_in = 1_500_000_000;
        let hour = Left { period: Period::Hour, rate: rate(900), remaining: 0, full_in };
        assert_eq!(headers(&[]), None);
        let [policy, left] = headers(&[second, hour]).unwrap();
        let says = r#""second";q=5;w=1, "hour";q=900;w=3600"#;
        assert_eq!(policy, ("ratelimit-policy", says.to_owned()));
        assert_eq!(left, ("ratelimit", r#""second";r=4;t=1, "hour";r=0;t=2"#.to_owned()));
    }
}
