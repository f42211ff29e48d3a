//! One stage: from its key to its result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::spawn_blocking;

use super::{Mode, Run};
use crate::PipelineError;
use crate::cache::{
    Cache, Key, KeyLock, KeyParts, LockAttempt, Lookup, Manifest, Provenance, WorkFolder,
};
use crate::event::{RunEvent, StageReport, StageState};
use crate::stage::{Stage, StageContext, StageOutput, StageProgress};

/// How often a lock that somebody else holds is asked for.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

impl Run<'_> {
    /// Takes the result of a stage from the cache, or makes it.
    pub(super) async fn bring(
        &mut self,
        position: usize,
        mode: Mode,
    ) -> Result<StageReport, PipelineError> {
        let parts = self.key_parts(position)?;
        let key = parts.key();
        let before = self.look_up(position, &key).await?;
        if let (Some(manifest), Mode::Run | Mode::FromCache(_)) = (&before, mode)
            && let Some(report) = self.reuse(position, manifest.clone()).await?
        {
            return Ok(report);
        }
        if let Mode::FromCache(option) = mode {
            return Err(PipelineError::NotCached { stage: self.name(position).to_owned(), option });
        }

        let Some(lock) = self.lock(position, &key).await? else {
            // Somebody else made it in the meantime.
            return Box::pin(self.bring(position, mode)).await;
        };
        // Between the look-up and the lock another process may have come to the end of its work.
        if mode == Mode::Run
            && before.is_none()
            && let Some(manifest) = self.look_up(position, &key).await?
            && let Some(report) = self.reuse(position, manifest).await?
        {
            return Ok(report);
        }
        let manifest = self.make(position, parts, lock).await?;
        let reproduced = before.map(|before| same_outputs(&before, &manifest));
        let mut report = self.deliver(position, manifest, StageState::Ran).await?;
        report.reproduced = reproduced;
        Ok(report)
    }

    fn name(&self, position: usize) -> &str {
        &self.spec.stages[position].name
    }

    async fn look_up(&self, position: usize, key: &Key) -> Result<Option<Manifest>, PipelineError> {
        let (cache, key) = (self.cache.clone(), *key);
        match blocking(move || cache.lookup(&key)).await? {
            Lookup::Hit(manifest) => Ok(Some(*manifest)),
            Lookup::Miss => Ok(None),
            Lookup::Damaged(what) => {
                let stage = self.name(position).to_owned();
                self.events.send(RunEvent::Damaged { stage, what });
                Ok(None)
            }
        }
    }

    /// Takes a result that is there, unless what it stands for outside of the cache is gone.
    async fn reuse(
        &mut self,
        position: usize,
        manifest: Manifest,
    ) -> Result<Option<StageReport>, PipelineError> {
        let report = self.deliver(position, manifest, StageState::Cached).await?;
        if let Stage::Register(register) = &self.spec.stages[position].stage {
            let folder = &report.outputs["registration"];
            if !register.still_holds(folder, &self.facts(position)?).await? {
                self.results.remove(&position);
                return Ok(None);
            }
        }
        Ok(Some(report))
    }

    /// Puts the readable copies of a result in place and remembers it.
    async fn deliver(
        &mut self,
        position: usize,
        manifest: Manifest,
        state: StageState,
    ) -> Result<StageReport, PipelineError> {
        let stage = self.name(position).to_owned();
        let folder = self.options.output.join(&self.spec.name).join(&stage);
        let folder = std::path::absolute(&folder).map_err(PipelineError::io("find", &folder))?;
        let cache = self.cache.clone();
        let (manifest, copies) = blocking(move || {
            let copies = copy_outputs(&cache, &manifest, &folder)?;
            Ok((manifest, copies))
        })
        .await?;
        let mut outputs = BTreeMap::new();
        for (port, folder, restored) in copies {
            if !restored.is_empty() {
                let (stage, folder) = (stage.clone(), folder.clone());
                self.events.send(RunEvent::Restored { stage, folder, files: restored });
            }
            outputs.insert(port, folder);
        }
        let mut report = StageReport::without_result(state, 0.0);
        report.metrics.clone_from(&manifest.metrics);
        report.outputs = outputs;
        report.key = Some(manifest.key.short());
        report.headline.clone_from(&manifest.headline);
        report.seconds_saved = (state == StageState::Cached).then_some(manifest.seconds);
        self.results.insert(position, manifest);
        Ok(report)
    }

    /// Waits for the right to make a result; nothing if somebody else made it while this waited.
    async fn lock(&self, position: usize, key: &Key) -> Result<Option<KeyLock>, PipelineError> {
        let stage = self.name(position);
        let holder = format!("process {}, run {}", std::process::id(), self.id);
        let mut has_waited = false;
        loop {
            match self.cache.try_lock(key, &holder)? {
                LockAttempt::Held(_) if has_waited => return Ok(None),
                LockAttempt::Held(lock) => return Ok(Some(lock)),
                LockAttempt::Busy(holder) => {
                    if !has_waited {
                        let stage = stage.to_owned();
                        self.events.send(RunEvent::Waiting { stage, holder });
                    }
                    has_waited = true;
                }
            }
            if self.is_cancelled() {
                return Err(PipelineError::Interrupted);
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
    }

    /// Runs a stage in a folder of its own and publishes what it leaves there.
    async fn make(
        &self,
        position: usize,
        parts: KeyParts,
        lock: KeyLock,
    ) -> Result<Manifest, PipelineError> {
        let (begun, started) = (Instant::now(), Timestamp::now());
        let spec = &self.spec.stages[position];
        self.events.send(RunEvent::StageStarted { stage: spec.name.clone() });
        let key = parts.key();
        let work = self.cache.create_work(&key, &self.id)?;
        let context = self.context(position, &key, &work).await?;
        let output = run_guarded(spec.stage.clone(), context).await?;
        if let Some((metric, value)) = output.metrics.iter().find(|(_, value)| !value.is_finite()) {
            let (stage, metric) = (spec.name.clone(), metric.clone());
            return Err(PipelineError::NonFiniteMetric { stage, metric, value: *value });
        }

        let ports = spec.stage.kind().outputs();
        let manifest = Manifest {
            version: Manifest::version(),
            key,
            kind: spec.stage.kind(),
            key_parts: parts,
            outputs: BTreeMap::new(),
            metrics: output.metrics,
            headline: output.headline,
            seconds: begun.elapsed().as_secs_f64(),
            provenance: Provenance {
                run: self.id.clone(),
                pipeline: self.spec.name.clone(),
                stage: spec.name.clone(),
                host: host_name(),
                program: env!("CARGO_PKG_VERSION").to_owned(),
                started: started.to_string(),
            },
        };
        let cache = self.cache.clone();
        blocking(move || cache.publish(&lock, work, ports, manifest)).await
    }

    /// Lays out what a stage runs with.
    async fn context(
        &self,
        position: usize,
        key: &Key,
        work: &WorkFolder,
    ) -> Result<StageContext, PipelineError> {
        let spec = &self.spec.stages[position];
        let mut inputs = BTreeMap::new();
        for wire in self.spec.graph().inputs(position) {
            let output = &self.results[&wire.producer].outputs[wire.output.name];
            let folder = self.cache.link_input(work, wire.input.name, output)?;
            inputs.insert(wire.input.name, folder);
        }
        let mut outputs = BTreeMap::new();
        for port in spec.stage.kind().outputs() {
            outputs.insert(port.name, work.create_output(port.name)?);
        }
        let scratch = self.cache.scratch(key);
        tokio::fs::create_dir_all(&scratch).await.map_err(PipelineError::io("create", &scratch))?;
        let (events, stage) = (self.events.clone(), spec.name.clone());
        let progress = move |progress: StageProgress| {
            events.send(RunEvent::StageProgress { stage: stage.clone(), progress });
        };
        Ok(StageContext {
            stage: spec.name.clone(),
            inputs,
            outputs,
            scratch,
            cancel: Arc::clone(self.cancel),
            device: spec.run.device,
            facts: Arc::new(self.facts(position)?),
            progress: Arc::new(progress),
        })
    }
}

/// Runs a stage on a task of its own, so that its panic is an error of the stage alone.
async fn run_guarded(stage: Stage, context: StageContext) -> Result<StageOutput, PipelineError> {
    let name = context.stage().to_owned();
    let task = tokio::spawn(async move { stage.run(&context).await });
    task.await.unwrap_or_else(|error| Err(panicked(name, error)))
}

fn panicked(stage: String, error: tokio::task::JoinError) -> PipelineError {
    let message = match error.try_into_panic() {
        Ok(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload
                .downcast_ref::<&str>()
                .map_or_else(|| "no message".to_owned(), |text| (*text).to_owned()),
        },
        Err(error) => error.to_string(),
    };
    PipelineError::Panicked { stage, message }
}

/// Runs what waits for disks where it keeps nobody else waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PipelineError> + Send + 'static,
) -> Result<T, PipelineError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Copies every output; returns the ports, their folders, and which files had to be restored.
fn copy_outputs(
    cache: &Cache,
    manifest: &Manifest,
    folder: &Path,
) -> Result<Vec<(String, PathBuf, Vec<String>)>, PipelineError> {
    manifest
        .outputs
        .iter()
        .map(|(port, output)| {
            let folder = folder.join(port);
            let report = cache.copy_output(output, &folder)?;
            Ok((port.clone(), folder, report.restored))
        })
        .collect()
}

fn same_outputs(one: &Manifest, other: &Manifest) -> bool {
    one.outputs.len() == other.outputs.len()
        && one
            .outputs
            .iter()
            .all(|(port, output)| other.outputs.get(port).is_some_and(|o| o.tree == output.tree))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
