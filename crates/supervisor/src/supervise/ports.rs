//! Published ports: listeners in the host's network, for what the packet filter does not redirect.

use super::Supervisor;
use super::launch::Failure;
use crate::poller::{Interest, Source};
use crate::protocol::{LivePort, Protocol, ProxyPort, Reply};
use base::Classify;
use network::proxy::{Limits, Listener, Proxy};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

impl Supervisor {
    /// Takes over the sockets of all published ports. They stay until the container has ended for good.
    pub(super) fn listen_on_ports(&mut self, sockets: Vec<OwnedFd>) -> Result<(), Failure> {
        if self.launch.ports.is_empty() {
            return Ok(());
        }
        for (port, socket) in std::mem::take(&mut self.launch.ports).into_iter().zip(sockets) {
            let ProxyPort { protocol, container } = port;
            let listener =
                Listener::from_fd(protocol_of(protocol), socket).map_err(|error| failed(&error))?;
            self.hold(listener, container)?;
        }
        Ok(())
    }

    fn hold(&mut self, listener: Listener, container: Option<SocketAddr>) -> Result<(), Failure> {
        let Some(container) = container else {
            self.held.push(listener);
            return Ok(());
        };
        let proxy = match &mut self.ports {
            Some(proxy) => proxy,
            ports => {
                let proxy = Proxy::new(Limits::default()).map_err(|error| failed(&error))?;
                self.poller
                    .add(&proxy, Source::Ports, Interest::READ)
                    .map_err(Failure::system("watch ports"))?;
                ports.insert(proxy)
            }
        };
        proxy.add(listener, container).map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Carries out [`Request::Ports`](crate::protocol::Request::Ports).
    pub(super) fn change_ports(&mut self, wanted: &[LivePort], sockets: Vec<OwnedFd>) -> Reply {
        let mut arriving = Vec::new();
        for (port, socket) in wanted.iter().filter(|port| port.arrives).zip(sockets) {
            match Listener::from_fd(protocol_of(port.protocol), socket) {
                Ok(listener) => arriving.push((listener, port.container)),
                Err(error) => return failed(&error).into_refusal(),
            }
        }
        let stays = |protocol: network::Protocol, host: SocketAddr| {
            wanted
                .iter()
                .find(|port| !port.arrives && protocol_of(port.protocol) == protocol && port.host == host)
        };
        let mut free: Vec<(Listener, Option<SocketAddr>)> = Vec::new();
        self.held = std::mem::take(&mut self.held)
            .into_iter()
            .filter_map(|listener| match stays(listener.protocol(), listener.address())?.container {
                None => Some(listener),
                aim => {
                    free.push((listener, aim));
                    None
                }
            })
            .collect();
        if let Some(proxy) = &mut self.ports {
            for (key, protocol, host, target) in proxy.listeners() {
                let aim = stays(protocol, host).map(|port| port.container);
                if aim == Some(Some(target)) {
                    continue;
                }
                if let (Some(listener), Some(aim)) = (proxy.remove(key), aim) {
                    free.push((listener, aim));
                }
            }
        }
        for (listener, aim) in free.into_iter().chain(arriving) {
            if let Err(failure) = self.hold(listener, aim) {
                return failure.into_refusal();
            }
        }
        Reply::Done
    }

    /// Serves connections to published ports.
    pub(super) fn serve_ports(&mut self) {
        if let Some(proxy) = &mut self.ports {
            // One connection's trouble is its own; the listeners go on.
            proxy.dispatch().ok();
        }
    }
}

fn failed(error: &network::Error) -> Failure {
    Failure { kind: error.kind(), ..Failure::new(error) }
}

fn protocol_of(protocol: Protocol) -> network::Protocol {
    match protocol {
        Protocol::Tcp => network::Protocol::Tcp,
        Protocol::Udp => network::Protocol::Udp,
        Protocol::Sctp => network::Protocol::Sctp,
    }
}
