//! From the engine's records to the API's answers. Pure: clocks, sizes and versions come in as values.

pub mod container;
pub mod container_list;
pub mod duration;
pub mod event;
pub mod image;
pub mod network;
pub mod stats;
pub mod system;

pub mod volume;
