//! Tokens of a token server (distribution project, *Token Authentication Specification*; RFC 7515, 7517, 7519).
//!
//! A token is believed if its issuer and audience are the configured ones, its time has come and not passed, and one
//! of these keys signed it: one of the root bundle or the key set, named by `kid`; or that of a certificate in `x5c`
//! which the bundle vouches for.

use super::der::{self, PublicKey};
use super::{Access, challenge};
use crate::config;
use crate::error::{At, Code, Error, Refusal, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use oci::Digest;
use ring::signature;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far clocks may differ, as in the well-known registry.
const LEEWAY: u64 = 60;
/// The longest token that is looked at.
const LONGEST: usize = 64 << 10;
/// Where clients are sent with `autoredirect`.
const AUTO_PATH: &str = "/auth/token";

/// Whom tokens are believed from.
#[derive(Debug)]
pub(crate) struct Tokens {
    config: config::Token,
    keys: HashMap<String, PublicKey>,
    /// What vouches for the certificates that tokens bring along.
    chain: Option<Arc<dyn ClientCertVerifier>>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    x5c: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    iss: String,
    #[serde(default)]
    sub: String,
    aud: Option<Value>,
    exp: Option<f64>,
    nbf: Option<f64>,
    access: Option<Vec<Granted>>,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    actions: Vec<String>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    kty: String,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Tokens {
    /// Reads certificates and keys.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::File`].
    pub(crate) fn open(config: &config::Token) -> Result<Self> {
        let mut keys = HashMap::new();
        let mut chain = None;
        if let Some(path) = &config.roots {
            let certificates = certificates(path)?;
            for certificate in &certificates {
                if let Some(key) = der::of_certificate(certificate) {
                    keys.extend(identifiers(&key.info).into_iter().map(|id| (id, key.clone())));
                }
            }
            chain = verifier(&certificates);
        }
        if let Some(path) = &config.jwks {
            let text = std::fs::read(path).at("read", path)?;
            let wrong = |problem: String| Error::File { path: path.clone(), problem };
            let set: KeySet = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
            for key in set.keys {
                let id = key.kid.clone().ok_or_else(|| wrong("a key has no kid".to_owned()))?;
                let key = key.read().ok_or_else(|| wrong(format!("key {id:?} cannot be used")))?;
                keys.insert(id, key);
            }
        }
        Ok(Self { config: config.clone(), keys, chain })
    }

    pub(super) fn admit(
        &self,
        authorization: Option<&str>,
        needed: &[Access],
        now: SystemTime,
        host: &str,
    ) -> Result<String, Refusal> {
        let token = authorization.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = token else { return Err(self.challenge(needed, "", host)) };
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let claims = match self.verify(token, now) {
            Ok(claims) => claims,
            Err(problem) => {
                tracing::info!(problem, "a token is not believed");
                return Err(self.challenge(needed, "invalid_token", host));
            }
        };
        let granted = claims.access.unwrap_or_default();
        let missing = needed.iter().find(|access| {
            !access.actions.iter().all(|action| {
                granted.iter().any(|grant| {
                    let same = grant.kind == access.kind && grant.name == access.name;
                    same && grant.actions.iter().any(|granted| granted == action || granted == "*")
                })
            })
        });
        match missing {
            None => Ok(claims.sub),
            Some(_) => Err(self.challenge(needed, "insufficient_scope", host)),
        }
    }

    fn challenge(&self, needed: &[Access], error: &str, host: &str) -> Refusal {
        let realm =
            if self.config.auto_redirect { format!("{host}{AUTO_PATH}") } else { self.config.realm.clone() };
        let mut text = format!("Bearer realm=\"{realm}\",service=\"{}\"", self.config.service);
        let scopes: Vec<String> = needed
            .iter()
            .map(|access| format!("{}:{}:{}", access.kind, access.name, access.actions.join(",")))
            .collect();
        if !scopes.is_empty() {
            text.push_str(&format!(",scope=\"{}\"", scopes.join(" ")));
        }
        if !error.is_empty() {
            text.push_str(&format!(",error=\"{error}\""));
        }
        let refusal = challenge(text, needed);
        // Who has shown a good token but may not do this is still asked for a better one, as in Docker's registry.
        Refusal { code: Code::Unauthorized, ..refusal }
    }

    fn verify(&self, token: &str, now: Duration) -> Result<Claims, &'static str> {
        if token.len() > LONGEST {
            return Err("too long");
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("not a token")?;
        let (header, claims) = signed.split_once('.').ok_or("not a token")?;
        let signature =
            URL_SAFE_NO_PAD.decode(signature).map_err(|_ignored| "its signature is not base 64")?;
        let header: Header = json(header).ok_or("its header cannot be read")?;
        let key = self.key(&header, now)?;
        check_signature(&header.alg, &key, signed.as_bytes(), &signature)?;
        let claims: Claims = json(claims).ok_or("its claims cannot be read")?;
        if claims.iss != self.config.issuer {
            return Err("another issuer");
        }
        let audience = match &claims.aud {
            Some(Value::String(one)) => *one == self.config.service,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(&self.config.service)),
            _ => false,
        };
        if !audience {
            return Err("for another service");
        }
        let now = now.as_secs_f64();
        let leeway = Duration::from_secs(LEEWAY).as_secs_f64();
        if claims.exp.is_none_or(|end| now > end + leeway) {
            return Err("expired");
        }
        if claims.nbf.is_some_and(|begin| now < begin - leeway) {
            return Err("not valid yet");
        }
        Ok(claims)
    }

    /// Returns the key that a token names.
    fn key(&self, header: &Header, now: Duration) -> Result<PublicKey, &'static str> {
        if let Some(certificates) = header.x5c.as_ref().filter(|list| !list.is_empty()) {
            let certificates: Vec<CertificateDer<'static>> = certificates
                .iter()
                .filter_map(|text| STANDARD.decode(text).ok().map(CertificateDer::from))
                .collect();
            let (leaf, between) = certificates.split_first().ok_or("its certificate cannot be read")?;
            let key = der::of_certificate(leaf).ok_or("its certificate cannot be read")?;
            if self.keys.values().any(|known| *known == key) {
                return Ok(key);
            }
            let chain = self.chain.as_ref().ok_or("there is no certificate bundle")?;
            chain
                .verify_client_cert(leaf, between, UnixTime::since_unix_epoch(now))
                .map_err(|_ignored| "its certificate is not vouched for")?;
            return Ok(key);
        }
        let id = header.kid.as_deref().ok_or("it names no key")?;
        self.keys.get(id).cloned().ok_or("signed with an unknown key")
    }
}

