//! What removing an image by a name or an identifier does, decided before anything is touched.
//!
//! Pure. The rules and the words are dockerd's (`daemon/images/image_delete.go`): a name is taken away even if the image
//! must stay; an image stays while a running container uses it, and unless forced while a stopped one does.

use crate::error::{Error, Result};
use base::ContainerId;
use oci::{Digest, Reference};

/// A container that was made of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The container.
    pub container: ContainerId,
    /// The image's identifier.
    pub image: Digest,
    /// Whether the container runs (or is paused or restarting).
    pub running: bool,
    /// The layers its root file system stands on, by diff ID. They stay even if the image goes.
    pub layers: Vec<Digest>,
}

/// What is known of the image.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) id: &'a Digest,
    /// What the user wrote.
    pub(super) given: &'a str,
    /// The name it means; `None` if it is the image's identifier or the beginning of it.
    pub(super) name: Option<&'a Reference>,
    /// All names and repo digests of the image.
    pub(super) references: &'a [Reference],
    pub(super) users: &'a [User],
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// References to take away, in this order.
    pub(super) untag: Vec<Reference>,
    /// Whether the image goes too.
    pub(super) delete: bool,
}

/// Decides what removing the image does.
pub(super) fn plan(facts: &Facts<'_>, force: bool) -> Result<Plan> {
    let using = || facts.users.iter().filter(|user| user.image == *facts.id);
    let running = using().find(|user| user.running);
    let stopped = using().find(|user| !user.running);
    let Some(name) = facts.name else { return by_identifier(facts, force, running, stopped) };
    if !force
        && is_single(facts.references)
        && let Some(user) = using().next()
    {
        return Err(Error::conflict(format!(
            "conflict: unable to remove repository reference \"{}\" (must force) - container {} is using its referenced image {}",
            facts.given,
            user.container.short(),
            facts.id.short()
        )));
    }
    let mut untag = vec![name.clone()];
    let mut left: Vec<&Reference> = facts.references.iter().filter(|reference| *reference != name).collect();
    let same_repository = |reference: &Reference| reference.repository() == name.repository();
    let tag_left = left.iter().any(|reference| reference.digest().is_none() && same_repository(reference));
    if name.digest().is_some() || !tag_left {
        // The repo digest of a repository and its tags go together: with the last tag, or when it is named itself.
        untag.extend(
            left.iter().filter(|reference| same_repository(reference)).map(|&reference| reference.clone()),
        );
        left.retain(|reference| !same_repository(reference));
    }
    // A conflict now is no error: the name is gone, the image stays.
    let delete = left.is_empty() && running.is_none() && (force || stopped.is_none());
    Ok(Plan { untag, delete })
}

fn by_identifier(
    facts: &Facts<'_>,
    force: bool,
    running: Option<&User>,
    stopped: Option<&User>,
) -> Result<Plan> {
    let conflict = |how: &str, why: &str| {
        Err(Error::conflict(format!("conflict: unable to delete {} ({how}) - {why}", facts.id.short())))
    };
    if let Some(user) = running {
        let why = format!("image is being used by running container {}", user.container.short());
        return conflict("cannot be forced", &why);
    }
    if !force && !is_single(facts.references) {
        return conflict("must be forced", "image is referenced in multiple repositories");
    }
    if let (false, Some(user)) = (force, stopped) {
        let why = format!("image is being used by stopped container {}", user.container.short());
        return conflict("must be forced", &why);
    }
    Ok(Plan { untag: facts.references.to_vec(), delete: true })
}

