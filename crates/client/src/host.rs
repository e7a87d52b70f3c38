//! Where an engine listens: `unix://PATH`, `tcp://HOST:PORT`, `ssh://[USER@]HOST[:PORT][/SOCKET]`.

use crate::{Error, Ssh, Tls};
use std::fmt;
use std::path::PathBuf;

/// Port of an engine without TLS when none is named.
const TCP_PORT: u16 = 2375;
/// Port of an engine with TLS when none is named.
const TLS_PORT: u16 = 2376;

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, without TLS.
    Tcp(String),
    /// `host:port`, with TLS.
    Tls(String, Tls),
    /// Through `ssh`.
    Ssh(Ssh),
}

impl Host {
    /// Parses what `-H` or `DOCKER_HOST` says, with Docker's leniency: no scheme means TCP, no port means 2375, or 2376 with
    /// `tls`.
    ///
    /// # Errors
    /// [`Error::InvalidHost`] for what is no address, [`Error::UnsupportedHost`] for an unknown scheme.
    pub fn parse(text: &str, tls: Option<&Tls>) -> Result<Self, Error> {
        let text = text.trim();
        let (scheme, address) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "unix" if !address.is_empty() => Ok(Self::Unix(PathBuf::from(address))),
            "tcp" | "http" | "https" => {
                let port = if tls.is_some() { TLS_PORT } else { TCP_PORT };
                let address = tcp(address, port).ok_or_else(|| Error::InvalidHost(text.to_owned()))?;
                Ok(tls.map_or(Self::Tcp(address.clone()), |tls| Self::Tls(address, tls.clone())))
            }
            "ssh" => Ssh::parse(address).map(Self::Ssh).ok_or_else(|| Error::InvalidHost(text.to_owned())),
            "unix" => Err(Error::InvalidHost(text.to_owned())),
            other => Err(Error::UnsupportedHost(other.to_owned())),
        }
    }
}

fn tcp(address: &str, default_port: u16) -> Option<String> {
    let address = address.trim_end_matches('/');
    if address.contains('/') {
        return None;
    }
    let bare_v6 = address.starts_with('[') && address.ends_with(']');
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !bare_v6 => (host, port.parse().ok()?),
        _ => (address, default_port),
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Some(format!("{host}:{port}"))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) | Self::Tls(address, _) => write!(f, "tcp://{address}"),
            Self::Ssh(ssh) => ssh.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(Host::parse(text, None).unwrap().to_string(), expect, "{text}");
    }

    #[test]
    fn addresses_are_parsed_leniently() {
        check("unix:///run/x.sock", "unix:///run/x.sock");
        check("tcp://10.0.0.1:2376", "tcp://10.0.0.1:2376");
        check("tcp://10.0.0.1", "tcp://10.0.0.1:2375");
        check("localhost:99", "tcp://localhost:99");
        check(":4243", "tcp://127.0.0.1:4243");
        check("tcp://[::1]", "tcp://[::1]:2375");
        check("tcp://[::1]:80/", "tcp://[::1]:80");
        let secure = Host::parse("tcp://h", Some(&Tls::default())).unwrap();
        assert_eq!(secure, Host::Tls("h:2376".to_owned(), Tls::default()));
        check("ssh://me@h", "ssh://me@h");
        for bad in ["unix://", "tcp://a:b", "ftp://x", "tcp://a/b"] {
            assert!(Host::parse(bad, None).is_err(), "{bad}");
        }
    }
}
