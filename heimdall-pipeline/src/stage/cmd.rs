//! Stage `cmd`: a program of any language, with declared inputs, outputs, sources and variables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{FusedFuture, join};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tracing::info;

use crate::artifact::{ArtifactKind, OutputPort};
use crate::runner::memory_peak_bytes;
use crate::stage::made;
use crate::stage::process_group::ProcessGroup;
use crate::stage::{StageContext, StageOutput};
use crate::{PipelineError, Secrets};

/// Variables of the environment that every program gets, to find other programs and places of its
/// own; all others must be declared.
const INHERITED: [&str; 4] = ["HOME", "PATH", "TMPDIR", "USER"];

/// Variables that decide how programs sort and write times: the same ones on every machine, unless
/// others are declared.
const FIXED: [(&str, &str); 3] = [("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8"), ("TZ", "UTC")];

/// How long a program may take to end by itself once it has been asked to.
const GRACE: Duration = Duration::from_secs(5);

/// How often the flag is looked at.
const CANCEL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CmdStage {
    /// The program and its arguments, or one line for `sh -c`.
    pub command: CommandLine,
    /// What it makes, by port; `files` stands for anything.
    pub outputs: BTreeMap<String, ArtifactKind>,
    /// Files and folders with its code, relative to the working directory: if one changes, the
    /// program runs again.
    #[serde(default)]
    pub sources: Vec<PathBuf>,
    /// Variables that it gets, with their values.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables of the environment that it gets and that are kept secret: what they stand for has
    /// no part in the key, and is shown nowhere.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// What it finds under `parameters` in its context.
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
}

/// A program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CommandLine {
    /// A line for the shell.
    Shell(String),
    /// The program and its arguments, as they are.
    Words(Vec<String>),
}

