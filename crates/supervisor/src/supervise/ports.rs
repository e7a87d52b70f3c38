//! Published ports: listeners in the host's network, for what the packet filter does not redirect.

use super::Supervisor;
use super::launch::Failure;
use crate::poller::{Interest, Source};
use crate::protocol::{Protocol, ProxyPort};
use base::Classify;
use network::proxy::{Limits, Listener, Proxy};
use std::os::fd::OwnedFd;

impl Supervisor {
    /// Takes over the sockets of all published ports. They stay until the container has ended for good.
    pub(super) fn listen_on_ports(&mut self, sockets: Vec<OwnedFd>) -> Result<(), Failure> {
        if self.launch.ports.is_empty() {
            return Ok(());
        }
        let failed = |error: network::Error| Failure { kind: error.kind(), ..Failure::new(&error) };
        let mut proxy = Proxy::new(Limits::default()).map_err(failed)?;
        for (port, socket) in std::mem::take(&mut self.launch.ports).into_iter().zip(sockets) {
            let ProxyPort { protocol, container } = port;
            match container {
                Some(container) => {
                    let listener = Listener::from_fd(protocol_of(protocol), socket).map_err(failed)?;
                    proxy.add(listener, container).map_err(failed)?;
                }
                None => self.held.push(socket),
            }
        }
        self.poller.add(&proxy, Source::Ports, Interest::READ).map_err(Failure::system("watch ports"))?;
        self.ports = Some(proxy);
        Ok(())
    }

    /// Serves connections to published ports.
    pub(super) fn serve_ports(&mut self) {
        if let Some(proxy) = &mut self.ports {
            // One connection's trouble is its own; the listeners go on.
            proxy.dispatch().ok();
        }
    }
}

fn protocol_of(protocol: Protocol) -> network::Protocol {
    match protocol {
        Protocol::Tcp => network::Protocol::Tcp,
        Protocol::Udp => network::Protocol::Udp,
        Protocol::Sctp => network::Protocol::Sctp,
    }
}
