//! Platforms: `OS[/ARCHITECTURE[/VARIANT]]` (image-spec image-index.md; names and rules as containerd's platforms).

use serde::{Deserialize, Serialize};
use std::fmt;

/// What an image's content runs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Platform {
    /// The processor architecture in Go's words: `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// The operating system in Go's words: `linux`.
    #[serde(default)]
    pub os: String,
    /// The version of the operating system (Windows).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What the operating system must have (Windows).
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// The variant of the architecture: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that does not name a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is an invalid platform: {1}")]
pub struct InvalidPlatform(String, &'static str);

const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm",
];
const SYSTEMS: &[&str] =
    &["aix", "darwin", "freebsd", "illumos", "linux", "netbsd", "openbsd", "plan9", "solaris", "windows"];

impl Platform {
    /// Makes a normalised platform of its parts.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.filter(|variant| !variant.is_empty()).map(str::to_owned),
            ..Self::default()
        }
        .normalised()
    }

    /// Returns the platform this program was built for.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// Parses `OS/ARCHITECTURE[/VARIANT]`, or one of `OS` and `ARCHITECTURE` alone (the host's is taken for the rest).
    ///
    /// # Errors
    ///
    /// Returns [`InvalidPlatform`] if there are more parts, odd characters, or a lone word that is neither.
    pub fn parse(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = |why| InvalidPlatform(text.to_owned(), why);
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(invalid("components must match [A-Za-z0-9_.-]+"));
        }
        match *parts.as_slice() {
            [only] => {
                let os = only.to_ascii_lowercase();
                if SYSTEMS.contains(&os.as_str()) || os == "macos" {
                    return Ok(Self::new(&os, &Self::host().architecture, None));
                }
                let by_architecture = Self::new("linux", only, None);
                if ARCHITECTURES.contains(&by_architecture.architecture.as_str()) {
                    return Ok(by_architecture);
                }
                Err(invalid("unknown operating system or architecture"))
            }
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(invalid("at most three components are allowed")),
        }
    }

    /// Returns the same platform with the usual names: `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let os = match self.os.to_ascii_lowercase().as_str() {
            "" => "linux".to_owned(),
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = self.variant.as_deref().unwrap_or("").to_ascii_lowercase();
        let architecture = self.architecture.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386" | "i686", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            ("powerpc64le", variant) => ("ppc64le", variant),
            (other, variant) => (other, variant),
        };
        Self {
            os,
            architecture: architecture.to_owned(),
            variant: (!variant.is_empty()).then(|| variant.to_owned()),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    /// Says whether `candidate` is exactly this platform once both are normalised.
    pub fn matches(&self, candidate: &Self) -> bool {
        self.preference(candidate) == Some(0)
    }

    /// Returns how well `candidate` runs on this platform: 0 is exact, larger is worse, `None` not at all.
    ///
    /// An older variant runs on a newer one, 32-bit x86 on `amd64`, 32-bit ARM on `arm64`.
    pub fn preference(&self, candidate: &Self) -> Option<usize> {
        let wanted = self.normalised();
        let candidate = candidate.normalised();
        if wanted.os != candidate.os {
            return None;
        }
        let offered = (candidate.architecture.as_str(), candidate.variant.as_deref().unwrap_or(""));
        wanted.accepted().iter().position(|accepted| *accepted == offered)
    }

    /// What runs here, best first.
    fn accepted(&self) -> Vec<(&str, &str)> {
        const ARM: [(&str, &str); 4] = [("arm", "v8"), ("arm", "v7"), ("arm", "v6"), ("arm", "v5")];
        const AMD64: [(&str, &str); 4] = [("amd64", "v4"), ("amd64", "v3"), ("amd64", "v2"), ("amd64", "")];
        let own = (self.architecture.as_str(), self.variant.as_deref().unwrap_or(""));
        let from = |list: &[(&'static str, &'static str)]| {
            list.iter().copied().skip_while(|entry| *entry != own).skip(1).collect::<Vec<_>>()
        };
        let mut accepted = vec![own];
        match self.architecture.as_str() {
            "amd64" => {
                accepted.extend(from(&AMD64));
                accepted.push(("386", ""));
            }
            "arm" => accepted.extend(from(&ARM)),
            "arm64" => {
                if !own.1.is_empty() {
                    accepted.push(("arm64", ""));
                }
                accepted.extend(ARM);
            }
            _ => {}
        }
        accepted
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_normalises() {
        for (text, expect) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/v5", "linux/arm/v5"),
            ("arm64", "linux/arm64"),
            ("s390x", "linux/s390x"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), expect, "{text}");
        }
        assert_eq!(Platform::parse("linux").unwrap(), Platform::host());
        for bad in ["", "/", "linux/", "linux/a/b/c", "nosuch", "linux/a b"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn preference_orders_what_runs() {
        let check = |host: &str, candidate: &str, expect: Option<usize>| {
            let preference = Platform::parse(host).unwrap().preference(&Platform::parse(candidate).unwrap());
            assert_eq!(preference, expect, "{candidate} on {host}");
        };
        check("linux/amd64", "linux/amd64", Some(0));
        check("linux/amd64", "linux/386", Some(1));
        check("linux/amd64", "linux/amd64/v3", None);
        check("linux/amd64/v3", "linux/amd64", Some(2));
        check("linux/amd64", "linux/arm64", None);
        check("linux/amd64", "windows/amd64", None);
        check("linux/arm/v7", "linux/arm/v6", Some(1));
        check("linux/arm/v6", "linux/arm/v7", None);
        check("linux/arm64", "linux/arm/v7", Some(2));
    }
}
