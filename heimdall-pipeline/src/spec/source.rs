//! The text of a definition, and messages that point into it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// A place in a definition, as editors count: from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which of the files that the definition is made of, the pipeline itself being 0.
    pub file: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// The files that a definition is made of, seen from one of them.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    files: Vec<File>,
    /// The file that is looked at.
    file: usize,
}

/// A text and the name that it goes by in messages.
#[derive(Clone, Debug)]
struct File {
    name: Arc<str>,
    text: Arc<str>,
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        Self { files: vec![File { name: name.into(), text: text.into() }], file: 0 }
    }

    /// Adds a file, and returns its number.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> usize {
        self.files.push(File { name: name.into(), text: text.into() });
        self.files.len() - 1
    }

    /// Returns the same files, seen from another of them.
    pub(crate) fn seen_from(&self, file: usize) -> Self {
        Self { files: self.files.clone(), file }
    }

    /// Returns the number of the file that is looked at.
    pub(crate) fn file(&self) -> usize {
        self.file
    }

    pub(crate) fn name(&self) -> &str {
        &self.files[self.file].name
    }

    pub(crate) fn text(&self) -> &str {
        &self.files[self.file].text
    }

    /// Makes a message about the definition, at a place if there is one, and about the file that is
    /// looked at if not.
    pub(crate) fn diagnostic(
        &self,
        place: Option<Place>,
        message: impl Into<String>,
    ) -> Diagnostic {
        let file = place.map_or(self.file, |place| place.file);
        Diagnostic {
            name: self.files[file].name.to_string(),
            message: message.into(),
            place,
            excerpt: place.and_then(|place| self.excerpt(place)),
            related: None,
            help: None,
        }
    }

    /// Returns the word that stands at a place. Where values are interpolated, the parser withholds
    /// the text of keys in its errors; what the author wrote is no secret to the author.
    pub(crate) fn word_at(&self, place: Place) -> Option<&str> {
        let line = self.line(place)?;
        let start = line.char_indices().nth(place.column.checked_sub(1)?)?.0;
        let rest = &line[start..];
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let word = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        (!word.is_empty()).then_some(word)
    }

    fn excerpt(&self, place: Place) -> Option<Excerpt> {
        Some(Excerpt { place, line: self.line(place)?.replace('\t', " ") })
    }

    fn line(&self, place: Place) -> Option<&str> {
        self.files[place.file].text.lines().nth(place.line.checked_sub(1)?)
    }
}

/// A line of a definition and the column in it that a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    place: Place,
    line: String,
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.place.line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(self.place.column - 1);
        write!(f, "\n{margin} |\n{number} | {}\n{margin} | {indent}^", self.line)
    }
}

/// What is wrong with a definition, where, and what may have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    name: String,
    message: String,
    place: Option<Place>,
    excerpt: Option<Excerpt>,
    related: Option<Related>,
    help: Option<String>,
}

/// A second place that a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Related {
    name: String,
    label: String,
    excerpt: Excerpt,
}

impl Diagnostic {
    /// Returns what is wrong, as a phrase.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns where it is wrong, if it is about one place.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// Returns what may help.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Offers the candidate that is most like the wrong name, or else lists them all.
    pub(crate) fn suggesting<'a>(
        self,
        wrong: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let candidates: Vec<&str> = candidates.into_iter().collect();
        if let Some(best) = most_similar(wrong, candidates.iter().copied()) {
            return self.with_help(format!("did you mean `{best}`?"));
        }
        match candidates.as_slice() {
            [] => self,
            [one] => self.with_help(format!("there is only `{one}`")),
            _ => self.with_help(format!("there are `{}`", candidates.join("`, `"))),
        }
    }

    /// Shows a second place, with a word on why.
    pub(crate) fn with_related(
        mut self,
        source: &Source,
        place: Place,
        label: impl Into<String>,
    ) -> Self {
        self.related = source.excerpt(place).map(|excerpt| Related {
            name: source.files[place.file].name.to_string(),
            label: label.into(),
            excerpt,
        });
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(Place { line, column, .. }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "{excerpt}")?;
        }
        if let Some(Related { name, label, excerpt }) = &self.related {
            let Place { line, column, .. } = excerpt.place;
            write!(f, "\n{name}:{line}:{column}: {label}{excerpt}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n= {help}")?;
        }
        Ok(())
    }
}

impl Error for Diagnostic {}

/// Returns the candidate that a person may have meant, if one is close enough.
pub(crate) fn most_similar<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Two slips in a word of up to eight letters; one more with every three letters beyond.
    let slips_max = (wrong.chars().count() / 3).max(1).min(wrong.chars().count());
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(wrong, candidate), candidate))
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_shows_the_line_and_the_column() {
        let source = Source::new("p.yaml", "stages:\n  train: { epoch: 5 }\n");

        let place = Place { file: 0, line: 2, column: 12 };
        let diagnostic =
            source.diagnostic(Some(place), "unknown key `epoch`").suggesting("epoch", ["epochs"]);

        assert_eq!(
            diagnostic.to_string(),
            "p.yaml:2:12: unknown key `epoch`\n  |\n2 |   train: { epoch: 5 }\n  |            ^\n\
             = did you mean `epochs`?"
        );
    }

    #[test]
    fn only_a_similar_name_is_offered() {
        let names = ["train", "evaluate", "export"];

        assert_eq!(most_similar("trian", names), Some("train"));
        assert_eq!(most_similar("exprot", names), Some("export"));
        assert_eq!(most_similar("banana", names), None);
    }
}
