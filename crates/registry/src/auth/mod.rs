//! Who asks, and whether they may: nobody is asked, a password file, or tokens.
//!
//! What a request needs is decided from its method and path alone (distribution project, *Token Scope
//! Documentation*); the kinds of access control answer whether it is granted, or with what challenge it is refused.

pub(crate) mod der;
pub(crate) mod htpasswd;
pub(crate) mod token;

use crate::config;
use crate::error::{Code, Refusal, Result};
use crate::route::Route;
use http::{HeaderName, Method, header};
use serde_json::json;

/// Something that may be granted: `TYPE:NAME:ACTION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access {
    /// `repository` or `registry`.
    pub(crate) kind: &'static str,
    /// The repository, or `catalog`.
    pub(crate) name: String,
    /// `pull`, `push`, `delete` or `*`.
    pub(crate) actions: Vec<&'static str>,
}

/// Returns what a request needs. `from` is the repository that an upload mounts a blob from.
pub(crate) fn needed(method: &Method, route: &Route<'_>, from: Option<&str>) -> Vec<Access> {
    if matches!(route, Route::Catalog | Route::Search) {
        return vec![Access { kind: "registry", name: "catalog".to_owned(), actions: vec!["*"] }];
    }
    let Some(name) = route.name() else { return Vec::new() };
    let actions = match *method {
        Method::GET | Method::HEAD => vec!["pull"],
        Method::DELETE if !matches!(route, Route::Upload(..)) => vec!["delete"],
        _ => vec!["pull", "push"],
    };
    let mut all = vec![Access { kind: "repository", name: name.to_owned(), actions }];
    if let Some(from) = from.filter(|from| *from != name) {
        all.push(Access { kind: "repository", name: from.to_owned(), actions: vec!["pull"] });
    }
    all
}

/// How access is controlled.
#[derive(Debug)]
pub(crate) enum Gate {
    /// Everybody may do everything.
    Open,
    /// Whoever has a password may do everything.
    Passwords(htpasswd::Passwords),
    /// A token says what its bearer may do.
    Tokens(Box<token::Tokens>),
}

impl Gate {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    ///
    /// Those of reading them.
    pub(crate) fn new(config: &config::Auth) -> Result<Self> {
        Ok(match config {
            config::Auth::None => Self::Open,
            config::Auth::Htpasswd { realm, path } => {
                Self::Passwords(htpasswd::Passwords::open(realm.clone(), path.clone())?)
            }
            config::Auth::Token(config) => Self::Tokens(Box::new(token::Tokens::open(config)?)),
        })
    }

    /// Says whether there is none.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Returns the user's name, empty for nobody in particular, if `authorization` grants what is `needed`.
    /// May take a tenth of a second: passwords are meant to be slow.
    ///
    /// # Errors
    ///
    /// [`Code::Unauthorized`] with a challenge, or [`Code::Denied`].
    pub(crate) fn admit(
        &self,
        authorization: Option<&str>,
        needed: &[Access],
        host: &str,
    ) -> Result<String, Refusal> {
        match self {
            Self::Open => Ok(String::new()),
            Self::Passwords(passwords) => passwords.admit(authorization, needed),
            Self::Tokens(tokens) => tokens.admit(authorization, needed, std::time::SystemTime::now(), host),
        }
    }
}

/// Refuses with a challenge.
fn challenge(challenge: String, needed: &[Access]) -> Refusal {
    let one = |access: &Access, action: &str| json!({"Type": access.kind, "Class": "", "Name": access.name, "Action": action});
    let detail: serde_json::Value = needed
        .iter()
        .flat_map(|access| access.actions.iter().map(move |action| one(access, action)))
        .collect();
    let name: HeaderName = header::WWW_AUTHENTICATE;
    let detail = if needed.is_empty() { serde_json::Value::Null } else { detail };
    Refusal { detail, headers: vec![(name, challenge)], ..Refusal::new(Code::Unauthorized) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_requests_need() {
        let summary = |method: Method, path: &str, from: Option<&str>| {
            let route = Route::parse(path).unwrap();
            let all: Vec<String> = needed(&method, &route, from)
                .iter()
                .map(|access| format!("{}:{}:{}", access.kind, access.name, access.actions.join(",")))
                .collect();
            all.join(" ")
        };
        for (method, path, from, expected) in [
            (Method::GET, "/v2/", None, ""),
            (Method::GET, "/v2/_catalog", None, "registry:catalog:*"),
            (Method::GET, "/v1/search", None, "registry:catalog:*"),
            (Method::HEAD, "/v2/a/manifests/x", None, "repository:a:pull"),
            (Method::PUT, "/v2/a/manifests/x", None, "repository:a:pull,push"),
            (Method::DELETE, "/v2/a/manifests/x", None, "repository:a:delete"),
            (Method::DELETE, "/v2/a/blobs/uploads/1", None, "repository:a:pull,push"),
            (Method::POST, "/v2/a/blobs/uploads/", Some("b"), "repository:a:pull,push repository:b:pull"),
            (Method::POST, "/v2/a/blobs/uploads/", Some("a"), "repository:a:pull,push"),
        ] {
            assert_eq!(summary(method, path, from), expected, "{path}");
        }
    }
}
