//! Whether the server is well: looked at in the background, told at `/debug/health`, and enforced: a server that is
//! not well answers 503, so that a balancer asks another.

use crate::config::{Check, Probe};
use crate::outward::Outward;
use crate::storage::Storage;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What is wrong at the moment, by the name of the check.
#[derive(Debug, Default, Clone)]
pub(crate) struct Health(Arc<Mutex<BTreeMap<String, String>>>);

impl Health {
    /// Starts a task for each check; must be called within the runtime.
    pub(crate) fn start(checks: Vec<Check>, storage: &Arc<Storage>, outward: &Outward) -> Self {
        let health = Self::default();
        for check in checks {
            tokio::spawn(watch(health.clone(), check, Arc::clone(storage), outward.clone()));
        }
        health
    }

    /// Returns what is wrong; nothing if all is well.
    pub(crate) fn problems(&self) -> BTreeMap<String, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says whether all is well.
    pub(crate) fn is_well(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn set(&self, name: &str, problem: Option<String>) {
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => {
                tracing::warn!(check = name, problem, "not well");
                problems.insert(name.to_owned(), problem);
            }
            None => drop(problems.remove(name)),
        }
    }
}

async fn watch(health: Health, check: Check, storage: Arc<Storage>, outward: Outward) {
    let mut failed = 0_u64;
    loop {
        match look(&check, &storage, &outward).await {
            Ok(()) => {
                failed = 0;
                health.set(&check.name, None);
            }
            Err(problem) => {
                failed += 1;
                if failed >= check.threshold {
                    health.set(&check.name, Some(problem));
                }
            }
        }
        tokio::time::sleep(check.interval).await;
    }
}

async fn look(check: &Check, storage: &Arc<Storage>, outward: &Outward) -> Result<(), String> {
    match &check.what {
        Probe::Storage => {
            let storage = Arc::clone(storage);
            let looked = crate::serve::body::blocking(move || storage.probe()).await;
            looked.map_err(|error| base::chain(&error))
        }
        Probe::File(path) => match tokio::fs::try_exists(path).await {
            Ok(true) => Err("file exists".to_owned()),
            _ => Ok(()),
        },
        Probe::Tcp(address) => {
            let connected =
                tokio::time::timeout(check.timeout, tokio::net::TcpStream::connect(address)).await;
            match connected {
                Ok(Ok(_)) => Ok(()),
                _ => Err(format!("connection to {address} failed")),
            }
        }
        Probe::Http { uri, status, headers } => {
            let request =
                headers.iter().fold(Request::head(uri), |request, (name, value)| request.header(name, value));
            let request = request.body(Full::<Bytes>::default()).map_err(|error| error.to_string())?;
            let found = outward.status(request, check.timeout).await?;
            if found.as_u16() == *status {
                Ok(())
            } else {
                Err(format!("downstream service returned unexpected status: {}", found.as_u16()))
            }
        }
    }
}
