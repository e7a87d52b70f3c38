//! What a git URL means: `REPOSITORY#REFERENCE:FOLDER`, or `REPOSITORY?branch=…&tag=…&ref=…&commit=…&subdir=…`,
//! and `keep-git-dir=`, `submodules=`.

use crate::error::{Error, Result};

/// A part of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitSource {
    /// The repository.
    pub repository: String,
    /// The branch, tag or commit; empty for the default branch.
    pub reference: String,
    /// The folder in it; empty for all.
    pub folder: String,
    /// How the commit has to begin; empty for any.
    pub commit: String,
    /// Whether its `.git` is kept, where nothing else asks for that.
    pub keep_git: bool,
    /// Whether submodules are left out.
    pub no_submodules: bool,
}

impl GitSource {
    /// Takes a URL apart; `None` if it means no repository.
    ///
    /// # Errors
    ///
    /// A parameter that is not known.
    pub fn parse(url: &str) -> Result<Option<Self>> {
        let (before, fragment) = url.split_once('#').unwrap_or((url, ""));
        let (repository, query) = before.split_once('?').unwrap_or((before, ""));
        let is_repository =
            ["git@", "git://", "ssh://", "github.com/"].iter().any(|start| url.starts_with(start))
                || (url.starts_with("http") && repository.ends_with(".git"));
        if !is_repository {
            return Ok(None);
        }
        let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
        let mut source = Self {
            repository: repository.to_owned(),
            reference: reference.to_owned(),
            folder: folder.to_owned(),
            ..Self::default()
        };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "ref" => value.clone_into(&mut source.reference),
                "branch" => source.reference = format!("refs/heads/{value}"),
                "tag" => source.reference = format!("refs/tags/{value}"),
                "subdir" => value.clone_into(&mut source.folder),
                "commit" | "checksum" => value.clone_into(&mut source.commit),
                "keep-git-dir" => source.keep_git = truth(name, value)?,
                "submodules" => source.no_submodules = !truth(name, value)?,
                _ => {
                    return Err(Error::Invalid(format!(
                        "unknown parameter {name:?} of the repository {url}"
                    )));
                }
            }
        }
        if source.reference.is_empty() {
            source.reference.clone_from(&source.commit);
        }
        Ok(Some(source))
    }

    /// Checks which commit was fetched.
    ///
    /// # Errors
    ///
    /// That it is another one than was asked for.
    pub fn check(&self, commit: &str) -> Result<()> {
        if commit.starts_with(&self.commit) {
            return Ok(());
        }
        Err(Error::Invalid(format!("the commit of {} is {commit}, not {}", self.repository, self.commit)))
    }
}

/// Reads a switch; its name alone turns it on.
fn truth(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "" | "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(Error::Invalid(format!("invalid value {value:?} of the repository's parameter {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parse = |url: &str| {
            let source = GitSource::parse(url).unwrap()?;
            Some([source.repository, source.reference, source.folder, source.commit].join(" "))
        };
        for (url, expect) in [
            ("https://h/x.git", Some("https://h/x.git   ")),
            ("https://h/x.git#v1:sub/dir", Some("https://h/x.git v1 sub/dir ")),
            ("git@h:x#:sub", Some("git@h:x  sub ")),
            ("https://h/x.git?branch=b&subdir=s", Some("https://h/x.git refs/heads/b s ")),
            ("git://h/x?tag=t&commit=abc", Some("git://h/x refs/tags/t  abc")),
            ("https://h/x.git?commit=abc", Some("https://h/x.git abc  abc")),
            ("https://h/x.tar.gz", None),
            ("https://h/file?name=x.git", None),
            ("folder", None),
        ] {
            assert_eq!(parse(url).as_deref(), expect, "{url}");
        }
        assert!(GitSource::parse("https://h/x.git?what=x").is_err());
        let switches = |query: &str| {
            let source = GitSource::parse(&format!("https://h/x.git?{query}")).ok()??;
            Some((source.keep_git, !source.no_submodules))
        };
        assert_eq!(switches("ref=x"), Some((false, true)));
        assert_eq!(switches("keep-git-dir&submodules=0"), Some((true, false)));
        assert_eq!(switches("keep-git-dir=false&submodules=True"), Some((false, true)));
        assert_eq!(switches("submodules=some"), None);
        let source = GitSource::parse("https://h/x.git?commit=abc").unwrap().unwrap();
        assert!(source.check("abcdef").is_ok() && source.check("fff").is_err());
    }
}
