//! One stage: from its key to its result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Mode, Run};
use crate::PipelineError;
use crate::cache::{Cache, Key, KeyLock, LockAttempt, Lookup, Manifest, blocking};
use crate::event::{RunEvent, StageReport, StageState};
use crate::stage::{REGISTRATION_FILE, Stage};

/// How often a lock that somebody else holds is asked for.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// A stage's report and its result.
pub(super) type Brought = (StageReport, Arc<Manifest>);

impl Run<'_> {
    /// Takes the result of a stage from the cache, or makes it.
    pub(super) async fn bring(
        &self,
        position: usize,
        mode: Mode,
    ) -> Result<Brought, PipelineError> {
        let parts = self.key_parts(position)?;
        let key = parts.key();
        if let Mode::Run | Mode::FromCache(_) = mode
            && let Some(brought) = self.glance(position, &key)
        {
            return Ok(brought);
        }
        let before = self.look_up(position, &key).await?;
        if let (Some(manifest), Mode::Run | Mode::FromCache(_)) = (&before, mode)
            && let Some(brought) = self.reuse(position, Arc::clone(manifest)).await?
        {
            return Ok(brought);
        }
        if let Mode::FromCache(option) = mode {
            return match self.fetch(position, &key).await? {
                Some(manifest) => self.bring_fetched(position, manifest).await,
                None => self.bring_frozen(position, option).await,
            };
        }

        let Some(lock) = self.lock(position, &key).await? else {
            // Somebody else made it in the meantime, and just now.
            return Box::pin(self.bring(position, Mode::Run)).await;
        };
        // Between the look-up and the lock another process may have come to the end of its work.
        if mode == Mode::Run
            && before.is_none()
            && let Some(manifest) = self.look_up_again(&key).await?
            && let Some(brought) = self.reuse(position, manifest).await?
        {
            return Ok(brought);
        }
        if mode == Mode::Run
            && before.is_none()
            && let Some(manifest) = self.fetch_locked(position, &key, &lock).await
        {
            return self.bring_fetched(position, manifest).await;
        }
        let (manifest, lock) = self.make(position, parts, lock).await?;
        // Of what was made here: the shared result that may take its place can be the one before.
        let reproduced = before.map(|before| manifest.has_outputs_of(&before));
        let manifest = self.share(position, manifest, &lock).await;
        drop(lock);
        let mut report = self.deliver(position, &manifest, StageState::Ran).await?;
        report.reproduced = reproduced;
        Ok((report, manifest))
    }

    /// Takes a result that is there, where a glance shows that everything is as it was left. Most
    /// runs find most stages so, and to ask another thread would take longer than to look.
    fn glance(&self, position: usize, key: &Key) -> Option<Brought> {
        if let Stage::Register(_) = self.spec.stages[position].stage {
            // What it stands for is in a store outside of the cache.
            return None;
        }
        let manifest = self.cache.glance(key)?;
        if !self.is_copied(position, &manifest) {
            return None;
        }
        let folder = self.copies(position);
        let ports = manifest.outputs.keys();
        let outputs = ports.map(|port| (port.clone(), folder.join(port))).collect();
        let report = report(&manifest, StageState::Cached, outputs);
        Some((report, Arc::new(manifest)))
    }

    /// Takes the last result that the stage had, if that is allowed.
    async fn bring_frozen(
        &self,
        position: usize,
        option: &'static str,
    ) -> Result<Brought, PipelineError> {
        let manifest = self.last_result(position, option).await?;
        let mut report = self.deliver(position, &manifest, StageState::Cached).await?;
        report.frozen = true;
        Ok((report, manifest))
    }

    /// Returns the last result that the stage had, if it may be taken for one of its parameters and
    /// inputs; the option says why it needs one.
    pub(super) async fn last_result(
        &self,
        position: usize,
        option: &'static str,
    ) -> Result<Arc<Manifest>, PipelineError> {
        let stage = self.name(position).to_owned();
        let not_cached = |changed| PipelineError::NotCached { stage, option, changed };
        if !self.options.frozen {
            return Err(not_cached(self.changed_since(position)));
        }
        // The stage may have had other outputs then.
        let ports = self.spec.stages[position].stage.output_ports();
        if let Some(key) = self.latest_key(position)?
            && let Some(manifest) = self.look_up(position, &key).await?
            && manifest.has_ports(&ports)
        {
            return Ok(manifest);
        }
        Err(not_cached(String::new()))
    }

    /// Looks up a result, of which all has been told already.
    pub(super) async fn look_up_again(
        &self,
        key: &Key,
    ) -> Result<Option<Arc<Manifest>>, PipelineError> {
        match self.ask_cache(key).await? {
            Lookup::Hit(manifest) => Ok(Some(Arc::from(manifest))),
            Lookup::Miss | Lookup::Damaged(_) => Ok(None),
        }
    }

    pub(super) async fn look_up(
        &self,
        position: usize,
        key: &Key,
    ) -> Result<Option<Arc<Manifest>>, PipelineError> {
        match self.ask_cache(key).await? {
            Lookup::Hit(manifest) => Ok(Some(Arc::from(manifest))),
            Lookup::Miss => Ok(None),
            Lookup::Damaged(what) => {
                let stage = self.name(position).to_owned();
                self.events.send(RunEvent::Damaged { stage, what });
                Ok(None)
            }
        }
    }

    async fn ask_cache(&self, key: &Key) -> Result<Lookup, PipelineError> {
        let _turn = self.disk.acquire().await.expect("it is never closed");
        let (cache, key) = (self.cache.clone(), *key);
        blocking(move || cache.lookup(&key)).await
    }

    /// Takes a result that is there, unless what it stands for outside of the cache is gone.
    async fn reuse(
        &self,
        position: usize,
        manifest: Arc<Manifest>,
    ) -> Result<Option<Brought>, PipelineError> {
        let report = self.deliver(position, &manifest, StageState::Cached).await?;
        if let Stage::Register(register) = &self.spec.stages[position].stage {
            let file = report.outputs["registration"].join(REGISTRATION_FILE);
            if !register.still_holds(&file, &self.facts(position)?).await? {
                return Ok(None);
            }
        }
        Ok(Some((report, manifest)))
    }

    /// Returns the folder of a stage's readable copies.
    pub(super) fn copies(&self, position: usize) -> PathBuf {
        self.copies.join(self.name(position))
    }

    /// Puts the readable copies of a result in place.
    pub(super) async fn deliver(
        &self,
        position: usize,
        manifest: &Arc<Manifest>,
        state: StageState,
    ) -> Result<StageReport, PipelineError> {
        let _turn = self.disk.acquire().await.expect("it is never closed");
        let stage = self.name(position).to_owned();
        let folder = self.copies(position);
        let (cache, result) = (self.cache.clone(), Arc::clone(manifest));
        let copies = blocking(move || copy_outputs(&cache, &result, &folder)).await?;
        let mut outputs = BTreeMap::new();
        for (port, folder, restored) in copies {
            if !restored.is_empty() {
                let (stage, folder) = (stage.clone(), folder.clone());
                self.events.send(RunEvent::Restored { stage, folder, files: restored });
            }
            outputs.insert(port, folder);
        }
        Ok(report(manifest, state, outputs))
    }

    /// Waits for the right to make a result; nothing if somebody else made it while this waited.
    pub(super) async fn lock(
        &self,
        position: usize,
        key: &Key,
    ) -> Result<Option<KeyLock>, PipelineError> {
        let stage = self.name(position);
        let holder = format!("process {}, run {}", std::process::id(), self.id);
        let (mut has_waited, mut has_told) = (false, false);
        loop {
            match self.cache.try_lock(key, &holder)? {
                LockAttempt::Held(_) if has_waited => return Ok(None),
                LockAttempt::Held(lock) => return Ok(Some(lock)),
                LockAttempt::Busy(other) => {
                    // Of another stage of this run that makes the same, there is nothing to say; who
                    // has just got it has not said yet who that is.
                    if !has_told && other != holder && !other.is_empty() {
                        let (stage, holder) = (stage.to_owned(), other);
                        self.events.send(RunEvent::Waiting { stage, holder });
                        has_told = true;
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
}

/// Makes the report of a stage with a result.
fn report(
    manifest: &Manifest,
    state: StageState,
    outputs: BTreeMap<String, PathBuf>,
) -> StageReport {
    StageReport {
        metrics: manifest.metrics.clone(),
        outputs,
        key: Some(manifest.key.short()),
        headline: manifest.headline.clone(),
        seconds_saved: (state == StageState::Cached).then_some(manifest.seconds),
        ..StageReport::without_result(state, 0.0)
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
