use super::*;
use clap::{Args, Command, FromArgMatches};

fn from_flags(flags: &[&str]) -> Settings {
    let command = Settings::augment_args(Command::new("serve").no_binary_name(true));
    Settings::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap()
}

fn check(flags: &[&str]) -> std::result::Result<Config, String> {
    Config::load(from_flags(flags), None).map_err(|e| format!("{e:#}"))
}

/// Of an embedded store: memory budget and cache.
fn sizes(config: &Config) -> (ByteSize, ByteSize) {
    match &config.store.backend {
        Backend::Embedded { memory_budget, cache_size, .. } => (*memory_budget, *cache_size),
        Backend::Postgres(_) => panic!("{config:?}"),
    }
}

#[test]
fn every_setting_is_a_flag_a_variable_and_a_key_of_one_name() {
    let command = Settings::augment_args(Command::new("serve"));
    let mut count = 0;
    for argument in command.get_arguments() {
        let name = argument.get_id().as_str();
        let variable = argument.get_env().unwrap().to_str().unwrap();
        assert_eq!(variable, format!("TENANTRY_{}", name.to_uppercase()));
        assert_eq!(argument.get_long().unwrap(), name.replace('_', "-"));
        // A key that the file does not know is refused as unknown; a known one of the wrong kind
        // is refused otherwise.
        let refusal = toml::from_str::<Settings>(&format!("{name} = [[]]")).unwrap_err();
        assert!(!refusal.message().contains("unknown field"), "{refusal}");
        count += 1;
    }
    assert!(count > 25, "only {count} settings");
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tenantry.toml");
    fs::write(&path, "listen = \"127.0.0.1:1\"\ncache_size = \"8MiB\"\nmemory_budget = 33554432\n")
        .unwrap();
    let config = Config::load(from_flags(&["--listen", "localhost:2"]), Some(&path)).unwrap();
    assert_eq!(config.listen, "127.0.0.1:2".parse().unwrap());
    assert_eq!(sizes(&config), (ByteSize(32 << 20), ByteSize(8 << 20)));
    assert_eq!(config.store.data_dir, Path::new("tenantry-data"));
    assert_eq!(config.shutdown_timeout, SHUTDOWN_TIMEOUT);
}

