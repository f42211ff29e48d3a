//! Shows a run to a person: bars on a terminal, plain lines elsewhere; both on stderr.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::event::{RunEvent, StageReport, StageState};
use crate::stage::StageProgress;

/// Least time between two plain lines about one stage.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Shows events; clones show on the same screen.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    on_terminal: bool,
    last_line: Arc<Mutex<Option<Instant>>>,
}

impl Progress {
    /// Starts showing on stderr.
    pub fn on_stderr() -> Self {
        let on_terminal = io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self { bar, on_terminal, last_line: Arc::default() }
    }

    /// Shows one event.
    pub fn show(&self, event: &RunEvent) {
        match event {
            RunEvent::StageStarted { stage } => {
                *self.last_line.lock().unwrap_or_else(PoisonError::into_inner) = None;
                if self.on_terminal {
                    self.bar.set_draw_target(ProgressDrawTarget::stderr());
                    let style = ProgressStyle::with_template(
                        "{prefix:12} [{bar:30}] {pos}/{len} {msg} {elapsed}",
                    );
                    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                    self.bar.set_style(style.progress_chars("=> "));
                    self.bar.reset();
                    self.bar.set_prefix(stage.clone());
                    self.bar.set_message("");
                    self.bar.enable_steady_tick(Duration::from_millis(200));
                } else {
                    self.line(&format!("{stage:12} started"));
                }
            }
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
            RunEvent::StageFinished { stage, report } => {
                self.bar.disable_steady_tick();
                self.bar.set_draw_target(ProgressDrawTarget::hidden());
                self.line(&outcome(stage, report));
            }
            RunEvent::Started { .. } | RunEvent::Finished { .. } => {}
        }
    }

    fn progress(&self, stage: &str, progress: &StageProgress) {
        if progress.total > 0 {
            self.bar.set_length(progress.total);
        }
        if self.on_terminal {
            self.bar.set_position(progress.done);
            self.bar.set_message(progress.message.clone());
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL) {
            *last = Some(Instant::now());
            let of = self.bar.length().map_or_else(String::new, |total| format!("/{total}"));
            self.line(&format!("{stage:12} {}{of} {}", progress.done, progress.message));
        }
    }

    /// Writes a line above the bar.
    fn line(&self, text: &str) {
        // A terminal that is gone is no reason to stop working.
        let _ = self.clone().write_all(format!("{text}\n").as_bytes());
    }
}

impl Write for Progress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bar.suspend(|| io::stderr().write_all(bytes))?;
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
    fn durations_are_readable() {
        assert_eq!(duration(0.0042), "4 ms");
        assert_eq!(duration(12.34), "12.3 s");
        assert_eq!(duration(724.9), "12m04s");
    }
}
