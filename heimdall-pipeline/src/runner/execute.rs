//! Runs one stage in a folder of its own, and publishes what it made.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Run, Selection};
use crate::PipelineError;
use crate::cache::{
    Digest, Key, KeyLock, KeyParts, LockAttempt, Lookup, Manifest, Provenance, WorkFolder,
    list_files,
};
use crate::event::RunEvent;
use crate::stage::{StageContext, StageOutput};

/// How often a result that another process makes is asked for.
const POLL: Duration = Duration::from_millis(200);

impl Run<'_> {
    /// Makes the result of a stage; the flag says whether another process has made it meanwhile.
    pub(super) async fn make(
        &self,
        position: usize,
        key: &Key,
        parts: KeyParts,
        selection: &Selection,
    ) -> Result<(Manifest, bool), PipelineError> {
        let (lock, waited) = self.lock(position, key).await?;
        if waited
            && !selection.forced.contains(&position)
            && let Lookup::Hit(manifest) = self.cache.lookup(key)?
        {
            return Ok((*manifest, true));
        }
        let spec = &self.spec.stages[position];
        (self.watcher)(RunEvent::Started { stage: spec.name.clone() });
        let began = Instant::now();
        let provenance = self.provenance(&spec.name);
        let work = self.cache.create_work(key, &self.id)?;
        let context = self.context(position, key, &work)?;
        let output = self.execute(position, context).await?;
        if let Some((metric, &value)) = output.metrics.iter().find(|(_, value)| !value.is_finite())
        {
            let (stage, metric) = (spec.name.clone(), metric.clone());
            return Err(PipelineError::NonFiniteMetric { stage, metric, value });
        }
        let manifest = Manifest {
            version: Manifest::version(),
            key: *key,
            kind: spec.stage.kind(),
            key_parts: parts,
            outputs: BTreeMap::new(),
            metrics: output.metrics,
            headline: output.headline,
            seconds: began.elapsed().as_secs_f64(),
            provenance,
        };
        let published = self.cache.publish(&lock, work, spec.stage.kind().outputs(), manifest)?;
        Ok((published, false))
    }

    /// Waits for the right to make a result; the flag says whether somebody else had it.
    async fn lock(&self, position: usize, key: &Key) -> Result<(KeyLock, bool), PipelineError> {
        let holder = format!("run {} of {}", self.id, self.spec.name);
        let mut waited = false;
        loop {
            match self.cache.try_lock(key, &holder)? {
                LockAttempt::Held(lock) => return Ok((lock, waited)),
                LockAttempt::Busy(holder) => {
                    if !waited {
                        let stage = self.spec.stages[position].name.clone();
                        (self.watcher)(RunEvent::Waiting { stage, holder });
                    }
                    waited = true;
                }
            }
            if self.cancel.load(Ordering::Relaxed) {
                return Err(PipelineError::Interrupted);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn context(
        &self,
        position: usize,
        key: &Key,
        work: &WorkFolder,
    ) -> Result<StageContext, PipelineError> {
        let spec = &self.spec.stages[position];
        let mut inputs = BTreeMap::new();
        for wire in self.spec.graph().inputs(position) {
            let output = &self.results[&wire.producer].outputs[wire.output.name];
            inputs.insert(wire.input.name, self.cache.link_input(work, wire.input.name, output)?);
        }
        let mut outputs = BTreeMap::new();
        for port in spec.stage.kind().outputs() {
            outputs.insert(port.name, work.create_output(port.name)?);
        }
        let scratch = self.cache.scratch(key);
        fs::create_dir_all(&scratch).map_err(PipelineError::io("create", &scratch))?;
        let (stage, watcher) = (spec.name.clone(), Arc::clone(&self.watcher));
        Ok(StageContext {
            stage: spec.name.clone(),
            inputs,
            outputs,
            scratch,
            cancel: Arc::clone(&self.cancel),
            device: spec.run.device,
            facts: Arc::new(self.facts(position)),
            progress: Arc::new(move |progress| {
                watcher(RunEvent::Progress { stage: stage.clone(), progress });
            }),
        })
    }

    /// Runs the stage on a task of its own, so that a panic in it is an error of this stage alone.
    async fn execute(
        &self,
        position: usize,
        context: StageContext,
    ) -> Result<StageOutput, PipelineError> {
        let spec = &self.spec.stages[position];
        let stage = spec.stage.clone();
        let task = tokio::spawn(async move { stage.run(&context).await });
        task.await.unwrap_or_else(|error| {
            let message = match error.try_into_panic() {
                Ok(panic) => panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_else(|| "no message".to_owned()),
                Err(error) => error.to_string(),
            };
            Err(PipelineError::Panicked { stage: spec.name.clone(), message })
        })
    }

    fn provenance(&self, stage: &str) -> Provenance {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Provenance {
            run: self.id.clone(),
            pipeline: self.spec.name.clone(),
            stage: stage.to_owned(),
            host: host.trim().to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            started: jiff::Timestamp::now().to_string(),
        }
    }
}

/// Computes the digest of a folder outside of the cache: names and contents.
pub(super) fn digest_of_folder(folder: &Path) -> Result<Digest, PipelineError> {
    let mut files = Vec::new();
    for name in list_files(folder)? {
        let path = folder.join(&name);
        let content = fs::read(&path).map_err(PipelineError::io("read", &path))?;
        files.push((name, Digest::of(&content)));
    }
    Ok(Digest::of_tree(files.iter().map(|(name, digest)| (name.as_str(), digest))))
}
