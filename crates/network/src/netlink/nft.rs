//! `nf_tables`.
