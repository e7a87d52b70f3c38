//! Dockerfiles and `.dockerignore`: from text to typed instructions, and nothing else.
//!
//! Pure: it opens no file and asks no clock. [`Dockerfile::parse`] reads a whole file into stages of instructions;
//! variables are left as they are, since what they stand for is known only while building ([`expand`] is for then).
//! Every [`Problem`] knows its line and column and shows the line; what looks like a slip of the pen names what was
//! probably meant.
//!
//! ```text
//! text ─▶ source: directives, logical lines, here-documents ─▶ parse: flags, words, forms ─▶ stages ─▶ lint
//! ```
//!
//! The syntax is the Dockerfile reference's (docs.docker.com/reference/dockerfile), the corners are `BuildKit`'s front end's.

mod device;
mod expand;
mod flags;
mod ignore;
mod instruction;
pub mod lint;
mod mount;
mod outline;
mod parse;
mod problem;
mod source;
mod suggest;
mod words;

pub use expand::{Variables, expand, expand_words};
pub use ignore::{InvalidPattern, Patterns, glob};
pub use instruction::{
    Add, Argument, Command, Copy, Device, Health, Instruction, Mount, MountKind, Network, Owner, Probe, Run,
    Security, Sharing, Source, Stage, Step,
};
pub use outline::{Outline, Taken, Target, outline, targets};
pub use parse::{Dockerfile, parse_trigger};
pub use problem::Problem;
pub use source::{Checks, Heredoc};
pub use suggest::nearest;

/// The search path of images whose base names none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that every `RUN` may use without declaring them, in lower and in upper case; unless declared they are
/// neither in the history nor in a cache key.
pub const PROXY_VARIABLES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];
