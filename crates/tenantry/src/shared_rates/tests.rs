use super::*;
use redis_server::RedisServer;
use std::{num::NonZeroU32, time::Duration};
use tenantry::{Rate, Rates};
use tokio::time::timeout;

#[path = "../../tests/it/redis_server.rs"]
mod redis_server;

/// Microseconds of the periods.
const PERIODS: [u64; 3] = [1_000_000, 60_000_000, 3_600_000_000];
const START: u64 = 1_800_000_000_000_000;

/// Amount and burst of each rate; 0 is none.
type Given = [(u32, u32); 3];

/// The script with a clock that the test has.
struct Scripted {
    _server: RedisServer,
    connection: redis::Connection,
    script: &'static str,
    /// A clock of the test is not the one by which keys expire.
    keeps_keys: bool,
}

impl Scripted {
    fn new() -> Self {
        let server = RedisServer::start();
        let connection = Client::open(server.url()).unwrap().get_connection().unwrap();
        let script = include_str!("lease.lua");
        Self { _server: server, connection, script, keeps_keys: true }
    }

    fn call(&mut self, now: u64, wanted: u32, rates: Given) -> Vec<u64> {
        let mut both = redis::pipe();
        both.atomic().cmd("EVAL").arg(self.script).arg(1).arg("k").arg(wanted);
        for (amount, burst) in rates {
            both.arg(amount).arg(burst);
        }
        both.arg(now);
        if self.keeps_keys {
            both.cmd("PERSIST").arg("k").ignore();
        }
        let (said,): (Vec<u64>,) = both.query(&mut self.connection).unwrap();
        said
    }

    fn say<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.connection).unwrap()
    }
}

/// What the script must say, in whole numbers.
#[derive(Default)]
struct Model {
    at: u64,
    owed: [u128; 3],
}

impl Model {
    fn call(&mut self, now: u64, wanted: u32, rates: Given) -> Vec<u64> {
        let passed = u128::from(now.saturating_sub(self.at));
        self.at = now;
        let mut granted = u128::from(wanted);
        for (n, (amount, burst)) in rates.into_iter().enumerate() {
            let (period, most) =
                (u128::from(PERIODS[n]), u128::from(burst) * u128::from(PERIODS[n]));
            if amount == 0 {
                self.owed[n] = 0;
                continue;
            }
            self.owed[n] = self.owed[n].saturating_sub(passed * u128::from(amount)).min(most);
            granted = granted.min((most - self.owed[n]) / period);
        }
        let (mut wait, mut slowest, mut left) = (0, 0, Vec::new());
        for (n, (amount, burst)) in rates.into_iter().enumerate() {
            if amount == 0 {
                left.extend([0, 0]);
                continue;
            }
            let (period, amount) = (u128::from(PERIODS[n]), u128::from(amount));
            self.owed[n] += granted * period;
            let most = u128::from(burst) * period;
            left.extend([(most - self.owed[n]) / period, self.owed[n].div_ceil(amount)]);
            let one = self.owed[n].saturating_sub(most - period).div_ceil(amount);
            if one > 0 && one >= wait {
                (wait, slowest) = (one, n as u128 + 1);
            }
        }
        let all = [granted, wait, slowest].into_iter().chain(left);
        all.map(|one| u64::try_from(one).unwrap()).collect()
    }
}

/// Numbers that look like chance and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[test]
fn the_script_says_what_whole_numbers_say() {
    let (mut scripted, mut dice) = (Scripted::new(), Dice(0x9e37_79b9_7f4a_7c15));
    for round in 0..40 {
        let (mut model, mut now) = (Model { at: START, ..Model::default() }, START);
        scripted.say::<()>(&["DEL", "k"]);
        let largest = [20, 1_000, 1_000_000][round % 3];
        let number = |dice: &mut Dice| u32::try_from(1 + dice.below(largest)).unwrap();
        let mut rates = Given::default();
        for step in 0..100 {
            // Rates are changed now and then.
            if step % 25 == 0 {
                rates = [0; 3].map(|_| (number(&mut dice), number(&mut dice)));
                rates[usize::try_from(dice.below(3)).unwrap()] = (0, 0);
            }
            let most = 10_u64.pow(u32::try_from(dice.below(8)).unwrap());
            now += dice.below(most);
            let wanted = number(&mut dice);
            let said = scripted.call(now, wanted, rates);
            assert_eq!(said, model.call(now, wanted, rates), "{round} {step} {rates:?} {wanted}");
        }
    }
}

