//! `system df`

use crate::containers::ps;
use crate::error::Result;
use crate::flags::{Flag, Matches, switch};
use crate::images::list as images;
use crate::list::{Listing, choose};
use crate::program::{Cli, print};
use crate::{formats, units, volumes};
use api::system::{BuildCache, DiskUsage};
use base::Timestamp;
use gotemplate::Object;

/// The flags of `system df`.
pub(crate) const FLAGS: &[Flag] =
    &[formats::TABLE_FLAG, switch("verbose", "Show detailed information on space usage").short('v')];

const LISTING: Listing = Listing {
    type_name: "*formatter.diskUsageImagesContext",
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

const TABLE: &str = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

const BUILD_CACHE: Listing = Listing {
    type_name: "*formatter.buildCacheContext",
    headers: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
};

/// `system df`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let usage: DiskUsage = cli.client()?.request("GET", "/system/df").decode()?;
    if matches.switch("verbose") {
        return verbose(&usage);
    }
    let format = choose(matches.text("format"), "", false, TABLE, TABLE);
    LISTING.print(
        &format,
        [of_images(&usage), of_containers(&usage), of_volumes(&usage), of_builds(&usage)]
            .map(Share::row)
            .into(),
    )
}

/// What one kind of object takes.
struct Share {
    kind: &'static str,
    count: usize,
    active: usize,
    bytes: i64,
    reclaimable: i64,
    /// Say the reclaimable part in percent, too.
    percent: bool,
}

impl Share {
    fn row(self) -> Object {
        let mut row = LISTING.row();
        row.push("Type", self.kind);
        row.push("TotalCount", self.count.to_string());
        row.push("Active", self.active.to_string());
        row.push("Size", size(self.bytes));
        let mut reclaimable = size(self.reclaimable);
        if self.percent && self.bytes > 0 {
            reclaimable.push_str(&format!(" ({}%)", self.reclaimable * 100 / self.bytes));
        }
        row.push("Reclaimable", reclaimable);
        row
    }
}

fn size(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let bytes = bytes as f64;
    units::human_size(bytes)
}

fn of_images(usage: &DiskUsage) -> Share {
    let images = usage.images.as_deref().unwrap_or_default();
    let known =
        |image: &&api::image::Summary| image.containers != 0 && image.size >= 0 && image.shared_size >= 0;
    let used: i64 = images.iter().filter(known).map(|image| image.size - image.shared_size).sum();
    Share {
        kind: "Images",
        count: images.len(),
        active: images.iter().filter(|image| image.containers > 0).count(),
        bytes: usage.layers_size,
        reclaimable: usage.layers_size - used,
        percent: true,
    }
}

fn of_containers(usage: &DiskUsage) -> Share {
    let containers = usage.containers.as_deref().unwrap_or_default();
    let active = |state: &str| matches!(state, "running" | "paused" | "restarting");
    let idle = containers.iter().filter(|container| !active(&container.state));
    Share {
        kind: "Containers",
        count: containers.len(),
        active: containers.iter().filter(|container| active(&container.state)).count(),
        bytes: containers.iter().map(|container| container.size_rw).sum(),
        reclaimable: idle.map(|container| container.size_rw).sum(),
        percent: true,
    }
}

fn of_volumes(usage: &DiskUsage) -> Share {
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let data: Vec<_> = volumes.iter().filter_map(|volume| volume.usage_data).collect();
    let known = |data: &&api::volume::UsageData| data.size >= 0;
    Share {
        kind: "Local Volumes",
        count: volumes.len(),
        active: data.iter().filter(|data| data.ref_count > 0).count(),
        bytes: data.iter().filter(known).map(|data| data.size).sum(),
        reclaimable: data.iter().filter(known).filter(|data| data.ref_count == 0).map(|data| data.size).sum(),
        percent: true,
    }
}

fn of_builds(usage: &DiskUsage) -> Share {
    let builds = usage.build_cache.as_deref().unwrap_or_default();
    let own = |build: &&BuildCache| !build.shared;
    Share {
        kind: "Build Cache",
        count: builds.len(),
        active: builds.iter().filter(|build| build.in_use).count(),
        bytes: builds.iter().filter(own).map(|build| build.size).sum(),
        reclaimable: builds.iter().filter(own).filter(|build| !build.in_use).map(|build| build.size).sum(),
        percent: false,
    }
}

fn verbose(usage: &DiskUsage) -> Result<()> {
    let rows = usage.images.iter().flatten().flat_map(|image| images::rows(image, false, false));
    print("Images space usage:\n\n");
    images::listing().print(
        "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
        rows.collect(),
    )?;
    print("\nContainers space usage:\n\n");
    let rows = usage.containers.iter().flatten().map(|container| {
        // Only what the container itself takes.
        let own = api::container::Summary { size_root_fs: 0, ..container.clone() };
        ps::row(&own, false)
    });
    ps::listing().print(
        "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
        rows.collect(),
    )?;
    print("\nLocal Volumes space usage:\n\n");
    let rows = usage.volumes.iter().flatten().map(volumes::row).collect();
    volumes::listing().print("table {{.Name}}\t{{.Links}}\t{{.Size}}", rows)?;
    print(format!("\nBuild cache usage: {}\n\n", size(of_builds(usage).bytes)));
    let rows = usage.build_cache.iter().flatten().map(build_row).collect();
    BUILD_CACHE.print(
        "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
        rows,
    )
}

fn build_row(build: &BuildCache) -> Object {
    let since = |time: &str| Timestamp::parse(time).map(units::ago).unwrap_or_default();
    let mut row = BUILD_CACHE.row();
    let short = build.id.get(..12).unwrap_or(&build.id);
    row.push("ID", if build.in_use { format!("{short}*") } else { short.to_owned() });
    row.push("CacheType", build.kind.as_str());
    row.push("Size", size(build.size));
    row.push("CreatedSince", since(&build.created_at));
    row.push("LastUsedSince", build.last_used_at.as_deref().map(since).unwrap_or_default());
    row.push("UsageCount", build.usage_count.to_string());
    row.push("Shared", build.shared.to_string());
    row
}
