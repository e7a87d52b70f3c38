//! The files of an image as an archive: nothing but what its layers have, unlike those of a container.

use super::Builds;
use crate::error::{Error, Result};
use base::Kind;
use oci::Platform;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

impl Builds {
    /// Writes the files of an image, for one of its platforms.
    ///
    /// # Errors
    ///
    /// That there is no such image, or what it is made of cannot be read.
    pub fn files(
        &self,
        image: &str,
        platform: Option<&Platform>,
        writer: &mut (dyn Write + Send),
    ) -> Result<()> {
        let _lease = self.store.lease();
        let image = self.images.find(image, platform)?;
        let lower = self.store.images().unpack(&image)?;
        let layers: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
        if layers.is_empty() {
            // An archive of nothing: two empty blocks (POSIX, pax).
            return writer.write_all(&[0; 1024]).map_err(Error::file("write", Path::new("an archive")));
        }
        let view = sys::mount::overlay_view(&layers).map_err(|error| {
            let text = format!("look at the files of image {}: {}", image.id(), base::chain(&error));
            Error::known(Kind::Internal, text)
        })?;
        Ok(store::pack::pack_contents(view.as_fd(), writer)?)
    }
}