#[test]
fn all_rates_are_asked_before_one_is_advanced() {
    let mut scripted = Scripted::new();
    let rates = [(100, 100), (0, 0), (10, 10)];
    assert_eq!(scripted.call(START, 64, rates)[..5], [10, 360_000_000, 3, 90, 100_000]);
    for _ in 0..10 {
        let said = scripted.call(START, 64, rates);
        assert_eq!(said, [0, 360_000_000, 3, 90, 100_000, 0, 0, 0, 3_600_000_000]);
    }
}

#[test]
fn a_clock_that_is_set_back_gives_nothing_and_keeps_nobody_out() {
    let mut scripted = Scripted::new();
    let rates = [(10, 10), (0, 0), (0, 0)];
    assert_eq!(scripted.call(START, 10, rates)[0], 10);
    assert_eq!(scripted.call(START - 1_000_000_000, 1, rates)[0], 0);
    assert_eq!(scripted.call(START - 1_000_000_000 + 100_000, 5, rates)[0], 1);
}

#[test]
fn a_key_expires_when_all_has_come_back_and_other_contents_are_overwritten() {
    let mut scripted = Scripted { keeps_keys: false, ..Scripted::new() };
    let rates = [(10, 10), (0, 0), (100, 100)];
    scripted.call(START, 3, rates);
    // 3 of 100 an hour.
    let lives: u64 = scripted.say(&["PTTL", "k"]);
    assert!((100_000..=108_000).contains(&lives), "{lives}");
    for words in [&["SET", "k", "1 2 x 4"][..], &["LPUSH", "k", "1"]] {
        scripted.say::<()>(&["DEL", "k"]);
        scripted.say::<()>(words);
        assert_eq!(scripted.call(START, 20, rates)[0], 10);
        assert_eq!(scripted.call(START, 20, rates)[0], 0);
    }
}

#[test]
fn the_largest_numbers_are_counted_one_by_one_and_overflow_nothing() {
    let mut scripted = Scripted::new();
    let most = u32::MAX;
    let all = [(most, most); 3];
    assert_eq!(scripted.call(START, most, all)[0], u64::from(most));
    assert_eq!(scripted.call(START, most, all)[0], 0);
    scripted.say::<()>(&["DEL", "k"]);
    let slow = [(0, 0), (0, 0), (1, most)];
    for _ in 0..10 {
        let said = scripted.call(START, 7, slow);
        assert_eq!((said[0], said[1]), (7, 0));
    }
    assert_eq!(scripted.call(START, 1, slow)[7], u64::from(most) - 71);
}

fn leases(server: &RedisServer, prefix: &str) -> RedisLeases {
    RedisLeases::new(&RedisConfig::new(&server.url(), prefix, None).unwrap())
}

/// Of a tenant that has so many an hour.
fn wants(tenant: u64, wanted: u32, an_hour: u32) -> LeaseAsk {
    let hour = NonZeroU32::new(an_hour).map(Rate::new);
    LeaseAsk { tenant: TenantId::new(tenant), rates: Rates { hour, ..Rates::default() }, wanted }
}

async fn granted(leases: &RedisLeases, ask: LeaseAsk) -> Result<u32, String> {
    leases.take(ask).await.map(|answer| answer.granted)
}

