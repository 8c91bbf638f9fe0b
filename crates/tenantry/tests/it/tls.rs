//! TLS on the listeners.

use crate::program::{Folder, done, fails, tenantry};
use std::fs;

#[test]
fn both_listeners_speak_tls_with_the_given_certificate() {
    let folder = Folder::new();
    let at = |name: &str| folder.temporary.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into(), "::1".into()]).unwrap();
    fs::write(at("cert.pem"), made.cert.pem()).unwrap();
    fs::write(at("key.pem"), made.signing_key.serialize_pem()).unwrap();

    let (cert, key) = (at("cert.pem"), at("key.pem"));
    let server = folder.serve(&["--tls-cert", &cert, "--tls-key", &key]);
    assert!(server.url.starts_with("https://") && server.chroma.starts_with("https://"));
    let list = ["tenant", "list", "--server", &server.url, "--key", &folder.key];
    assert!(done(&[&list[..], &["--tls-ca", &cert]].concat()).starts_with("NAME"));
    fails(&mut tenantry(&list), &["certificate"]);
    let plain = server.url.replace("https://", "http://");
    fails(
        &mut tenantry(&["tenant", "list", "--server", &plain, "--key", &folder.key]),
        &[&plain, "write https://"],
    );
    server.stop();
}

#[test]
fn a_certificate_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let serve = |cert: &str, key: &str| {
        let mut command =
            tenantry(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &at("data")]);
        command.args(["--tls-cert", cert, "--tls-key", key]);
        command
    };
    let pair = || rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    fs::write(at("cert.pem"), pair().cert.pem()).unwrap();
    fs::write(at("other.pem"), pair().signing_key.serialize_pem()).unwrap();
    fs::write(at("none.pem"), "nothing").unwrap();
    fails(&mut serve(&at("absent.pem"), &at("other.pem")), &["read certificate", "absent.pem"]);
    fails(&mut serve(&at("cert.pem"), &at("none.pem")), &["read private key", "none.pem"]);
    fails(&mut serve(&at("none.pem"), &at("other.pem")), &["none.pem"]);
    fails(&mut serve(&at("cert.pem"), &at("other.pem")), &["use certificate"]);
}
