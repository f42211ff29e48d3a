//! A page of HTML in one file: no network, readable on a phone, light and dark.

use std::fmt::Write;

/// Colors are named by what they stand for, and defined twice: for light and for dark screens.
const STYLE: &str = "
:root { --paper: #ffffff; --ink: #1d2530; --faint: #66717f; --grid: #dfe4ea; --panel: #f6f8fa;
  --truth: #16794c; --estimate: #b3261e; --ellipse: #b3261e; --other: #6a5acd; --receiver: #1f5fbf;
  --fourth: #a2620a; --fifth: #00758a; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161c; --ink: #e6eaef; --faint: #97a3b0;
  --grid: #2b333d; --panel: #1a2028; --truth: #4cc38a; --estimate: #ff8a80; --ellipse: #ff8a80;
  --other: #b0a4ff; --receiver: #7fb2ff; --fourth: #f0b060; --fifth: #5fd0e0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p.warning { border-left: 4px solid var(--estimate); padding: 0.4rem 0.8rem; background: var(--panel); }
p.note, figcaption { color: var(--faint); font-size: 0.9rem; }
figure { margin: 1rem 0; } figure img { width: 100%; image-rendering: pixelated; display: block; }
svg { width: 100%; max-width: 40rem; height: auto; display: block; background: var(--panel);
  border-radius: 6px; }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--grid); fill: none; } svg .axis { stroke: var(--faint); fill: none; }
svg .line { fill: none; stroke-width: 2; } svg .thin { fill: none; stroke-width: 1; }
svg .dashed { stroke-dasharray: 5 4; }
.truth { stroke: var(--truth); } .estimate { stroke: var(--estimate); } .other { stroke: var(--other); }
.fourth { stroke: var(--fourth); } .fifth { stroke: var(--fifth); }
.receiver { stroke: var(--receiver); } .reference { stroke: var(--faint); }
.ellipse { stroke: var(--ellipse); fill: var(--ellipse); fill-opacity: 0.07; }
.fill-truth { fill: var(--truth); } .fill-estimate { fill: var(--estimate); }
.fill-other { fill: var(--other); } .fill-receiver { fill: var(--receiver); }
svg .name { fill: var(--receiver); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: 0.3rem 0.6rem; text-align: right; border-bottom: 1px solid var(--grid); }
th:first-child, td:first-child { text-align: left; } td { font-variant-numeric: tabular-nums; }
.grid-2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem; }
.key { display: inline-block; width: 1.4rem; height: 0; border-top: 3px solid; margin: 0 0.4rem 0.25rem 0; }
";

/// A page that is being written, from top to bottom.
#[derive(Debug)]
pub(crate) struct Page {
    body: String,
    title: String,
}

impl Page {
    /// Starts a page with its title.
    pub(crate) fn new(title: &str) -> Self {
        Self { body: format!("<h1>{}</h1>\n", escape(title)), title: title.to_owned() }
    }

    /// Adds a heading.
    pub(crate) fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(text));
    }

    /// Adds a paragraph.
    pub(crate) fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// Adds a paragraph in small print.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p class=\"note\">{}</p>", escape(text));
    }

    /// Adds a paragraph that nobody must miss.
    pub(crate) fn warning(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p class=\"warning\">{}</p>", escape(text));
    }

    /// Adds a drawing or picture, given as markup, with its caption.
    pub(crate) fn figure(&mut self, markup: &str, caption: &str) {
        let _ = writeln!(self.body, "{}", figure(markup, caption));
    }

    /// Adds figures that stand side by side where the screen is wide enough.
    pub(crate) fn figures(&mut self, figures: &[(String, String)]) {
        let cells: String =
            figures.iter().map(|(markup, caption)| figure(markup, caption)).collect();
        let _ = writeln!(self.body, "<div class=\"grid-2\">{cells}</div>");
    }

    /// Adds a table; the first row holds the names of the columns.
    pub(crate) fn table(&mut self, rows: &[Vec<String>]) {
        let mut table = String::new();
        for (index, row) in rows.iter().enumerate() {
            let tag = if index == 0 { "th" } else { "td" };
            let cells: String =
                row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
            let _ = writeln!(table, "<tr>{cells}</tr>");
        }
        let _ = writeln!(self.body, "<div class=\"scroll\"><table>\n{table}</table></div>");
    }

    /// Returns the whole document.
    pub(crate) fn finish(self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
            escape(&self.title),
            self.body
        )
    }
}

/// Opens a drawing of this size, which scales with the page.
pub(crate) fn open_svg(width: f64, height: f64) -> String {
    format!("<svg viewBox=\"0 0 {width} {height:.0}\" role=\"img\">\n")
}

/// Makes a file of its own of a drawing: it has the colors of the page in it.
pub(crate) fn standalone_svg(drawing: &str) -> String {
    let named = drawing.replacen("<svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"", 1);
    named.replacen('>', &format!(">\n<style>{STYLE}</style>"), 1)
}

fn figure(markup: &str, caption: &str) -> String {
    format!("<figure>{markup}<figcaption>{}</figcaption></figure>", escape(caption))
}

/// Makes text safe to stand between tags and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_smuggle_markup() {
        let mut page = Page::new("a <b>");
        page.table(&[vec!["\"x\" & <script>".to_owned()]]);

        let html = page.finish();

        assert!(html.contains("<title>a &lt;b&gt;</title>"), "{html}");
        assert!(html.contains("<th>&quot;x&quot; &amp; &lt;script&gt;</th>"), "{html}");
        assert!(!html.contains("<script"), "{html}");
    }
}
