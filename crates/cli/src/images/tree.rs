//! `images --tree`: every image with the platforms it is for (docker/cli, *image/tree.go*).

use crate::error::Result;
use crate::list::short_id;
use crate::program::{Cli, columns, print, stdout_is_terminal};
use crate::units;
use api::Filters;
use api::image::{ManifestSummary, Summary};

const GAP: usize = 3;
/// The names' column takes at least this; columns that leave less are left out.
const LEAST_NAME: usize = 12;
const LEAST_WIDTH: usize = 20;
const WARNING: &str =
    "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";

/// Colours of a terminal (SGR), as Docker's, by what they are for.
struct Colours {
    name: &'static str,
    plain: &'static str,
    untagged: &'static str,
    faint: &'static str,
    warning: &'static str,
}

const COLOURS: Colours = Colours {
    name: "\u{1b}[34m\u{1b}[1m",
    plain: "\u{1b}[39m",
    untagged: "\u{1b}[39m\u{1b}[2m",
    faint: "\u{1b}[39m\u{1b}[2m",
    warning: "\u{1b}[93m",
};
const NO_COLOURS: Colours = Colours { name: "", plain: "", untagged: "", faint: "", warning: "" };

/// Docker's titles have colours even where no terminal is.
const TITLE: &str = "\u{1b}[39m\u{1b}[1m";
/// What leads the legend in, nine columns wide.
const INFO: &str = "\u{1b}[1m\u{1b}[106m\u{1b}[30mi\u{1b}[0m\u{1b}[0m \u{1b}[96mInfo → \u{1b}[0m\u{1b}[0m";
/// What marks an image that containers use.
const CHIP: &str = "\u{1b}[38;5;0m\u{1b}[48;5;14m U \u{1b}[0m";

fn coloured(colour: &str, text: &str) -> String {
    if colour.is_empty() { text.to_owned() } else { format!("{colour}{text}\u{1b}[0m") }
}

/// What a line says of an image or of one of its platforms.
struct Details {
    id: String,
    usage: String,
    content: String,
    used: bool,
}

struct Child {
    platform: String,
    available: bool,
    details: Details,
}

struct Top {
    names: Vec<String>,
    created: i64,
    details: Details,
    children: Vec<Child>,
}

/// `images --tree`
pub(super) fn run(cli: &Cli, filters: &Filters, all: bool) -> Result<()> {
    let images: Vec<Summary> = cli
        .client()?
        .request("GET", "/images/json")
        .flag("all", all)
        .flag("manifests", true)
        .query_if_set("filters", filters.encode())
        .decode()?;
    let shown = images.iter().filter(|image| all || !(image.repo_tags.is_empty()));
    let mut tops: Vec<Top> = shown.map(top).collect();
    tops.sort_by_key(|top| std::cmp::Reverse(top.created));
    let terminal = stdout_is_terminal();
    print(render(&tops, if terminal { columns().max(LEAST_WIDTH) } else { 80 }, terminal));
    Ok(())
}

fn size(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let bytes = bytes as f64;
    units::human_size_digits(bytes, 3)
}

fn top(image: &Summary) -> Top {
    let content: i64 = image.manifests.iter().map(|manifest| manifest.size.content).sum();
    let children: Vec<Child> = image.manifests.iter().filter_map(child).collect();
    let used = image.containers > 0 || children.iter().any(|child| child.details.used);
    let mut names = image.repo_tags.clone();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let details = Details { id: image.id.clone(), usage: size(image.size), content: size(content), used };
    Top { names, created: image.created, details, children }
}

fn child(manifest: &ManifestSummary) -> Option<Child> {
    let data = manifest.image_data.as_ref().filter(|_| manifest.kind == "image")?;
    let parts = [&data.platform.os, &data.platform.architecture, &data.platform.variant];
    let parts: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let details = Details {
        id: manifest.id.clone(),
        usage: size(manifest.size.total),
        content: size(manifest.size.content),
        used: !data.containers.is_empty(),
    };
    Some(Child { platform: parts.join("/"), available: manifest.available, details })
}

