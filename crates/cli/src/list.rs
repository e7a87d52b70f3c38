//! Lists: rows of named fields, printed as a table, by a template, as JSON, or only the names.

use crate::error::{Error, Result};
use crate::program::print;
use gotemplate::{Functions, Object, Template, Value, docker_functions, header_functions};
use std::sync::Arc;

/// Least width of a column.
const MIN_WIDTH: usize = 10;
/// Spaces between columns.
const PADDING: usize = 3;

/// A kind of list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listing {
    /// The rows' type in Go, which errors name.
    pub(crate) type_name: &'static str,
    /// The columns' names by field.
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

impl Listing {
    /// Starts a row.
    pub(crate) fn row(&self) -> Object {
        Object { marshals_itself: true, ..Object::new(self.type_name) }
    }

    /// Prints rows in `format`: `table …`, `json`, or a template.
    pub(crate) fn print(&self, format: &str, rows: Vec<Object>) -> Result<()> {
        self.render(format, rows).map(print)
    }

    /// Returns what [`Listing::print`] prints.
    pub(crate) fn render(&self, format: &str, rows: Vec<Object>) -> Result<String> {
        let (table, source) = match format.strip_prefix("table") {
            Some(source) => (true, source),
            None => (false, format),
        };
        let source = if source == "json" { "{{json .}}" } else { source };
        let source = source.trim().replace("\\t", "\t").replace("\\n", "\n");
        let parse = |functions: Functions| {
            Template::parse("", &source, functions)
                .map_err(|error| Error::message(format!("failed to parse template: {error}")))
        };
        let template = parse(docker_functions())?;
        let mut text = String::new();
        if table {
            let names = self.headers.iter().map(|(name, header)| ((*name).to_owned(), Value::from(*header)));
            let header = parse(header_functions())?.execute(&Value::map(names));
            text.push_str(&header.unwrap_or_default());
            text.push('\n');
        }
        for mut row in rows {
            // Docker makes a map of the row for JSON, so that its keys are sorted.
            row.fields.sort_by(|a, b| a.name.cmp(&b.name));
            let line = template.execute(&Value::Object(Arc::new(row)));
            text.push_str(
                &line.map_err(|error| Error::message(format!("failed to execute template: {error}")))?,
            );
            text.push('\n');
        }
        Ok(if table { align(&text) } else { text })
    }
}

/// Chooses the format: the flag's, else the user's configuration, else `table`; `table` and empty mean the default.
pub(crate) fn choose(flag: &str, configured: &str, quiet: bool, table: &str, quiet_format: &str) -> String {
    let format = match flag {
        "" if quiet => return quiet_format.to_owned(),
        "" if configured.is_empty() => "table",
        "" => configured,
        flag => flag,
    };
    match format {
        "table" if quiet => quiet_format.to_owned(),
        "table" => table.to_owned(),
        other => other.to_owned(),
    }
}

/// Aligns cells that end in tabs (Go's `text/tabwriter`: minimum 10, padding 3, spaces).
///
/// A column is a run of lines that have a cell there; runs are aligned each for itself.
pub(crate) fn align(text: &str) -> String {
    align_with(text, MIN_WIDTH, PADDING)
}

/// Aligns cells that end in tabs, in columns at least `min_width` wide.
pub(crate) fn align_with(text: &str, min_width: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> =
        lines.iter().map(|line| vec![0; line.len().saturating_sub(1)]).collect();
    let deepest = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..deepest {
        let mut begin = 0;
        while begin < lines.len() {
            let has = |line: &usize| widths.get(*line).is_some_and(|widths| widths.len() > column);
            let block: Vec<usize> = (begin..lines.len()).take_while(has).collect();
            let cells = block.iter().filter_map(|line| lines.get(*line)?.get(column));
            let width = cells.map(|cell| cell.chars().count() + padding).max().unwrap_or(0).max(min_width);
            for line in &block {
                if let Some(slot) = widths.get_mut(*line).and_then(|widths| widths.get_mut(column)) {
                    *slot = width;
                }
            }
            begin += block.len().max(1);
        }
    }
    let mut aligned: Vec<String> = Vec::with_capacity(lines.len());
    for (line, widths) in lines.iter().zip(&widths) {
        let mut text = String::new();
        for (index, cell) in line.iter().enumerate() {
            text.push_str(cell);
            if let Some(width) = widths.get(index) {
                text.push_str(&" ".repeat(width.saturating_sub(cell.chars().count())));
            }
        }
        aligned.push(text);
    }
    aligned.join("\n")
}

/// Cuts a text to `width` columns, with `…` for what is gone (`formatter.Ellipsis`).
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Returns the short form of an identifier: twelve digits, without the algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, id)| id);
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing =
        Listing { type_name: "*formatter.X", headers: &[("ID", "X ID"), ("Name", "NAME")] };

    fn rows() -> Vec<Object> {
        ["one", "a longer name"]
            .map(|name| {
                let mut row = LISTING.row();
                row.push("Name", name);
                row.push("ID", "1");
                row
            })
            .into()
    }

    #[test]
    fn tables_are_aligned_as_by_gos_tabwriter() {
        let table = LISTING.render("table {{.Name}}\\t{{.ID}}", rows()).unwrap();
        assert_eq!(table, "NAME            X ID\none             1\na longer name   1\n");
        assert_eq!(align("a\tb\nccc\td\n"), "a         b\nccc       d\n");
        assert_eq!(align("\tx\n"), "          x\n");
    }

    #[test]
    fn templates_and_json() {
        assert_eq!(LISTING.render("{{.Name}}", rows()).unwrap(), "one\na longer name\n");
        assert_eq!(
            LISTING.render("json", rows()).unwrap().lines().next(),
            Some(r#"{"ID":"1","Name":"one"}"#)
        );
        assert_eq!(
            LISTING.render("{{.X}}", rows()).unwrap_err().to_string(),
            "failed to execute template: template: :1:2: executing \"\" at <.X>: can't evaluate field X in type *formatter.X"
        );
        assert_eq!(
            LISTING.render("{{.X", rows()).unwrap_err().to_string(),
            "failed to parse template: template: :1: unclosed action"
        );
        assert_eq!(ellipsis("abcdef", 4), "abc…");
    }
}
