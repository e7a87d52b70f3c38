//! Names of other containers: the resolver inside the container's network namespace.

use super::Supervisor;
use super::launch::Failure;
use crate::poller::{Interest, Source};
use crate::protocol::{self, NameServer, Reply};
use network::resolver::{Forwarder, Names, Resolver, Settings};

impl Supervisor {
    /// Carries out [`protocol::Request::Resolve`].
    pub(super) fn resolve(&mut self, known: protocol::Resolver) -> Reply {
        match self.set_resolver(known) {
            Ok(()) => Reply::Done,
            Err(failure) => Reply::Error { kind: failure.kind, message: failure.message },
        }
    }

    /// Opens the resolver, or replaces what it knows.
    pub(super) fn set_resolver(&mut self, known: protocol::Resolver) -> Result<(), Failure> {
        let settings = settings(known);
        if let Some(resolver) = &mut self.resolver {
            resolver.update(settings);
            return Ok(());
        }
        let Some(netns) = &self.netns else {
            return Err(Failure::conflict("the container has no network namespace of its own"));
        };
        let netns = netns.try_clone().map_err(Failure::io("hand over network namespace"))?;
        let resolver = Resolver::new(netns, settings).map_err(|error| Failure::new(&error))?;
        self.poller
            .add(&resolver, Source::Resolver, Interest::READ)
            .map_err(Failure::system("watch the resolver"))?;
        self.resolver = Some(resolver);
        Ok(())
    }

    /// Serves questions.
    pub(super) fn serve_names(&mut self) {
        if let Some(resolver) = &mut self.resolver {
            // What fails is one question; its asker asks again.
            resolver.dispatch().ok();
        }
    }
}

fn settings(known: protocol::Resolver) -> Settings {
    let mut names = Names::new();
    for (name, address) in &known.names {
        names.add(name, *address);
    }
    for (address, name) in &known.pointers {
        names.add_pointer(*address, name);
    }
    let forwarder = |server: NameServer| Forwarder { address: server.address, from_host: server.from_host };
    Settings {
        names,
        forwarders: known.servers.into_iter().map(forwarder).collect(),
        keep_single_labels: known.keep_single_labels,
    }
}
