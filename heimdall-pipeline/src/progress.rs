//! Shows a run to a person: bars on a terminal, plain lines elsewhere; both on stderr.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::event::{RunEvent, StageReport, StageState};
use crate::secret::Secrets;
use crate::stage::StageProgress;

/// Least time between two plain lines about one stage.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Shows events; clones show on the same screen.
#[derive(Clone, Debug)]
pub struct Progress {
    bars: MultiProgress,
    on_terminal: bool,
    /// The stages that are at work.
    working: Arc<Mutex<HashMap<String, Working>>>,
    secrets: Secrets,
}

/// What is shown of a stage at work.
#[derive(Debug)]
struct Working {
    bar: ProgressBar,
    total: u64,
    last_line: Option<Instant>,
}

impl Progress {
    /// Starts showing on stderr, with secrets masked.
    pub fn on_stderr(secrets: Secrets) -> Self {
        let on_terminal = io::stderr().is_terminal();
        let target =
            if on_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        Self { bars, on_terminal, working: Arc::default(), secrets }
    }

    /// Shows one event.
    pub fn show(&self, event: &RunEvent) {
        match event {
            RunEvent::StageStarted { stage } => self.start(stage),
            RunEvent::StageProgress { stage, progress } => self.progress(stage, progress),
            RunEvent::Waiting { stage, holder } => {
                self.line(&format!("{stage:12} waits for {holder}"));
            }
            RunEvent::Damaged { stage, what } => {
                self.line(&format!("{stage:12} does not trust its result in the cache: {what}"));
            }
            RunEvent::Restored { stage, folder, files } => {
                let (files, folder) = (abridged(files), folder.display());
                self.line(&format!(
                    "{stage:12} restores what somebody changed in {folder}: {files}"
                ));
            }
            RunEvent::Fetched { stage, files, bytes } => {
                self.line(&format!("{stage:12} fetched {files} files, {}", size(*bytes)));
            }
            RunEvent::Shared { stage, files, bytes } if *files > 0 => {
                self.line(&format!("{stage:12} shared  {files} files, {}", size(*bytes)));
            }
            RunEvent::Nondeterministic { stage, key } => {
                self.line(&format!(
                    "{stage:12} is not reproducible: the shared cache has another result of \
                     {key}, which is taken"
                ));
            }
            RunEvent::SharingFailed { error } => {
                self.line(&format!("goes on without the shared cache: {error}"));
            }
            RunEvent::Retrying { stage, attempt, error, seconds } => {
                let pause = duration(*seconds);
                self.line(&format!("{stage:12} failed {attempt}×, again in {pause}: {error}"));
            }
            RunEvent::StageFinished { stage, report } => {
                if let Some(working) = self.working().remove(stage) {
                    working.bar.finish_and_clear();
                    self.bars.remove(&working.bar);
                }
                self.line(&outcome(stage, report));
            }
            RunEvent::Shared { .. } | RunEvent::Started { .. } | RunEvent::Finished { .. } => {}
        }
    }

    fn working(&self) -> MutexGuard<'_, HashMap<String, Working>> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, stage: &str) {
        let bar = if self.on_terminal {
            let bar = self.bars.add(ProgressBar::no_length());
            let style =
                ProgressStyle::with_template("{prefix:12} [{bar:30}] {pos}/{len} {msg} {elapsed}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(stage.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        } else {
            self.line(&format!("{stage:12} started"));
            ProgressBar::hidden()
        };
        self.working().insert(stage.to_owned(), Working { bar, total: 0, last_line: None });
    }

    fn progress(&self, stage: &str, progress: &StageProgress) {
        let mut working = self.working();
        let Some(shown) = working.get_mut(stage) else { return };
        if progress.total > 0 {
            shown.total = progress.total;
            shown.bar.set_length(progress.total);
        }
        if self.on_terminal {
            shown.bar.set_position(progress.done);
            shown.bar.set_message(self.secrets.redact(&progress.message).into_owned());
            return;
        }
        if shown.last_line.is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL) {
            shown.last_line = Some(Instant::now());
            let of = if shown.total > 0 { format!("/{}", shown.total) } else { String::new() };
            drop(working);
            self.line(&format!("{stage:12} {}{of} {}", progress.done, progress.message));
        }
    }

    /// Writes a line above the bars.
    fn line(&self, text: &str) {
        // A terminal that is gone is no reason to stop working.
        let _ = self.clone().write_all(format!("{text}\n").as_bytes());
    }
}

impl Write for Progress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = self.secrets.redact(&text);
        if self.on_terminal {
            self.bars.suspend(|| io::stderr().write_all(text.as_bytes()))?;
        } else {
            io::stderr().write_all(text.as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The first few of many names.
fn abridged(names: &[String]) -> String {
    match names {
        [first, second, third, _, ..] => {
            format!("{first}, {second}, {third} and {} more", names.len() - 3)
        }
        _ => names.join(", "),
    }
}

/// The line that stands when a stage is over.
fn outcome(stage: &str, report: &StageReport) -> String {
    let headline = report.headline.as_deref().unwrap_or_default();
    let error = report.error.as_deref().unwrap_or_default();
    let key = report.key.as_deref().unwrap_or_default();
    let time = duration(report.seconds);
    let state = report.state.name();
    match report.state {
        StageState::Ran => format!("{stage:12} {state:7} {key}  {headline} ({time})"),
        StageState::Cached => {
            let saved = duration(report.seconds_saved.unwrap_or_default());
            let state = if report.frozen { "frozen" } else { state };
            format!("{stage:12} {state:7} {key}  {headline} (saved {saved})")
        }
        StageState::Failed => format!("{stage:12} {state:7} {error}"),
        StageState::Skipped => {
            let why = report.waited_for.as_ref();
            let why = why.map_or_else(String::new, |stage| format!("as `{stage}` has no result"));
            format!("{stage:12} {state:7} {why}").trim_end().to_owned()
        }
        StageState::Interrupted => format!("{stage:12} {state} after {time}"),
    }
}

/// A duration as people read it.
pub fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0}m{:02.0}s", (seconds / 60.0).floor(), (seconds % 60.0).floor())
    }
}

/// A number of bytes as people read it.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, "B");
    for larger in units {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_abridged() {
        let names: Vec<String> = ('a'..='f').map(String::from).collect();

        assert_eq!(abridged(&names), "a, b, c and 3 more");
        assert_eq!(abridged(&names[..3]), "a, b, c");
    }

    #[test]
    fn skipped_stage_says_what_it_waited_for() {
        let mut report = StageReport::without_result(StageState::Skipped, 0.0);
        assert_eq!(outcome("export", &report), "export       skipped");

        report.waited_for = Some("train".to_owned());

        assert_eq!(outcome("export", &report), "export       skipped as `train` has no result");
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_250), "1.2 kB");
        assert_eq!(size(73_465_086), "73.5 MB");
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(duration(0.0042), "4 ms");
        assert_eq!(duration(12.34), "12.3 s");
        assert_eq!(duration(724.9), "12m04s");
    }
}