/// Says whether there is at most one tag, and everything else is a repo digest of the same repository.
fn is_single(references: &[Reference]) -> bool {
    let mut tags = references.iter().filter(|reference| reference.digest().is_none());
    let (first, second) = (tags.next(), tags.next());
    if second.is_some() {
        return false;
    }
    let Some(one) = first.or(references.first()) else { return true };
    references.iter().all(|reference| reference.repository() == one.repository())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(list: &[&str]) -> Vec<Reference> {
        let digest = Digest::sha256_of(b"image");
        let parse =
            |text: &&str| Reference::parse_normalized(&text.replace('@', &format!("@{digest}"))).unwrap();
        list.iter().map(parse).collect()
    }

    /// `given` is a name or "" for the identifier; users are "running" and "stopped"; the outcome is what is untagged
    /// and perhaps "deleted", or the error.
    fn check(given: &str, all: &[&str], users: &[&str], force: bool, expected: Result<&[&str], &str>) {
        let id = Digest::sha256_of(b"image");
        let references_of_image = references(all);
        let name = if given.is_empty() { None } else { references(&[given]).pop() };
        let container = ContainerId::from_bytes([0xab; 32]);
        let users: Vec<User> = users
            .iter()
            .map(|state| User {
                container,
                image: id.clone(),
                running: *state == "running",
                layers: Vec::new(),
            })
            .collect();
        let facts =
            Facts { id: &id, given, name: name.as_ref(), references: &references_of_image, users: &users };
        let outcome = plan(&facts, force).map(|plan| {
            let mut done: Vec<String> =
                plan.untag.iter().map(|name| name.familiar().replace(&id.to_string(), "")).collect();
            done.extend(plan.delete.then(|| "deleted".to_owned()));
            done
        });
        let expected = expected.map(|done| done.iter().map(|&word| word.to_owned()).collect());
        assert_eq!(
            outcome.map_err(|error| error.to_string()),
            expected.map_err(str::to_owned),
            "{given} {all:?} {force}"
        );
    }

    #[test]
    fn names_go_and_the_image_with_the_last() {
        check("a:1", &["a:1"], &[], false, Ok(&["a:1", "deleted"]));
        check("a:1", &["a:1", "a@"], &[], false, Ok(&["a:1", "a@", "deleted"]));
        check("a:1", &["a:1", "a:2", "a@"], &[], false, Ok(&["a:1"]));
        check("a:1", &["a:1", "b:1", "a@"], &[], false, Ok(&["a:1", "a@"]));
        check("a@", &["a:1", "a@"], &[], false, Ok(&["a@", "a:1", "deleted"]));
        check("a@", &["a:1", "b:1", "a@", "b@"], &[], false, Ok(&["a@", "a:1"]));
        check("a@", &["a@"], &[], false, Ok(&["a@", "deleted"]));
    }

    #[test]
    fn containers_keep_names_and_images() {
        let used = "conflict: unable to remove repository reference \"a:1\" (must force) - container abababababab is using its referenced image ";
        let used = format!("{used}{}", Digest::sha256_of(b"image").short());
        check("a:1", &["a:1"], &["stopped"], false, Err(&used));
        check("a:1", &["a:1", "a@"], &["running"], false, Err(&used));
        check("a:1", &["a:1", "b:1"], &["running"], false, Ok(&["a:1"]));
        check("a:1", &["a:1"], &["running"], true, Ok(&["a:1"]));
        check("a:1", &["a:1"], &["stopped"], true, Ok(&["a:1", "deleted"]));
    }

    #[test]
    fn identifiers_mean_the_image_itself() {
        let id = Digest::sha256_of(b"image");
        let conflict = |text: &str| format!("conflict: unable to delete {} {text}", id.short());
        check("", &[], &[], false, Ok(&["deleted"]));
        check("", &["a:1", "a@"], &[], false, Ok(&["a:1", "a@", "deleted"]));
        let several = conflict("(must be forced) - image is referenced in multiple repositories");
        check("", &["a:1", "a:2"], &[], false, Err(&several));
        check("", &["a:1", "b@"], &[], false, Err(&several));
        check("", &["a:1", "b:1"], &[], true, Ok(&["a:1", "b:1", "deleted"]));
        let running = conflict("(cannot be forced) - image is being used by running container abababababab");
        check("", &["a:1"], &["stopped", "running"], true, Err(&running));
        check("", &["a:1"], &["running"], false, Err(&running));
        let stopped = conflict("(must be forced) - image is being used by stopped container abababababab");
        check("", &["a:1"], &["stopped"], false, Err(&stopped));
        check("", &["a:1"], &["stopped"], true, Ok(&["a:1", "deleted"]));
    }
}
