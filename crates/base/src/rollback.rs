//! Undoing what a half-way failure has done.

use std::fmt;

type Step<'a> = (&'static str, Box<dyn FnOnce() + Send + 'a>);

/// Undo steps, run last first when the guard is dropped before [`Rollback::disarm`].
#[derive(Default)]
pub struct Rollback<'a> {
    steps: Vec<Step<'a>>,
}

impl<'a> Rollback<'a> {
    /// Returns a guard with no steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step. `what` names it in debug output.
    ///
    /// A step handles its own errors; "already gone" is success.
    pub fn push(&mut self, what: &'static str, undo: impl FnOnce() + Send + 'a) {
        self.steps.push((what, Box::new(undo)));
    }

    /// Keeps everything: no step will run.
    pub fn disarm(mut self) {
        self.steps.clear();
    }
}

impl Drop for Rollback<'_> {
    fn drop(&mut self) {
        while let Some((_, undo)) = self.steps.pop() {
            undo();
        }
    }
}

impl fmt::Debug for Rollback<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|(what, _)| what)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn undoes_last_first_unless_disarmed() {
        let log = Mutex::new(Vec::new());
        let run = |keep: bool| {
            let mut rollback = Rollback::new();
            rollback.push("one", || log.lock().unwrap().push(1));
            rollback.push("two", || log.lock().unwrap().push(2));
            if keep {
                rollback.disarm();
            }
        };
        run(true);
        assert!(log.lock().unwrap().is_empty());
        run(false);
        assert_eq!(*log.lock().unwrap(), [2, 1]);
    }
}