/// Writes the whole tree for `width` columns.
fn render(tops: &[Top], width: usize, terminal: bool) -> String {
    let colours = if terminal { &COLOURS } else { &NO_COLOURS };
    let (chip, chip_width) = if terminal { (CHIP, 3) } else { ("U", 1) };
    let mut text = format!("{}\n", coloured(colours.warning, WARNING));
    let (info, info_width) = if terminal { (INFO, 9) } else { (" Info -> ", 9) };
    let margin = " ".repeat(width.saturating_sub(info_width + chip_width + " In Use".len() + 2));
    text.push_str(&format!("{margin}{info} {chip} In Use \n\n"));
    let any_used = tops.iter().any(|top| top.details.used);
    let mut layout = Layout { name: 0, columns: 0, any_used, chip, blank: " ".repeat(chip_width) };
    layout.fit(tops, width);
    text.push_str(&left(TITLE, "IMAGE", layout.name));
    for (title, width) in COLUMNS.iter().take(layout.columns) {
        let fit = if *title == "ID" || *title == "EXTRA" { left } else { right };
        text.push_str(&format!("{}{}", " ".repeat(GAP), fit(TITLE, title, *width)));
    }
    text.push('\n');
    let spaced = tops.iter().any(|top| !top.children.is_empty());
    for top in tops {
        let (last, before) = match top.names.split_last() {
            None => (left(colours.untagged, "<untagged>", layout.name), &[][..]),
            Some((last, before)) => (left(colours.name, last, layout.name), before),
        };
        for name in before {
            text.push_str(&format!("{}\n", coloured(colours.name, name)));
        }
        text.push_str(&format!("{last}{}", layout.details(&top.details, colours.plain)));
        if spaced {
            text.push('\n');
        }
        for (index, child) in top.children.iter().enumerate() {
            let branch = if index + 1 == top.children.len() { "└─" } else { "├─" };
            let colour = if child.available { colours.plain } else { colours.faint };
            let name = left(colour, &format!("{branch} {}", child.platform), layout.name);
            let details = layout.details(&child.details, colour);
            text.push_str(&format!("{name}{details}\n"));
        }
        text.push('\n');
    }
    text
}

/// The columns after the names, with their widths.
const COLUMNS: [(&str, usize); 4] = [("ID", 12), ("DISK USAGE", 10), ("CONTENT SIZE", 12), ("EXTRA", 5)];

struct Layout<'a> {
    name: usize,
    /// How many of [`COLUMNS`] there is room for.
    columns: usize,
    /// Whether there is anything to say in the last column.
    any_used: bool,
    chip: &'a str,
    blank: String,
}

impl Layout<'_> {
    /// Makes the names' column as wide as needed, and leaves out what would not leave it its least width.
    fn fit(&mut self, tops: &[Top], width: usize) {
        let mut name = width;
        for (_, width) in COLUMNS {
            if name < width + GAP + LEAST_NAME {
                break;
            }
            name -= width + GAP;
            self.columns += 1;
        }
        let names = tops.iter().flat_map(|top| &top.names).map(String::len);
        let platforms = tops.iter().flat_map(|top| &top.children);
        // Docker counts the bytes of the branch.
        let platforms = platforms.map(|child| child.platform.len() + "└─ ".len());
        self.name = name.min(names.chain(platforms).chain(["IMAGE".len()]).max().unwrap_or(0));
    }

    fn details(&self, details: &Details, colour: &str) -> String {
        let extra = match (self.any_used, details.used) {
            (false, _) => String::new(),
            (true, true) => self.chip.to_owned(),
            (true, false) => self.blank.clone(),
        };
        let shown = if details.used && self.any_used { self.blank.len() } else { extra.len() };
        let extra = format!("{extra}{}", " ".repeat(5_usize.saturating_sub(shown)));
        let values = [
            left(colour, short_id(&details.id), 12),
            right(colour, &details.usage, 10),
            right(colour, &details.content, 12),
            extra,
        ];
        let gap = " ".repeat(GAP);
        values.iter().take(self.columns).map(|value| format!("{gap}{value}")).collect()
    }
}

/// Fits a text into a column, on its left; the room beside it has no colour.
fn left(colour: &str, text: &str, width: usize) -> String {
    let text = cut(text, width);
    let room = width.saturating_sub(text.chars().count());
    format!("{}{}", coloured(colour, &text), " ".repeat(room))
}

fn right(colour: &str, text: &str, width: usize) -> String {
    let text = cut(text, width);
    let room = width.saturating_sub(text.chars().count());
    format!("{}{}", " ".repeat(room), coloured(colour, &text))
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut shown: String = text.chars().take(width.saturating_sub(1)).collect();
    shown.push('…');
    shown
}
