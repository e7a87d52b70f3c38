//! Reading documents that other programs wrote: Go prints `null` for what is empty, and a set as an object of `{}`.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// Reads `null` as the default value.
///
/// # Errors
///
/// Whatever `T` does not accept.
pub fn null_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads the keys of an object; the values do not matter, `null` is the empty set.
///
/// # Errors
///
/// If it is neither an object nor `null`.
pub fn read_set<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let map = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

/// Writes a set as an object of empty objects.
///
/// # Errors
///
/// Whatever the serializer answers.
pub fn write_set<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(set.len()))?;
    for key in set {
        map.serialize_entry(key, &serde_json::Map::new())?;
    }
    map.end()
}
