//! A cgroup that is a scope.

use super::Scope;
use crate::{Cgroup, Error, Hierarchy};
use oci::runtime::Resources;

impl Cgroup {
    /// Starts `scope` with the limits of `resources`, and makes its cgroup where its manager does not. The process `pid` holds
    /// it open until another is in it.
    ///
    /// # Errors
    ///
    /// As [`Scope::start`] and [`Cgroup::create`]; a user's manager has cgroups of version 2 only.
    pub fn start(
        hierarchy: &Hierarchy,
        scope: Scope,
        pid: i32,
        resources: &Resources,
    ) -> Result<Self, Error> {
        if scope.is_users() && !hierarchy.is_unified() {
            return Err(Error::Invalid("systemd cgroups without privileges need cgroup version 2"));
        }
        let path = scope.path()?;
        scope.start(pid, resources, hierarchy)?;
        match Self::create(hierarchy, &path) {
            Ok(group) => Ok(group.of(scope)),
            Err(error) => {
                // The first error is the one to tell.
                scope.stop().ok();
                Err(error)
            }
        }
    }

    /// Says that `scope` is what this cgroup is to its manager.
    #[must_use]
    pub fn of(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Says whether only the manager can put processes in: [`Cgroup::attach`] asks it to.
    pub fn is_entered_by_manager(&self) -> bool {
        self.scope.as_ref().is_some_and(Scope::is_users)
    }

    /// Changes the limits of a living cgroup, and lets its manager know.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::apply`] and [`Scope::update`].
    pub fn update(&self, resources: &Resources) -> Result<(), Error> {
        if let Some(scope) = &self.scope {
            scope.update(resources, self.is_unified())?;
        }
        self.apply(resources)
    }
}