fn json<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn check_signature(
    algorithm: &str,
    key: &PublicKey,
    signed: &[u8],
    signature: &[u8],
) -> Result<(), &'static str> {
    let algorithm: &dyn signature::VerificationAlgorithm = match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
        "ES384" => &signature::ECDSA_P384_SHA384_FIXED,
        "EdDSA" => &signature::ED25519,
        // "none" and HMAC with the public key are how others were broken.
        _ => return Err("an algorithm that is not taken"),
    };
    let key = signature::UnparsedPublicKey::new(algorithm, &key.key);
    key.verify(signed, signature).map_err(|_ignored| "its signature is wrong")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = std::fs::read(path).at("read", path)?;
    let found: Vec<_> =
        rustls_pemfile::certs(&mut bytes.as_slice()).filter_map(std::result::Result::ok).collect();
    if found.is_empty() {
        return Err(Error::File {
            path: path.to_owned(),
            problem: "there is no certificate in it".to_owned(),
        });
    }
    Ok(found)
}

fn verifier(certificates: &[CertificateDer<'static>]) -> Option<Arc<dyn ClientCertVerifier>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()
}

/// The names under which tokens may call a key of the bundle: libtrust's (the first 30 bytes of its SHA-256 in groups
/// of base 32), and the whole SHA-256 in hexadecimal.
fn identifiers(info: &[u8]) -> [String; 2] {
    let digest = Digest::sha256_of(info);
    let bytes = hex::decode(digest.hex()).unwrap_or_default();
    let text = base32(bytes.get(..30).unwrap_or_default());
    let groups: Vec<&str> = (0..12).filter_map(|group| text.get(group * 4..group * 4 + 4)).collect();
    [groups.join(":"), digest.hex().to_owned()]
}

/// RFC 4648, 6, for a multiple of five bytes.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::new();
    for chunk in bytes.chunks(5) {
        let bits = chunk.iter().fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
        for place in (0..8).rev() {
            let index = usize::try_from((bits >> (5 * place)) & 31).unwrap_or(0);
            text.push(char::from(ALPHABET.get(index).copied().unwrap_or(b'A')));
        }
    }
    text
}