#[tokio::test]
async fn tenants_and_installations_have_keys_of_their_own() {
    let server = RedisServer::start();
    let (one, same, other) = (leases(&server, "a"), leases(&server, "a"), leases(&server, "b"));
    assert_eq!(granted(&one, wants(7, 9, 10)).await, Ok(9));
    let answer = same.take(wants(7, 9, 10)).await.unwrap();
    assert_eq!(answer.granted, 1);
    let (period, wait) = answer.wait.unwrap();
    assert_eq!(period, Period::Hour);
    assert!((350_000_000_000..=360_000_000_000).contains(&wait), "{wait}");
    assert_eq!((answer.left[0], answer.left[2].0), ((0, 0), 0));
    for (leases, tenant) in [(&one, 8), (&other, 7)] {
        assert_eq!(granted(leases, wants(tenant, 9, 10)).await, Ok(9));
    }
    assert_eq!(server.keys(), ["a:{7}", "a:{8}", "b:{7}"]);
}

#[tokio::test]
async fn a_script_that_was_flushed_and_a_server_that_was_started_anew_are_no_failure() {
    let mut server = RedisServer::start();
    let leases = leases(&server, "a");
    assert_eq!(granted(&leases, wants(1, 4, 10)).await, Ok(4));
    server.ask("SCRIPT FLUSH");
    assert_eq!(granted(&leases, wants(1, 4, 10)).await, Ok(4));
    server.kill();
    assert!(granted(&leases, wants(1, 1, 10)).await.is_err());
    server.start_again();
    assert_eq!(granted(&leases, wants(1, 20, 10)).await, Ok(10));
    // Nobody asked while it was away.
    server.kill();
    server.start_again();
    assert_eq!(granted(&leases, wants(1, 20, 10)).await, Ok(10));
}

#[tokio::test]
async fn whoever_comes_after_a_hang_does_not_wait_behind_it() {
    let server = RedisServer::start();
    let leases = leases(&server, "a");
    assert_eq!(granted(&leases, wants(1, 1, 10)).await, Ok(1));
    server.hang();
    let short = Duration::from_millis(50);
    for _ in 0..3 {
        assert!(timeout(short, granted(&leases, wants(1, 1, 10))).await.is_err());
    }
    assert!(leases.present().is_none());
    server.go_on();
    // What was asked meanwhile may have been taken: a tenant gets less by it.
    let left = granted(&leases, wants(1, 10, 10)).await.unwrap();
    assert!((6..=9).contains(&left), "{left}");
}

#[tokio::test]
async fn a_user_needs_no_more_rights_than_the_documents_say() {
    let server = RedisServer::start();
    let rights = "+get +set +time +evalsha +script|load";
    server.ask(&format!("ACL SETUSER node on >geheim resetkeys ~a:* -@all {rights}"));
    let of = |prefix: &str, password: &str| {
        let url = format!("{}?user=node&pass={password}", server.url());
        RedisLeases::new(&RedisConfig::new(&url, prefix, None).unwrap())
    };
    assert_eq!(granted(&of("a", "geheim"), wants(1, 1, 10)).await, Ok(1));
    let why = granted(&of("b", "geheim"), wants(1, 1, 10)).await.unwrap_err();
    assert!(why.contains("keys") && !why.contains("geheim"), "{why}");
    let why = granted(&of("a", "falsch"), wants(1, 1, 10)).await.unwrap_err();
    assert!(why.contains("Password authentication failed"), "{why}");
}

#[tokio::test]
async fn over_tls_a_server_is_asked_that_the_named_certificate_vouches_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let pair = || rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let made = pair();
    std::fs::write(at("cert"), made.cert.pem()).unwrap();
    std::fs::write(at("key"), made.signing_key.serialize_pem()).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let (cert, key) = (at("cert"), at("key"));
    let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
    let listens = ["--tls-port", &port, "--tls-auth-clients", "no"];
    let _server = RedisServer::start_with(&[&files[..], &listens].concat());
    let url = format!("rediss://127.0.0.1:{port}");
    let with = |ca: String| RedisConfig::new(&url, "a", Some(ca.into_bytes())).unwrap();
    let leases = RedisLeases::new(&with(made.cert.pem()));
    assert_eq!(granted(&leases, wants(1, 1, 10)).await, Ok(1));
    let other = RedisLeases::new(&with(pair().cert.pem()));
    let why = granted(&other, wants(1, 1, 10)).await.unwrap_err();
    assert!(why.contains("certificate"), "{why}");
}
