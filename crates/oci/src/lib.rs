//! The Open Container Initiative's documents as values: digests, references, descriptors, manifests, image
//! configurations, platforms and the runtime's `config.json`.
//!
//! Pure: this crate parses and prints. It does not know where content lives, and what is stored is always the raw
//! bytes as they came, never a re-serialised document (a digest names bytes, not values).
//!
//! Sources: image-spec 1.1, distribution-spec 1.1, runtime-spec 1.2, Docker's image manifest v2 schema 2, and the
//! reference grammar of `distribution/reference`.

pub mod cdi;
pub mod digest;
pub mod document;
pub mod image;
pub mod lenient;
pub mod media_type;
#[cfg(test)]
mod mutations;
pub mod platform;
pub mod reference;
pub mod runtime;

pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use document::{Descriptor, Document, Index, Manifest, WrongDocument};
pub use image::{ContainerDefaults, Healthcheck, History, ImageConfig, RootFs};
pub use media_type::Compression;
pub use platform::{InvalidPlatform, Platform};
pub use reference::{InvalidReference, Reference};