impl Key {
    fn read(&self) -> Option<PublicKey> {
        let part =
            |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?.trim_end_matches('=')).ok();
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => der::rsa(&part(&self.n)?, &part(&self.e)?),
            ("EC", Some(curve @ ("P-256" | "P-384"))) => {
                let size = if curve == "P-256" { 32 } else { 48 };
                let (x, y) = (part(&self.x)?, part(&self.y)?);
                if x.len() != size || y.len() != size {
                    return None;
                }
                [vec![4], x, y].concat()
            }
            ("OKP", Some("Ed25519")) => part(&self.x)?,
            _ => return None,
        };
        Some(PublicKey { info: Vec::new(), key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    const NOW: u64 = 1_700_000_000;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            let random = SystemRandom::new();
            let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap())
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", part(header), part(claims));
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }

    fn tokens(signer: &Signer) -> Tokens {
        let config = config::Token {
            realm: "https://auth/token".to_owned(),
            service: "registry".to_owned(),
            issuer: "me".to_owned(),
            roots: None,
            jwks: None,
            auto_redirect: false,
        };
        let key = PublicKey { info: Vec::new(), key: signer.0.public_key().as_ref().to_vec() };
        Tokens { config, keys: HashMap::from([("k1".to_owned(), key)]), chain: None }
    }

    fn claims() -> Value {
        json!({
            "iss": "me", "sub": "alice", "aud": "registry", "exp": NOW + 100, "nbf": NOW - 100,
            "access": [{"type": "repository", "name": "a", "actions": ["pull"]}],
        })
    }

    #[test]
    fn tokens_grant_what_they_say() {
        let signer = Signer::new();
        let tokens = tokens(&signer);
        let header = json!({"alg": "ES256", "kid": "k1"});
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let access = |name: &str, actions: Vec<&'static str>| Access {
            kind: "repository",
            name: name.to_owned(),
            actions,
        };
        let admit = |token: &str, needed: &[Access]| {
            let header = format!("Bearer {token}");
            tokens.admit(Some(&header), needed, now, "").map_err(|refusal| refusal.headers[0].1.clone())
        };
        let good = signer.sign(&header, &claims());
        assert_eq!(admit(&good, &[access("a", vec!["pull"])]), Ok("alice".to_owned()));
        assert_eq!(
            admit(&good, &[access("a", vec!["pull", "push"])]),
            Err("Bearer realm=\"https://auth/token\",service=\"registry\",scope=\"repository:a:pull,push\",error=\"insufficient_scope\"".to_owned())
        );
        assert!(admit(&good, &[access("b", vec!["pull"])]).is_err());
        let refused = tokens.admit(None, &[], now, "").unwrap_err();
        assert_eq!(refused.headers[0].1, "Bearer realm=\"https://auth/token\",service=\"registry\"");
    }

    #[test]
    fn what_is_not_believed() {
        let signer = Signer::new();
        let tokens = tokens(&signer);
        let header = json!({"alg": "ES256", "kid": "k1"});
        let now = Duration::from_secs(NOW);
        let with = |key: &str, value: Value| {
            let mut claims = claims();
            claims[key] = value;
            signer.sign(&header, &claims)
        };
        let forged = Signer::new().sign(&header, &claims());
        let good = signer.sign(&header, &claims());
        let unsigned = format!("{}.", good.rsplit_once('.').unwrap().0);
        for (token, expected) in [
            (with("iss", json!("you")), "another issuer"),
            (with("aud", json!("other")), "for another service"),
            (with("aud", json!(["other"])), "for another service"),
            (with("exp", json!(NOW - 61)), "expired"),
            (with("exp", Value::Null), "expired"),
            (with("nbf", json!(NOW + 61)), "not valid yet"),
            (forged, "its signature is wrong"),
            (unsigned, "its signature is wrong"),
            (signer.sign(&json!({"alg": "none", "kid": "k1"}), &claims()), "an algorithm that is not taken"),
            (signer.sign(&json!({"alg": "HS256", "kid": "k1"}), &claims()), "an algorithm that is not taken"),
            (signer.sign(&json!({"alg": "ES256", "kid": "k2"}), &claims()), "signed with an unknown key"),
            (signer.sign(&json!({"alg": "ES256"}), &claims()), "it names no key"),
            ("x".to_owned(), "not a token"),
            ("..".to_owned(), "its header cannot be read"),
        ] {
            assert_eq!(tokens.verify(&token, now).map(|_| ()), Err(expected), "{token}");
        }
        assert!(tokens.verify(&with("aud", json!(["x", "registry"])), now).is_ok());
    }

    #[test]
    fn names_of_keys() {
        // Of libtrust's documentation: twelve groups of four.
        let [short, long] = identifiers(b"");
        assert_eq!(short.split(':').count(), 12);
        assert!(short.starts_with("4OYM:IQUY"), "{short}");
        assert_eq!(long.len(), 64);
        assert_eq!(base32(b"fooba"), "MZXW6YTB");
    }
}
