//! Signals of this process: passed on to a container, or told to whoever waits for them.

use client::{Client, path_segment};
use signal_hook::consts::signal::{
    SIGABRT, SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP,
    SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;
use std::thread;

/// What is passed on, by name. SIGCHLD, SIGPIPE and SIGURG are this process's own affair.
const FORWARDED: &[(i32, &str)] = &[
    (SIGABRT, "ABRT"),
    (SIGALRM, "ALRM"),
    (SIGCONT, "CONT"),
    (SIGHUP, "HUP"),
    (SIGINT, "INT"),
    (SIGIO, "IO"),
    (SIGPROF, "PROF"),
    (SIGQUIT, "QUIT"),
    (SIGSYS, "SYS"),
    (SIGTERM, "TERM"),
    (SIGTRAP, "TRAP"),
    (SIGTSTP, "TSTP"),
    (SIGTTIN, "TTIN"),
    (SIGTTOU, "TTOU"),
    (SIGUSR1, "USR1"),
    (SIGUSR2, "USR2"),
    (SIGVTALRM, "VTALRM"),
    (SIGWINCH, "WINCH"),
    (SIGXCPU, "XCPU"),
    (SIGXFSZ, "XFSZ"),
];

/// Passes the signals that arrive from now on to a container, until the scope's handle is closed.
pub(crate) struct Forwarding {
    handle: signal_hook::iterator::Handle,
}

impl Forwarding {
    /// Begins; the thread runs in `scope` and ends when the value is dropped.
    pub(crate) fn start<'scope>(
        scope: &'scope thread::Scope<'scope, '_>,
        client: &'scope Client,
        container: String,
    ) -> Option<Self> {
        let mut signals = Signals::new(FORWARDED.iter().map(|(number, _)| *number)).ok()?;
        let handle = signals.handle();
        scope.spawn(move || {
            for number in signals.forever() {
                let Some((_, name)) = FORWARDED.iter().find(|(known, _)| *known == number) else { continue };
                // A container that has just ended cannot be told any more.
                drop(kill(client, &container, name));
            }
        });
        Some(Self { handle })
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn kill(client: &Client, container: &str, signal: &str) -> Result<(), client::Error> {
    client
        .request("POST", format!("/containers/{}/kill", path_segment(container)))
        .query("signal", signal)
        .done()
}

/// Calls `changed` at each change of the terminal's size until dropped.
pub(crate) struct SizeWatch {
    handle: signal_hook::iterator::Handle,
}

impl SizeWatch {
    /// Begins; the thread runs in `scope`.
    pub(crate) fn start<'scope>(
        scope: &'scope thread::Scope<'scope, '_>,
        changed: impl Fn() + Send + 'scope,
    ) -> Option<Self> {
        let mut signals = Signals::new([SIGWINCH]).ok()?;
        let handle = signals.handle();
        scope.spawn(move || {
            for _ in signals.forever() {
                changed();
            }
        });
        Some(Self { handle })
    }
}

impl Drop for SizeWatch {
    fn drop(&mut self) {
        self.handle.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::consts::signal::{SIGCHLD, SIGPIPE, SIGURG};

    #[test]
    fn own_signals_are_not_passed_on() {
        for own in [SIGCHLD, SIGPIPE, SIGURG] {
            assert!(FORWARDED.iter().all(|(number, _)| *number != own));
        }
    }
}
