//! Settings: where they come from, and which are refused.

use crate::program::{Server, fails, tenantry};
use std::{fs, net::TcpListener};

#[test]
fn a_flag_beats_a_variable_and_a_variable_beats_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let file = path("tenantry.toml");
    let listen = "listen = \"127.0.0.1:0\"\nchroma_listen = \"127.0.0.1:0\"\n";
    fs::write(&file, format!("{listen}data_dir = {:?}\nlog = \"off\"\n", path("file"))).unwrap();

    let mut expected = Vec::new();
    for (variable, flag, made) in
        [(false, false, "file"), (true, false, "variable"), (true, true, "flag")]
    {
        let mut command = tenantry(&["serve", "--config"]);
        command.arg(&file);
        if variable {
            command.env("TENANTRY_DATA_DIR", path("variable"));
        }
        if flag {
            command.arg("--data-dir").arg(path("flag"));
        }
        Server::spawn(&mut command).stop();
        expected.push(made);
        for name in ["file", "variable", "flag"] {
            assert_eq!(path(name).is_dir(), expected.contains(&name), "{made}: {name}");
        }
    }
}

#[test]
fn development_mode_is_refused_beyond_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for listen in ["--listen", "--chroma-listen"] {
        let mut command = tenantry(&["serve", "--dev", "--behind-proxy", listen, "0.0.0.0:0"]);
        command.arg("--data-dir").arg(&data);
        fails(&mut command, &["0.0.0.0:0", "authentication", "loopback"]);
    }
    fails(
        tenantry(&["serve", "--listen", "0.0.0.0:0", "--data-dir"]).arg(&data),
        &["--tls-cert", "tls_cert", "--behind-proxy", "behind_proxy"],
    );
    assert!(!data.exists());
}

#[test]
fn an_unknown_key_of_the_file_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenantry.toml");
    fs::write(&file, "dev = true\nlisten_on = \"127.0.0.1:0\"\n").unwrap();
    fails(
        tenantry(&["serve", "--config"]).arg(&file),
        &["tenantry.toml", "line 2", "unknown field `listen_on`", "chroma_listen"],
    );
    fails(
        &mut tenantry(&["serve", "--config", "/nowhere/tenantry.toml"]),
        &["read configuration /nowhere/tenantry.toml"],
    );
}

#[test]
fn a_taken_port_is_named_and_leaves_no_folder() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut command = tenantry(&["serve", "--listen", &address, "--data-dir"]);
    fails(command.arg(&data), &["cannot listen on", &address, "in use", "another", "--listen"]);
    assert!(!data.exists());
}

#[test]
fn the_master_key_can_come_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let key = "0123456789abcdef".repeat(4);
    let serve = |source: &str, what: &str| {
        let mut command = tenantry(&["serve", "--listen", "127.0.0.1:0"]);
        command.args(["--chroma-listen", "127.0.0.1:0", source, what, "--data-dir"]).arg(&data);
        command.env("OUR_KEY", &key).env("BAD_KEY", "0123");
        command
    };
    Server::spawn(&mut serve("--master-key-env", "OUR_KEY")).stop();
    assert!(!data.join("master.key").exists());
    Server::spawn(&mut serve("--master-key-command", &format!("echo {key}"))).stop();

    fails(&mut serve("--master-key-env", "NO_SUCH_KEY"), &["NO_SUCH_KEY is not set"]);
    fails(&mut serve("--master-key-env", "BAD_KEY"), &["BAD_KEY", "64 hexadecimal digits"]);
    fails(&mut serve("--master-key-command", "exit 3"), &["command failed"]);
    let other = format!("echo {}", "f".repeat(64));
    fails(&mut serve("--master-key-command", &other), &["cannot open the data folder", "key"]);
}