#[test]
fn a_wrong_file_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tenantry.toml");
    for (text, says) in [
        ("# a comment\nlisen = \"127.0.0.1:1\"\n", "line 2: unknown field `lisen`"),
        ("\n\ncache_size = \"lots\"\n", "line 3: \"lots\" is not a size"),
        ("listen = \"example.org:80\"", "is not an address"),
        ("listen = ", "line 1: "),
    ] {
        fs::write(&path, text).unwrap();
        let error = format!("{:#}", Config::load(Settings::default(), Some(&path)).unwrap_err());
        assert!(error.contains(says) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_memory_budget_in_the_wrong_unit_is_refused() {
    for (given, says) in
        [("512", "memory_budget is 512 bytes, at least 16MiB"), ("15MiB", "512MiB")]
    {
        let error = check(&["--memory-budget", given]).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    let config = check(&["--memory-budget", "16MiB"]).unwrap();
    assert_eq!(sizes(&config).0, store::MEMORY_BUDGET_MIN);
}

/// The samples that operators copy are settings that the program takes.
#[test]
fn the_samples_of_the_operators_guide_are_accepted() {
    let guide = include_str!("../../../../docs/operating.md");
    let samples: Vec<_> = guide.split("```toml\n").skip(1).collect();
    assert!(!samples.is_empty());
    for sample in samples {
        let (text, _) = sample.split_once("```").unwrap();
        let settings: Settings = toml::from_str(text).unwrap();
        Config::check(settings).unwrap();
    }
}

const URL: &str = "postgresql://anna:geheim@db.example/main";

#[test]
fn a_database_is_described_by_settings_of_its_own() {
    let flags = ["--backend", "postgres", "--database-url", URL, "--database-admin-url", URL];
    let more =
        ["--database-connections", "4", "--database-statement-timeout", "5s", "--database-citus"];
    let config = check(&[&flags[..], &more].concat()).unwrap();
    let Opening::Postgres(opened) = config.store.opening().unwrap() else { panic!("{config:?}") };
    assert_eq!(opened.url.to_string(), "db.example:5432/main");
    assert!(opened.admin_url.is_some() && opened.may_found);
    let databases = &opened.databases;
    assert_eq!(databases.connections.get(), 4);
    assert_eq!(databases.statement_timeout, Duration::from_secs(5));
    assert!(databases.citus && databases.locations.is_empty());
    assert!(databases.default_location.is_none());
    assert!(!format!("{config:?} {opened:?} {:?}", from_flags(&flags)).contains("geheim"));
}

#[test]
fn settings_of_the_other_backend_are_refused() {
    let postgres = ["--backend", "postgres", "--database-url", URL];
    for (flags, says) in [
        (&["--database-url", URL][..], "give --backend postgres too"),
        (&["--backend", "embedded", "--database-url", URL], "give --backend postgres too"),
        (&["--database-admin-url", URL], "database_admin_url has no meaning"),
        (&["--database-connections", "1"], "database_connections must be at least 2"),
        (&["--database-statement-timeout", "0"], "must be more than nothing"),
        (&["--location", "eu=geheim"], "location: eu: the database's URL"),
        (&["--location-admin", "eu=postgresql://a:geheim@h/d"], "there is no location eu"),
        (&["--default-location", "eu"], "default_location: there is no location eu"),
        (&["--backend", "postgres"], "database_url is missing"),
        (&["--backend", "postgres", "--database-url", "geheim"], "database_url: the database's"),
    ] {
        let error = check(flags).unwrap_err();
        assert!(error.contains(says) && !error.contains("geheim"), "{flags:?}: {error}");
    }
    for (more, says) in [
        (["--memory-budget", "1GiB"], "memory_budget has no meaning with the backend postgres"),
        (["--cache-size", "1GiB"], "cache_size has no meaning"),
        (["--open-databases", "9"], "open_databases has no meaning"),
        (["--database-connections", "1"], "database_connections must be at least 2"),
        (["--database-statement-timeout", "0"], "must be more than nothing"),
        (["--database-admin-url", "geheim"], "database_admin_url: the database's URL"),
    ] {
        let error = check(&[&postgres[..], &more].concat()).unwrap_err();
        assert!(error.contains(says) && !error.contains("geheim"), "{more:?}: {error}");
    }
}

/// Where a configuration's locations lead, whether with an admin, and the default one.
fn locations(config: &Config) -> (Vec<(String, bool)>, Option<String>) {
    let opened = match config.store.opening().unwrap() {
        Opening::Embedded(opened) => opened.databases,
        Opening::Postgres(opened) => opened.databases,
    };
    assert!(!format!("{config:?} {opened:?}").contains("geheim"));
    let one = |l: &tenantry::postgres::LocationConfig| {
        (format!("{} {}", l.name, l.url), l.admin_url.is_some())
    };
    let default = opened.default_location.map(|name| name.to_string());
    (opened.locations.iter().map(one).collect(), default)
}

const POSTGRES: [&str; 4] = ["--backend", "postgres", "--database-url", URL];
const EU: &str = "eu=postgresql://a:geheim@eu.example/t?sslmode=disable";
const US: &str = "us=postgresql://a:geheim@us.example:5433/t";

#[test]
fn locations_are_named_by_flags_one_text_or_a_table() {
    let expected = (
        vec![("eu eu.example:5432/t".to_owned(), true), ("us us.example:5433/t".to_owned(), false)],
        Some("us".to_owned()),
    );
    let rest = ["--location-admin", EU, "--default-location", "us"];
    let both = format!(" {EU}\n {US} ");
    for given in [&["--location", EU, "--location", US][..], &["--location", &both]] {
        // The same beside files.
        for backend in [&POSTGRES[..], &[]] {
            let config = check(&[backend, given, &rest].concat()).unwrap();
            assert_eq!(locations(&config), expected);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tenantry.toml");
    let quoted = |pair: &str| {
        let (name, url) = pair.split_once('=').unwrap();
        format!("{name} = {url:?}\n")
    };
    let (eu, us) = (quoted(EU), quoted(US));
    let start = "default_location = \"us\"\n";
    for text in [
        format!("{start}[location]\n{eu}{us}[location_admin]\n{eu}"),
        format!("{start}location = [{EU:?}, {US:?}]\nlocation_admin = {EU:?}\n"),
    ] {
        fs::write(&path, text).unwrap();
        let config = Config::load(from_flags(&POSTGRES), Some(&path)).unwrap();
        assert_eq!(locations(&config), expected);
    }
    let home = check(&[&POSTGRES[..], &["--default-location", "home"]].concat()).unwrap();
    assert_eq!(locations(&home), (vec![], None));
}

#[test]
fn a_wrong_location_is_told_without_its_url() {
    let same = "eu=postgresql://b:geheim@db.example:5432/main";
    let us_as_eu = US.replace("us=", "eu=");
    let us_at_eu = EU.replace("eu=", "us=");
    for (more, says) in [
        (&["--location", "postgresql://a:geheim@h/d"][..], "location: write each as NAME=URL"),
        (&["--location", "postgresql://a:geheim@h/d?x=y"], "that is no name of a location"),
        (&["--location", "postgres://:geheim@h?x=y"], "that is no name of a location"),
        (&["--location", "home=postgresql://a:geheim@h/d"], "is neither home nor own"),
        (&["--location", "eu=geheim"], "location: eu: the database's URL"),
        (&["--location", EU, "--location", &us_as_eu], "location: eu is given twice"),
        (&["--location", EU, "--location", &us_at_eu], "us is the same database as eu, eu.example"),
        (&["--location", same], "eu is the same database as home, db.example"),
        (&["--location", EU, "--location-admin", US], "there is no location us; give its URL by"),
        (&["--location", EU, "--location-admin", "eu=geheim"], "location_admin: eu: the database"),
        (&["--location-admin", EU], "location_admin: there is no location eu"),
        (&["--default-location", "us"], "default_location: there is no location us"),
        (&["--default-location", "own"], "own database is given with the tenant"),
        (&["--default-location", "postgres://:geheim@h"], "default_location: that is no name"),
    ] {
        let error = check(&[&POSTGRES[..], more].concat()).unwrap_err();
        assert!(error.contains(says) && !error.contains("geheim"), "{more:?}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tenantry.toml");
    for (setting, name) in [
        ("database_url = \"postgresql://a:geheim@h/d\"", "database_url"),
        ("listen = \"127.0.0.1:7701\"", "listen"),
        ("database_connections = 9", "database_connections"),
    ] {
        let (_, url) = EU.split_once('=').unwrap();
        fs::write(&path, format!("[location]\neu = \"{url}\"\n{setting}\n")).unwrap();
        let error = format!("{:#}", Config::load(from_flags(&POSTGRES), Some(&path)).unwrap_err());
        let says = format!("{name} is in this table: settings come before");
        assert!(error.contains(&says) && !error.contains("geheim"), "{error}");
    }
    for text in ["location = [[\"geheim\"]]", "[location]\neu = [\"geheim\"]", "location = 3"] {
        fs::write(&path, text).unwrap();
        let error = format!("{:#}", Config::load(Settings::default(), Some(&path)).unwrap_err());
        assert!(error.contains("write it as a table") && !error.contains("geheim"), "{error}");
    }
}

#[test]
fn the_folder_of_an_embedded_store_is_not_that_of_a_databases_key() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("format"), "1\n").unwrap();
    let data_dir = folder.path().display().to_string();
    let flags = [&POSTGRES[..], &["--data-dir", &data_dir]].concat();
    let refused = check(&flags).unwrap().store.opening().unwrap_err();
    for says in ["holds an embedded store", "a folder belongs to one process", "--location"] {
        assert!(refused.to_string().contains(says), "{refused}");
    }
    let elsewhere = [&flags[..], &["--master-key-command", "true"]].concat();
    assert!(check(&elsewhere).unwrap().store.opening().is_ok());
}

#[test]
fn what_would_expose_data_is_refused() {
    for (flags, says) in [
        (&["--dev", "--listen", "0.0.0.0:1"][..], "dev switches authentication off"),
        (&["--dev", "--behind-proxy", "--chroma-listen", "[::]:1"], "chroma_listen [::]:1: dev"),
        (&["--listen", "10.0.0.1:1"], "reachable from other machines: give --tls-cert and"),
        (&["--chroma-listen", "0.0.0.0:1"], "reachable from other machines"),
        (&["--tls-cert", "x"], "without tls_key"),
        (&["--tls-key", "x"], "without tls_cert"),
        (&["--master-key-env", "A", "--master-key-command", "b"], "exclude each other"),
    ] {
        let error = check(flags).unwrap_err();
        assert!(error.contains(says), "{flags:?}: {error}");
    }
    assert!(check(&["--dev"]).unwrap().dev && check(&["--dev=1"]).unwrap().dev);
    assert!(!check(&["--dev=false", "--listen", "0.0.0.0:1", "--behind-proxy"]).unwrap().dev);
    assert!(check(&["--listen", "0.0.0.0:1", "--tls-cert", "c", "--tls-key", "k"]).is_ok());
    assert!(check(&["--dev", "--listen", "[::1]:1", "--chroma-listen", "127.0.0.2:0"]).is_ok());
}

#[test]
fn metrics_tell_some_tenants_apart() {
    assert_eq!(check(&[]).unwrap().metrics_tenants, METRICS_TENANTS);
    for (given, most) in [("0", 0), ("1000", 1_000)] {
        assert_eq!(check(&["--metrics-tenants", given]).unwrap().metrics_tenants, most);
    }
    let refusal = check(&["--metrics-tenants", "1001"]).unwrap_err();
    assert!(refusal.contains("metrics_tenants must be at most 1000"), "{refusal}");
}

#[test]
fn refused_credentials_are_bounded_if_that_is_switched_on() {
    let bound = |flags: &[&str]| check(flags).unwrap().login_failures_per_minute;
    assert_eq!(bound(&[]), None);
    assert_eq!(bound(&["--login-failures-per-minute", "5"]), NonZeroU32::new(5));
    assert_eq!(bound(&["--login-failures-per-minute", "0"]), None);
}

#[test]
fn moves_have_a_rate_if_one_is_given() {
    assert_eq!(check(&[]).unwrap().store.move_rate, None);
    let config = check(&["--move-rate", "5MB"]).unwrap();
    assert_eq!(config.store.move_rate.unwrap().get(), 5_000_000);
    assert!(check(&["--move-rate", "10"]).unwrap_err().contains("at least 1KiB"));
}

#[test]
fn proxies_are_trusted_for_hosts_below_a_domain() {
    assert_eq!(check(&[]).unwrap().hosts, None);
    let domain = ["--base-domain", "example.com"];
    assert_eq!(check(&domain).unwrap().hosts, Some(Hosts::new("example.com", []).unwrap()));
    let all = [&domain[..], &["--trusted-proxies", "10.0.0.0/8, ::1"]].concat();
    let hosts = Hosts::new("example.com", ["10.0.0.0/8", "::1"]).unwrap();
    assert_eq!(check(&all).unwrap().hosts, Some(hosts));
    // They say from where requests come, whatever hosts mean.
    let alone = check(&["--trusted-proxies", "::1"]).unwrap();
    assert!(alone.hosts.is_none() && !alone.proxies.is_empty());
    for bad in [["--base-domain", "https://example.com"], ["--base-domain", ""]] {
        let refusal = check(&bad).unwrap_err();
        assert!(refusal.contains("base_domain"), "{refusal}");
    }
    let refusal = check(&[&domain[..], &["--trusted-proxies", ""]].concat()).unwrap_err();
    assert!(refusal.contains("trusted_proxies"), "{refusal}");
}

#[test]
fn sources_of_tenants_are_all_unless_some_are_listed() {
    assert_eq!(check(&[]).unwrap().tenant_sources, TenantSources::default());
    let some = check(&["--tenant-sources", "header, claim"]).unwrap().tenant_sources;
    assert_eq!(some, TenantSources::parse("claim,header").unwrap());
    for bad in ["", "subdomain", "host,host"] {
        let refusal = check(&["--tenant-sources", bad]).unwrap_err();
        assert!(refusal.contains("tenant_sources"), "{refusal}");
    }
}

#[test]
fn operators_must_say_why_if_that_is_switched_on() {
    let asked = |flags: &[&str]| check(flags).unwrap().act_as_reason;
    assert_eq!(asked(&[]), ReasonWord::Optional);
    assert_eq!(asked(&["--act-as-reason", "required"]), ReasonWord::Required);
    assert_eq!(asked(&["--act-as-reason", "optional"]), ReasonWord::Optional);
}
