//! Somebody who issues tokens, and a server with their public keys.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair, RsaPublicKeyComponents,
    },
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

enum Key {
    Secret(Vec<u8>),
    Ed25519(Ed25519KeyPair),
    P256(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

pub(crate) struct Issuer {
    key: Key,
    id: Option<String>,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

/// What a signature covers.
pub(crate) fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encode(header.to_string()), encode(claims.to_string()))
}

impl Issuer {
    pub(crate) fn shared() -> Self {
        Self::knowing(SECRET)
    }

    /// Somebody who takes this for the secret.
    pub(crate) fn knowing(secret: &str) -> Self {
        Self { key: Key::Secret(secret.into()), id: None }
    }

    pub(crate) fn ed25519(id: &str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Key::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap());
        Self { key, id: Some(id.to_owned()) }
    }

    pub(crate) fn p256(id: &str) -> Self {
        let (random, form) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let key = EcdsaKeyPair::generate_pkcs8(form, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(form, key.as_ref(), &random).unwrap();
        Self { key: Key::P256(Box::new(key)), id: Some(id.to_owned()) }
    }

    /// ring makes no RSA keys: this is the one that tests have.
    pub(crate) fn rsa(id: &str) -> Self {
        let pem = include_str!("../../../tenantry-auth/src/token/fixtures/test-only-rsa.pem");
        let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let key = RsaKeyPair::from_pkcs8(&BASE64.decode(text.as_bytes()).unwrap()).unwrap();
        Self { key: Key::Rsa(Box::new(key)), id: Some(id.to_owned()) }
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Secret(_) => "HS256",
            Key::Ed25519(_) => "EdDSA",
            Key::P256(_) => "ES256",
            Key::Rsa(_) => "RS256",
        }
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        let mut header = json!({ "alg": self.algorithm(), "typ": "JWT" });
        if let Some(id) = &self.id {
            header["kid"] = json!(id);
        }
        let message = message(&header, claims);
        format!("{message}.{}", encode(self.sign(message.as_bytes())))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Secret(key) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, key);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Key::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Key::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// Its public keys.
    pub(crate) fn jwks(&self) -> String {
        let mut jwk = match &self.key {
            Key::Secret(_) => panic!("a secret has no public half"),
            Key::Ed25519(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key()) })
            }
            Key::P256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })
            }
            Key::Rsa(key) => {
                let parts = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "n": encode(parts.n), "e": encode(parts.e) })
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        json!({ "keys": [jwk] }).to_string()
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
