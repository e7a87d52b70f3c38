//! Engines behind ssh: the user's own `ssh` runs `docker system dial-stdio` over there, and its input and output are the
//! connection.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

/// `ssh://[USER@]HOST[:PORT][/SOCKET]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// The engine's socket over there, if it is not the default one.
    socket: Option<String>,
}

impl Ssh {
    /// Parses what follows `ssh://`; `None` if it names no host, or has a password or a query.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.contains(['?', '#']) {
            return None;
        }
        let (place, path) = text.split_once('/').map_or((text, ""), |(place, path)| (place, path));
        let (user, place) = match place.rsplit_once('@') {
            Some((user, _)) if user.is_empty() || user.contains(':') => return None,
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, place),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !place.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (place, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        // An option of ssh is no host.
        if host.is_empty() || host.starts_with('-') {
            return None;
        }
        let socket = Some(path).filter(|path| !path.is_empty()).map(|path| format!("unix:///{path}"));
        Some(Self { user, host, port, socket })
    }

    /// Returns the arguments of `ssh`.
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["-o", "ConnectTimeout=30", "-T"].map(str::to_owned).to_vec();
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), self.host.clone(), "docker".to_owned()]);
        if let Some(socket) = &self.socket {
            arguments.extend(["--host".to_owned(), socket.clone()]);
        }
        arguments.extend(["system".to_owned(), "dial-stdio".to_owned()]);
        arguments
    }

    /// Starts `ssh` and returns the connection through it.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let output = OwnedFd::from(theirs.try_clone()?);
        let mut child = Command::new("ssh")
            .args(self.arguments())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(output))
            .spawn()?;
        std::thread::spawn(move || child.wait());
        Ok(ours)
    }
}

impl std::fmt::Display for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(
            self.socket.as_deref().and_then(|socket| socket.strip_prefix("unix://")).unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_arguments() {
        let check = |text: &str, expect: &str| {
            let ssh = Ssh::parse(text).unwrap();
            assert_eq!(ssh.arguments().join(" "), format!("-o ConnectTimeout=30 -T {expect}"), "{text}");
            assert_eq!(ssh.to_string(), format!("ssh://{text}"));
        };
        check("host", "-- host docker system dial-stdio");
        check("me@host:2222", "-l me -p 2222 -- host docker system dial-stdio");
        check("host/run/x.sock", "-- host docker --host unix:///run/x.sock system dial-stdio");
        for bad in ["", "-oProxyCommand=x", "me:secret@host", "host:port", "host?x"] {
            assert_eq!(Ssh::parse(bad), None, "{bad}");
        }
    }
}
