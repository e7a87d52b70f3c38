//! Places where a test makes the making of a container fail, one after the other; nothing outside of tests.

/// Lets the place of the parent after the next `count` fail; `None`: none.
#[cfg(test)]
pub(crate) fn after(parent: Option<u32>, child: Option<u32>) {
    armed::PARENT.set(parent);
    armed::CHILD.set(child);
}

/// Passes a place of the parent.
#[cfg(test)]
pub(crate) fn pass() -> Result<(), crate::Error> {
    if armed::PARENT.with(armed::fails) { Err(crate::Error::spec("injected")) } else { Ok(()) }
}

/// Passes a place of the parent.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "it fails in tests only")]
#[inline]
pub(crate) fn pass() -> Result<(), crate::Error> {
    Ok(())
}

/// Passes a step of the child.
#[cfg(test)]
pub(crate) fn step() -> Result<(), (u32, rustix::io::Errno)> {
    if armed::CHILD.with(armed::fails) { Err((0, rustix::io::Errno::DEADLK)) } else { Ok(()) }
}

/// Passes a step of the child.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "it fails in tests only")]
#[inline]
pub(crate) fn step() -> Result<(), (u32, rustix::io::Errno)> {
    Ok(())
}

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    thread_local! {
        /// How many places of the parent are passed before one fails.
        pub(super) static PARENT: Cell<Option<u32>> = const { Cell::new(None) };
        /// The same of the child.
        pub(super) static CHILD: Cell<Option<u32>> = const { Cell::new(None) };
    }

    pub(super) fn fails(cell: &Cell<Option<u32>>) -> bool {
        let left = cell.get();
        cell.set(left.map(|left| left.wrapping_sub(1)));
        left == Some(0)
    }
}

#[cfg(test)]
mod tests;
