//! `container recreate`: the same container of a newer image, or of another one.

use super::create::{check_pull_policy, is_missing_image};
use super::request;
use crate::each::each;
use crate::error::{Error, Result};
use crate::flags::{Flag, Kind, Matches, text};
use crate::images::pull;
use crate::program::{Cli, warn};
use api::container::CreateResponse;
use api::inspect::InspectResponse;
use oci::Reference;

/// The flags of `container recreate`.
pub(crate) const FLAGS: &[Flag] = &[
    text("image", "Image to use instead of the container's own"),
    text("pull", "Pull image before recreating (\"always\", \"missing\", \"never\")").default("missing"),
    Flag::new("timeout", Kind::Int, "Seconds to wait before killing the container").short('t'),
];

/// `container recreate`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    check_pull_policy(matches)?;
    let policy = matches.text("pull");
    each(&matches.args, |name| {
        let image = match matches.text("image") {
            "" => {
                let container: InspectResponse = request(cli, "GET", name, "/json")?.decode()?;
                container.config.image
            }
            image => image.to_owned(),
        };
        let fetch = || -> Result<()> {
            let reference =
                Reference::parse_normalized(&image).map_err(|error| Error::message(error.to_string()))?;
            pull::for_create(cli, &reference.with_default_tag(), "", false)
        };
        if policy == "always" {
            fetch()?;
        }
        let timeout = matches.given("timeout").unwrap_or_default();
        let ask = || {
            let asked = request(cli, "POST", name, "/recreate")?.query("image", &image);
            Ok::<_, Error>(asked.query_if_set("t", timeout).decode::<CreateResponse>())
        };
        let made = match ask()? {
            Err(error) if is_missing_image(&error) && policy == "missing" => {
                warn(format!("Unable to find image '{image}' locally"));
                fetch()?;
                ask()??
            }
            made => made?,
        };
        for warning in &made.warnings {
            warn(format!("WARNING: {warning}"));
        }
        Ok(Some(name.to_owned()))
    })
}
