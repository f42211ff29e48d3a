//! What a command may use of the process that it runs in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};

use crate::{EventSink, FaultPoint, PipelineError, PipelineSpec, Progress, Secrets, Stage};

/// What a command may use of the process that it runs in: nothing else is read from there.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The variables of the environment, as far as they are text.
    pub environment: BTreeMap<String, String>,
    /// Where people see what happens.
    pub progress: Progress,
    /// What nobody is to see.
    pub secrets: Secrets,
    /// Where a run dies, for tests.
    pub fault: Option<FaultPoint>,
}

impl Surroundings {
    /// Makes surroundings of the variables of the environment; what is not text is left out.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let environment: BTreeMap<_, _> = variables.into_iter().filter_map(text).collect();
        let secrets = Secrets::of_environment(&environment);
        let fault = environment.get("HEIMDALL_FAULT").and_then(|name| FaultPoint::from_name(name));
        Self { environment, progress: Progress::on_stderr(secrets.clone()), secrets, fault }
    }

    /// Returns what nobody is to see, with what the stages of a pipeline declare to be secret.
    pub(crate) fn secrets_of(&self, spec: &PipelineSpec) -> Secrets {
        for stage in &spec.stages {
            if let Stage::Cmd(cmd) = &stage.stage {
                let values = cmd.secrets.iter().filter_map(|name| self.environment.get(name));
                values.for_each(|value| self.secrets.hide(value));
            }
        }
        self.secrets.clone()
    }

    /// Returns a sink that shows events to people.
    pub(crate) fn screen(&self) -> EventSink {
        let progress = self.progress.clone();
        EventSink::new(move |event| progress.show(&event))
    }

    /// Writes to stdout, where data goes; a reader that has gone is no error.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Io`] if stdout cannot be written to.
    pub fn print(&self, text: &str) -> Result<(), PipelineError> {
        match io::stdout().write_all(self.secrets.redact(text).as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(PipelineError::io("write to", "stdout")(error))
            }
            _ => Ok(()),
        }
    }
}
