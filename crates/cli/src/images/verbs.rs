//! `rmi` and `tag`.

use super::{reference, request};
use crate::each::each;
use crate::error::{Error, Result};
use crate::flags::{Flag, Matches, list, switch};
use crate::program::{Cli, print_line};
use api::image::DeleteItem;

/// The flags of `rmi`.
pub(crate) const RMI_FLAGS: &[Flag] = &[
    switch("force", "Force removal of the image").short('f'),
    switch("no-prune", "Do not delete untagged parents"),
    list(
        "platform",
        "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

/// `rmi`
pub(crate) fn rmi(cli: &Cli, matches: &Matches) -> Result<()> {
    let force = matches.switch("force");
    let mut only_missing = true;
    let platforms: Vec<String> = matches
        .list("platform")
        .iter()
        .map(|text| super::list::platform_json(text))
        .collect::<Result<_>>()?;
    let result = each(&matches.args, |name| {
        let mut delete = request(cli, "DELETE", name, "")?
            .flag("force", force)
            .flag("noprune", matches.switch("no-prune"));
        for platform in &platforms {
            delete = delete.query("platforms", platform);
        }
        let deleted = delete.decode::<Vec<DeleteItem>>();
        match deleted {
            Ok(items) => {
                for item in items {
                    print_line(match item.deleted.as_str() {
                        "" => format!("Untagged: {}", item.untagged),
                        deleted => format!("Deleted: {deleted}"),
                    });
                }
                Ok(None)
            }
            Err(error) => {
                only_missing &= error.is_not_found();
                Err(error.into())
            }
        }
    });
    match result {
        // What is gone already need not be forced: the errors were told, and that is all.
        Err(Error::Exit(_)) if force && only_missing => Ok(()),
        result => result,
    }
}

/// `tag`
pub(crate) fn tag(cli: &Cli, matches: &Matches) -> Result<()> {
    let target = matches.arg(1);
    let parsed = reference(target).map_err(|error| {
        Error::message(format!("Error parsing reference: {target:?} is not a valid repository/tag: {error}"))
    })?;
    if parsed.digest().is_some() {
        return Err(Error::message("refusing to create a tag with a digest reference"));
    }
    let named = parsed.with_default_tag();
    let tagged = request(cli, "POST", matches.arg(0), "/tag")?
        .query("repo", named.repository())
        .query("tag", named.tag().unwrap_or_default())
        .done();
    Ok(tagged?)
}