/// What a program finds in the file that `HEIMDALL_CONTEXT` names.
#[derive(Debug, Serialize)]
struct CommandContext<'a> {
    inputs: &'a BTreeMap<String, PathBuf>,
    outputs: &'a BTreeMap<String, PathBuf>,
    /// A folder that is there again if the stage is interrupted and run again.
    scratch: PathBuf,
    /// Where the program may write `{"metrics": {…}, "headline": "…"}`.
    result: PathBuf,
    parameters: &'a BTreeMap<String, Value>,
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = CommandLine;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a line for the shell, or a list of a program and its arguments")
            }

            fn visit_str<E>(self, text: &str) -> Result<CommandLine, E> {
                Ok(CommandLine::Shell(text.to_owned()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<CommandLine, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(CommandLine::Words(words))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl CmdStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`PipelineError::InvalidCommand`] for the first rule that is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        let invalid = |field: &str, expected: &'static str| {
            Err(PipelineError::InvalidCommand { field: field.to_owned(), expected })
        };
        let is_empty = match &self.command {
            CommandLine::Shell(line) => line.trim().is_empty(),
            CommandLine::Words(words) => words.first().is_none_or(String::is_empty),
        };
        if is_empty {
            return invalid("command", "a program");
        }
        if self.outputs.is_empty() {
            return invalid("outputs", "at least one port");
        }
        if let Some(port) = self.outputs.keys().find(|port| !is_port_name(port)) {
            return invalid(&format!("outputs.{port}"), "a name of letters, digits and `_`");
        }
        for name in self.env.keys().chain(&self.secrets) {
            if name.is_empty() || name.contains(['=', '\0']) || name.starts_with("HEIMDALL_") {
                return invalid(
                    name,
                    "the name of a variable that does not begin with `HEIMDALL_`",
                );
            }
        }
        Ok(())
    }

    /// Returns what it makes.
    pub(crate) fn output_ports(&self) -> Vec<OutputPort> {
        let port = |(name, kind): (&String, &ArtifactKind)| OutputPort {
            name: name.clone().into(),
            kind: *kind,
        };
        self.outputs.iter().map(port).collect()
    }

    /// Runs the program, and takes over what it wrote into its outputs.
    ///
    /// # Errors
    ///
    /// [`PipelineError::CommandFailed`] if it ends with another code than 0.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let result = context.private("result.json");
        let mut child = self.start(context, result.clone())?;
        let group = ProcessGroup::of(&child);
        let said = (log_lines(child.stdout.take()), log_lines(child.stderr.take()));
        let mut listening = pin!(join(said.0, said.1).fuse());
        let ended = {
            let mut waiting = pin!(wait(&mut child, group.as_ref(), context));
            loop {
                tokio::select! {
                    ended = &mut waiting => break ended,
                    _ = &mut listening => {}
                }
            }
        };
        drop(group);
        if !listening.is_terminated() {
            // Somebody outside of the group may hold the other end for as long as they like.
            let _ = tokio::time::timeout(GRACE, listening).await;
        }
        let status = ended?;
        if !status.success() {
            return Err(PipelineError::CommandFailed { status: status.to_string() });
        }
        for (port, kind) in &self.outputs {
            if let Err(error) = made::check(*kind, context.output(port), context).await {
                let (port, kind, source) = (port.clone(), *kind, Box::new(error));
                return Err(PipelineError::InvalidOutput { port, kind, source });
            }
        }
        match tokio::fs::read(&result).await {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| PipelineError::Malformed { path: result, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(StageOutput::default())
            }
            Err(error) => Err(PipelineError::io("read", result)(error)),
        }
    }

    fn start(&self, context: &StageContext, result: PathBuf) -> Result<Child, PipelineError> {
        let environment = context.environment();
        for name in &self.secrets {
            let expected = match environment.get(name) {
                None => "set in the environment, as the stage declares it",
                Some(value) if !Secrets::can_hide(value) => {
                    "a secret with lines of six bytes or more, to be hidden"
                }
                Some(_) => continue,
            };
            return Err(PipelineError::InvalidCommand { field: name.clone(), expected });
        }
        let file = context.private("context.json");
        let contents = CommandContext {
            inputs: context.inputs(),
            outputs: context.outputs(),
            scratch: context.scratch().to_owned(),
            result: result.clone(),
            parameters: &self.parameters,
        };
        let json = serde_json::to_vec_pretty(&contents).expect("a context is plain data");
        std::fs::write(&file, json).map_err(PipelineError::io("write", &file))?;

        let words = match &self.command {
            CommandLine::Shell(line) => vec!["sh", "-c", line],
            CommandLine::Words(words) => words.iter().map(String::as_str).collect(),
        };
        let declared = INHERITED.into_iter().chain(self.secrets.iter().map(String::as_str));
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_clear().envs(FIXED);
        command.envs(declared.filter_map(|name| Some((name, environment.get(name)?))));
        command.envs(&self.env);
        command.env("HEIMDALL_CONTEXT", &file).env("HEIMDALL_RESULT", &result);
        for (prefix, ports) in [("INPUT", context.inputs()), ("OUTPUT", context.outputs())] {
            for (port, folder) in ports {
                command.env(format!("HEIMDALL_{prefix}_{}", port.to_uppercase()), folder);
            }
        }
        // A group of its own, so that whatever it starts can be stopped with it.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.spawn().map_err(PipelineError::io("start", words[0]))
    }
}

/// Waits for the program's end, and ends it with all that it has started if the stage is to stop.
async fn wait(
    child: &mut Child,
    group: Option<&ProcessGroup>,
    context: &StageContext,
) -> Result<ExitStatus, PipelineError> {
    let process = group.map(|group| group.id().to_string()).unwrap_or_default();
    let failed = || PipelineError::io("wait for", context.stage());
    loop {
        tokio::select! {
            ended = child.wait() => return ended.map_err(failed()),
            () = tokio::time::sleep(CANCEL_INTERVAL) => {}
        }
        memory_peak_bytes(&process).into_iter().for_each(|bytes| context.note_memory(bytes));
        if context.check_cancelled().is_err() {
            let signal = |signal| group.iter().for_each(|group| group.signal(signal));
            signal(Signal::TERM);
            if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                signal(Signal::KILL);
                child.wait().await.map_err(failed())?;
            }
            return Err(PipelineError::Interrupted);
        }
    }
}

/// Passes on what a program says, line by line.
async fn log_lines(pipe: Option<impl AsyncRead + Unpin>) {
    let Some(pipe) = pipe else { return };
    let mut lines = BufReader::new(pipe).split(b'\n');
    // A pipe that breaks has nothing more to say.
    while let Ok(Some(line)) = lines.next_segment().await {
        info!("{}", String::from_utf8_lossy(&line));
    }
}

/// Whether a port can be called that: it becomes a folder and a part of a variable.
pub(crate) fn is_port_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
