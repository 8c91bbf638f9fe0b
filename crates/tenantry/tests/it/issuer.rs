//! Somebody who issues tokens, and a server with their public keys.

use data_encoding::BASE64URL_NOPAD;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// A secret for tests only.
pub(crate) const SECRET: &str = "a secret for tests only, of 40 characters";

/// Seconds since 1970, with a fraction, as a token may have them.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

pub(crate) enum Issuer {
    Shared,
    Ed25519(Ed25519KeyPair, String),
}

impl Issuer {
    pub(crate) fn shared() -> Self {
        Self::Shared
    }

    pub(crate) fn ed25519(id: &str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap(), id.to_owned())
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        let header = match self {
            Self::Shared => json!({ "alg": "HS256", "typ": "JWT" }),
            Self::Ed25519(_, id) => json!({ "alg": "EdDSA", "typ": "JWT", "kid": id }),
        };
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = match self {
            Self::Shared => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
                hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
            Self::Ed25519(key, _) => key.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    /// Its public keys.
    pub(crate) fn jwks(&self) -> String {
        let Self::Ed25519(key, id) = self else { panic!("a secret has no public half") };
        let x = BASE64URL_NOPAD.encode(key.public_key().as_ref());
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x, "use": "sig" });
        json!({ "keys": [key] }).to_string()
    }
}

/// Answers with public keys at `/keys`, and elsewhere with a document that says so.
pub(crate) struct KeyServer {
    pub(crate) url: String,
    keys: Arc<Mutex<String>>,
}

impl KeyServer {
    pub(crate) fn start(keys: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let keys = Arc::new(Mutex::new(keys));
        let (to, at) = (url.clone(), Arc::clone(&keys));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let text = at.lock().unwrap().clone();
                // Whoever asked may be gone.
                let _ = answer(stream, &to, &text);
            }
        });
        Self { url, keys }
    }

    pub(crate) fn set(&self, keys: String) {
        *self.keys.lock().unwrap() = keys;
    }
}

fn answer(mut stream: TcpStream, url: &str, keys: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let asked = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let document = json!({ "issuer": "https://login.example", "jwks_uri": format!("{url}/keys") });
    let text = if asked.contains(" /keys ") { keys.to_owned() } else { document.to_string() };
    let len = text.len();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{text}")
}
