//! Named places where a test may make the process die or an operation fail.
//!
//! The set of armed points is a value of `NAME=ACTION[,NAME=ACTION…]`, read once from the environment variable
//! [`VARIABLE`] by the executable. Unarmed points cost one atomic load.

use std::sync::OnceLock;

/// The environment variable that arms failpoints.
pub const VARIABLE: &str = "WHARF_FAILPOINTS";

/// What happens at an armed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process ends at once, as by `kill -9`.
    Abort,
    /// The operation fails.
    Fail,
}

static ARMED: OnceLock<Vec<(String, Action)>> = OnceLock::new();

/// Arms the points named in `setting`. Only the first call counts.
///
/// # Errors
///
/// Returns the part of `setting` that is not `NAME=abort` or `NAME=fail`.
pub fn arm(setting: &str) -> Result<(), String> {
    let mut points = Vec::new();
    for part in setting.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some((name, "abort")) => points.push((name.to_owned(), Action::Abort)),
            Some((name, "fail")) => points.push((name.to_owned(), Action::Fail)),
            _ => return Err(part.to_owned()),
        }
    }
    ARMED.get_or_init(|| points);
    Ok(())
}

/// Passes the point `name`: returns `true` if the operation there is to fail; aborts the process if so armed.
pub fn reached(name: &str) -> bool {
    let Some(points) = ARMED.get() else { return false };
    match points.iter().find(|(armed, _)| armed == name) {
        Some((_, Action::Abort)) => std::process::abort(),
        Some((_, Action::Fail)) => true,
        None => false,
    }
}
