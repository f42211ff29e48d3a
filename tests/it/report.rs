//! The report of an evaluation in a real browser: nothing is cut, and nothing overlaps.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use tempfile::TempDir;

use crate::workplace::{TINY, Workplace};

/// Looks at the page from inside, and tells the page around it what is wrong.
const INSPECTION: &str = r#"<script>
addEventListener("load", () => {
  const problems = [];
  const name = e => e.tagName + " '" + e.textContent.trim().slice(0, 40) + "'";
  const width = document.documentElement.clientWidth;
  for (const e of document.body.querySelectorAll("*")) {
    // What is wider than the screen may be scrolled, in a box of its own.
    if (e.closest(".scroll") && !e.matches(".scroll")) continue;
    const r = e.getBoundingClientRect();
    if (!e.closest("svg") && (r.left < -0.5 || r.right > width + 0.5))
      problems.push(name(e) + " reaches from " + r.left + " to " + r.right + " of " + width);
  }
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(e => [e, e.getBoundingClientRect()]);
    texts.forEach(([e, r], i) => {
      if (r.left < frame.left - 0.5 || r.right > frame.right + 0.5 ||
          r.top < frame.top - 0.5 || r.bottom > frame.bottom + 0.5)
        problems.push(name(e) + " is cut");
      if (r.height < 8) problems.push(name(e) + " is " + r.height + " pixels high");
      for (const [f, s] of texts.slice(i + 1)) {
        const across = Math.min(r.right, s.right) - Math.max(r.left, s.left);
        const down = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
        // Boxes are higher than the letters in them.
        if (across > 1 && down > 0.35 * Math.min(r.height, s.height))
          problems.push(name(e) + " overlaps " + name(f));
      }
    });
  }
  const shown = { width, scroll_width: document.documentElement.scrollWidth, problems,
    drawings: document.querySelectorAll("svg").length,
    background: getComputedStyle(document.body).backgroundColor };
  parent.postMessage(JSON.stringify(shown), "*");
});
</script>"#;

/// What the inspection says.
#[derive(Debug, Deserialize)]
struct Shown {
    width: u32,
    scroll_width: u32,
    problems: Vec<String>,
    drawings: usize,
    background: String,
}

/// Starts Chromium without a window and without a network.
fn chromium(profile: &Path, dark: bool) -> Command {
    let mut command = Command::new("chromium");
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--virtual-time-budget=10000",
        "--window-size=1400,1000",
    ]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    // 0 prefers dark pages, 1 light ones.
    command.arg(format!("--blink-settings=preferredColorScheme={}", i32::from(!dark)));
    command
}

/// Shows a page on a screen of this width, and says what is seen.
fn inspect(page: &str, width: u32, dark: bool) -> Shown {
    let folder = TempDir::new().unwrap();
    let inner = page.replace("</body>", &format!("{INSPECTION}</body>"));
    let inner = inner.replace('&', "&amp;").replace('"', "&quot;");
    let outer = format!(
        "<!doctype html><meta charset=\"utf-8\"><pre id=\"shown\"></pre>\
         <script>addEventListener('message', e => shown.textContent = e.data)</script>\
         <iframe style=\"width: {width}px; height: 900px; border: 0\" srcdoc=\"{inner}\"></iframe>"
    );
    let path = folder.path().join("outer.html");
    fs::write(&path, outer).unwrap();

    let output = chromium(&folder.path().join("profile"), dark)
        .arg("--dump-dom")
        .arg(format!("file://{}", path.display()))
        .output()
        .expect("chromium can be started");

    let dom = String::from_utf8(output.stdout).unwrap();
    let shown = dom.split("<pre id=\"shown\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let shown = shown.expect("the page has the text of the inspection").replace("&lt;", "<");
    serde_json::from_str(&shown.replace("&gt;", ">").replace("&amp;", "&"))
        .unwrap_or_else(|error| panic!("{error}: {shown}"))
}

mod with_chromium {
    use super::*;

    #[test]
    #[ignore = "needs chromium"]
    fn report_is_whole_on_phone_and_desktop_by_day_and_night() {
        let workplace = Workplace::new(TINY);
        let run = workplace.run(&["--until", "evaluate"]).done();
        let folder = &run.stages["evaluate"].outputs["evaluation"];
        let page = fs::read_to_string(folder.join("report.html")).unwrap();
        let mut backgrounds = Vec::new();

        for (width, dark) in [(360, false), (360, true), (1280, false), (1280, true)] {
            let shown = inspect(&page, width, dark);

            assert_eq!(shown.problems, [""; 0], "at {width} pixels");
            assert_eq!((shown.width, shown.scroll_width), (width, width));
            assert_eq!(shown.drawings, page.matches("<svg").count());
            backgrounds.push(shown.background);
        }

        assert_eq!(backgrounds[0], "rgb(255, 255, 255)");
        assert_eq!(backgrounds[1], "rgb(18, 22, 28)");
    }

    /// The inspection itself: what hangs over is found.
    #[test]
    #[ignore = "needs chromium"]
    fn page_that_is_too_wide_is_found_out() {
        let page = "<!doctype html><html><body style=\"margin: 0\"><p style=\"width: 500px\">wide</p>\
                    <svg viewBox=\"0 0 100 50\" width=\"300\"><text x=\"90\" y=\"20\">cut off</text>\
                    <text x=\"10\" y=\"20\">one</text><text x=\"12\" y=\"22\">two</text></svg>\
                    </body></html>";

        let problems = inspect(page, 360, false).problems.join("\n");

        for expected in ["'wide' reaches", "'cut off' is cut", "'one' overlaps text 'two'"] {
            assert!(problems.contains(expected), "{expected} is not in {problems}");
        }
    }
}
