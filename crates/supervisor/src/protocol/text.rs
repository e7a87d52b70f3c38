//! How values of other crates are written in messages.

use base::HexId;
use serde::{Deserialize, Deserializer, Serializer};
use std::borrow::Cow;

pub(super) fn serialize<S: Serializer>(id: &HexId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HexId, D::Error> {
    let text = Cow::<'de, str>::deserialize(from)?;
    HexId::parse(&text).map_err(serde::de::Error::custom)
}

/// Times as nanoseconds since the Unix epoch; "never" is null.
pub(super) mod nanos {
    use base::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::protocol) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        (!time.is_zero()).then(|| time.as_nanos()).serialize(to)
    }

    pub(in crate::protocol) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Timestamp, D::Error> {
        let nanos = Option::<i64>::deserialize(from)?;
        Ok(nanos.map_or(Timestamp::ZERO, Timestamp::from_nanos))
    }
}

/// Kinds of error by name; one that is not known is `Internal`.
pub(super) mod kind {
    use base::Kind;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::borrow::Cow;

    const NAMES: [(Kind, &str); 10] = [
        (Kind::NotFound, "not-found"),
        (Kind::InvalidArgument, "invalid-argument"),
        (Kind::Conflict, "conflict"),
        (Kind::NotModified, "not-modified"),
        (Kind::Unauthorized, "unauthorized"),
        (Kind::Forbidden, "forbidden"),
        (Kind::Unavailable, "unavailable"),
        (Kind::NotImplemented, "not-implemented"),
        (Kind::Cancelled, "cancelled"),
        (Kind::Internal, "internal"),
    ];

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(in crate::protocol) fn serialize<S: Serializer>(kind: &Kind, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(NAMES.iter().find(|(known, _)| known == kind).map_or("internal", |(_, name)| name))
    }

    pub(in crate::protocol) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Kind, D::Error> {
        let name = Cow::<'de, str>::deserialize(from)?;
        Ok(NAMES.iter().find(|(_, known)| *known == name).map_or(Kind::Internal, |(kind, _)| *kind))
    }
}
