//! Commands about containers.

pub(crate) mod attach;
pub(crate) mod change;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod exec;
pub(crate) mod logs;
pub(crate) mod ps;
pub(crate) mod recreate;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod verbs;

use crate::error::Result;
use crate::program::Cli;
use client::{Request, path_segment};

/// Starts a request about one container: `/containers/NAME` and what follows.
pub(crate) fn request<'a>(
    cli: &'a Cli,
    method: &'static str,
    container: &str,
    rest: &str,
) -> Result<Request<'a>> {
    Ok(cli.client()?.request(method, format!("/containers/{}{rest}", path_segment(container))))
}
