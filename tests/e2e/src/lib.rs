//! End-to-end tests of the finished executable; the tests are in `tests/`, one file per feature.
//!
//! They run as root against the executable that the environment variable `WHARF` names, through our own command line
//! and through Docker's where it is installed.
