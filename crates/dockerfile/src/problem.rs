//! What is wrong with a Dockerfile, and where.

use std::fmt;

/// Something that cannot be understood, at its place.
///
/// Displayed as Docker words it (`dockerfile parse error on line N: …`), with the place and the line below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, perhaps with what was probably meant.
    pub message: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The line as it stands in the file.
    pub shown: String,
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dockerfile parse error on line {}: {}", self.line, self.message)?;
        if !self.shown.trim().is_empty() {
            // Tabs stay tabs, so that the mark is below what it means.
            let before = self.shown.chars().take(self.column.saturating_sub(1));
            let blank: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            write!(f, "\n{number}:{}\n{number} | {}\n{margin} | {blank}^", self.column, self.shown)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_below_the_place() {
        let problem = Problem { message: "bad".to_owned(), line: 12, column: 5, shown: "\tRUN x".to_owned() };
        assert_eq!(
            problem.to_string(),
            "dockerfile parse error on line 12: bad\n12:5\n12 | \tRUN x\n   | \t   ^"
        );
    }
}
