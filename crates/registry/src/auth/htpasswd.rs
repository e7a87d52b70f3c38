//! A password file as htpasswd(1) writes it with `-B`: `NAME:BCRYPT` a line. Other hashes do not let anybody in.
//!
//! The file is read again when it changes. bcrypt is slow on purpose, so a password that was right is remembered for
//! as long as the file stays the same, as a hash under a key that never leaves the process.

use super::{Access, challenge};
use crate::error::{At, Error, Refusal, Result};
use base64::Engine as _;
use oci::Digest;
use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The hash that is checked for names that are not there, so that time does not tell which are.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuZGBd6QkxiRrcmfl3ubZ5XkPp3hQn3nm";
/// How many right passwords are remembered.
const REMEMBERED: usize = 4096;

/// A password file.
#[derive(Debug)]
pub(crate) struct Passwords {
    realm: String,
    path: PathBuf,
    key: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    stamp: Option<(SystemTime, u64)>,
    hashes: HashMap<String, String>,
    right: HashSet<Digest>,
}

impl Passwords {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::File`].
    pub(crate) fn open(realm: String, path: PathBuf) -> Result<Self> {
        let key = crate::storage::durable::random_id();
        let passwords = Self { realm, path, key, known: Mutex::default() };
        passwords.refresh()?;
        Ok(passwords)
    }

    /// Reads the file if it has changed.
    fn refresh(&self) -> Result<()> {
        let metadata: Metadata = std::fs::metadata(&self.path).at("read", &self.path)?;
        let stamp = (metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.stamp == Some(stamp) {
            return Ok(());
        }
        let text = std::fs::read_to_string(&self.path).at("read", &self.path)?;
        let hashes = parse(&text).map_err(|problem| Error::File { path: self.path.clone(), problem })?;
        *known = Known { stamp: Some(stamp), hashes, right: HashSet::new() };
        Ok(())
    }

    pub(super) fn admit(&self, authorization: Option<&str>, needed: &[Access]) -> Result<String, Refusal> {
        if let Err(error) = self.refresh() {
            // Those known stay in force while somebody writes the file.
            tracing::warn!(error = base::chain(&error), "the password file is not read again");
        }
        let given = authorization.and_then(basic);
        let refused = || challenge(format!("Basic realm=\"{}\"", self.realm.replace('"', "")), needed);
        let (name, password) = given.ok_or_else(refused)?;
        if self.is_right(&name, &password) { Ok(name) } else { Err(refused()) }
    }

    fn is_right(&self, name: &str, password: &str) -> bool {
        let (hash, known) = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let hash = known.hashes.get(name).cloned();
            let print = self.print(name, password, hash.as_deref().unwrap_or_default());
            (hash, known.right.contains(&print))
        };
        if known {
            return true;
        }
        let right = bcrypt::verify(password, hash.as_deref().unwrap_or(NOBODY)).unwrap_or(false);
        let Some(hash) = hash.filter(|_| right) else { return false };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.right.len() >= REMEMBERED {
            known.right.clear();
        }
        // The file may have changed meanwhile; the print names the hash that was right.
        known.right.insert(self.print(name, password, &hash));
        true
    }

    fn print(&self, name: &str, password: &str, hash: &str) -> Digest {
        Digest::sha256_of(format!("{}\0{name}\0{hash}\0{password}", self.key).as_bytes())
    }
}

fn parse(text: &str) -> Result<HashMap<String, String>, String> {
    let mut hashes = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, hash) =
            line.split_once(':').ok_or_else(|| format!("line {}: not NAME:HASH", index + 1))?;
        hashes.insert(name.to_owned(), hash.to_owned());
    }
    Ok(hashes)
}

/// Reads `Basic …` (RFC 7617).
fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, value) = authorization.split_once(' ')?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.trim()).ok()?;
    let text = String::from_utf8(bytes).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    text.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn header(name: &str, password: &str) -> String {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        format!("Basic {pair}")
    }

    #[test]
    fn passwords_of_the_file_and_no_others() {
        let path = std::env::temp_dir().join(crate::storage::durable::random_id());
        let hash = bcrypt::hash("secret", 4).unwrap();
        std::fs::write(&path, format!("# users\n\nalice:{hash}\nold:{{SHA}}x\n")).unwrap();
        let passwords = Passwords::open("Realm".to_owned(), path.clone()).unwrap();
        let admit = |header: Option<&str>| passwords.admit(header, &[]);
        for _ in 0..2 {
            assert_eq!(admit(Some(&header("alice", "secret"))).unwrap(), "alice");
        }
        for wrong in [
            None,
            Some(header("alice", "wrong")),
            Some(header("bob", "secret")),
            Some(header("old", "x")),
            Some("Bearer x".to_owned()),
            Some("Basic !".to_owned()),
        ] {
            let refusal = admit(wrong.as_deref()).unwrap_err();
            assert_eq!(refusal.code, Code::Unauthorized);
            assert_eq!(
                refusal.headers,
                [(http::header::WWW_AUTHENTICATE, "Basic realm=\"Realm\"".to_owned())]
            );
        }
        // Whoever is taken out of the file is out at once.
        std::fs::write(&path, "bob:x\n").unwrap();
        assert!(admit(Some(&header("alice", "secret"))).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(Passwords::open("Realm".to_owned(), path).is_err());
    }
}
