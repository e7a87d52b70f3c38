//! Contexts that clients have listed, until what is missing of them comes.

use super::Builds;
use crate::error::{Error, Result};
use builder::{Received, Source};
use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a client may take from the answer to its list until it begins to send.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many lists are awaited at most.
const MAX_OFFERS: usize = 64;

/// Lists by the name that the client was given.
#[derive(Debug, Default)]
pub(super) struct Offers(Mutex<HashMap<String, (Instant, Source)>>);

/// What a client is to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The name of the list.
    pub id: String,
    /// The numbers of the entries whose content is missing.
    pub missing: Vec<usize>,
}

impl Builds {
    /// Takes the list of a client's contexts (JSON, an array of [`builder::Listed`]); `id` tells these from others.
    ///
    /// # Errors
    ///
    /// A list that makes no sense; too many that nobody sent anything for.
    pub fn offer(&self, id: &str, list: &[u8]) -> Result<Wanted> {
        let source = self.cache.source(id, list).map_err(super::from_builder)?;
        let wanted =
            Wanted { id: crate::events::random_id().to_string(), missing: source.missing().to_vec() };
        let mut offers = self.offers.0.lock().unwrap_or_else(PoisonError::into_inner);
        offers.retain(|_, (since, _)| since.elapsed() < PATIENCE);
        if offers.len() >= MAX_OFFERS {
            return Err(Error::known(base::Kind::Unavailable, "too many build contexts are awaited"));
        }
        offers.insert(wanted.id.clone(), (Instant::now(), source));
        Ok(wanted)
    }

    /// Takes what was missing of a listed context.
    ///
    /// # Errors
    ///
    /// That there is no such list; what the builder cannot take.
    pub fn receive(&self, id: &str, reader: &mut dyn Read) -> builder::Result<Received> {
        let mut offers = self.offers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let offer = offers.remove(id);
        drop(offers);
        let (_, source) =
            offer.ok_or_else(|| builder::Error::NotFound(format!("no build context {id} was listed")))?;
        source.receive(reader)
    }
}
