use super::*;
use clap::{Args, Command, FromArgMatches};

fn from_flags(flags: &[&str]) -> Settings {
    let command = Settings::augment_args(Command::new("serve").no_binary_name(true));
    Settings::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap()
}

fn check(flags: &[&str]) -> std::result::Result<Config, String> {
    Config::load(from_flags(flags), None).map_err(|e| format!("{e:#}"))
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
    assert_eq!(count, 15);
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tenantry.toml");
    fs::write(&path, "listen = \"127.0.0.1:1\"\ncache_size = \"8MiB\"\nmemory_budget = 33554432\n")
        .unwrap();
    let config = Config::load(from_flags(&["--listen", "localhost:2"]), Some(&path)).unwrap();
    assert_eq!(config.listen, "127.0.0.1:2".parse().unwrap());
    assert_eq!(config.store.cache_size, ByteSize(8 << 20));
    assert_eq!(config.store.memory_budget, ByteSize(32 << 20));
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
    assert_eq!(config.store.memory_budget, MEMORY_BUDGET_MIN);
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
