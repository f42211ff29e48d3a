//! Taking results from a cache that machines share, and giving them to it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::foresee::Failing;
use super::run_stage::Brought;
use super::{Mode, Run, RunOptions};
use crate::PipelineError;
use crate::cache::{Key, KeyLock, Manifest, Pulled, Pushed, Remote, Traffic};
use crate::event::{EventSink, RunEvent, StageState};
use crate::spec::PipelineSpec;
use crate::stage::Stage;

/// The shared cache of a run.
#[derive(Debug)]
pub(super) struct Sharing {
    remote: Remote,
    /// Whether it failed once, and is left alone from then on.
    has_failed: AtomicBool,
}

impl Sharing {
    /// Opens the shared cache that the options name, if they do; one that is away is the error in
    /// the second place.
    pub(super) fn new(
        options: &RunOptions,
    ) -> Result<(Option<Self>, Option<PipelineError>), PipelineError> {
        let Some(address) = &options.remote else { return Ok((None, None)) };
        if let Err(error) = find_folder(address) {
            return Ok((None, Some(error)));
        }
        let remote = Remote::open(address, &options.environment)?;
        Ok((Some(Self { remote, has_failed: AtomicBool::new(false) }), None))
    }
}

/// Returns the folder at the address of a shared cache, if it is that of one.
fn folder(address: &str) -> Option<&Path> {
    match address.split_once("://") {
        None => Some(Path::new(address)),
        Some(("file", path)) => Some(Path::new(path)),
        Some(_) => None,
    }
    .filter(|path| !path.as_os_str().is_empty())
}

/// Looks whether a shared cache in a folder is there. A run makes none: the folder may be on another
/// machine that is away.
fn find_folder(address: &str) -> Result<(), PipelineError> {
    let Some(path) = folder(address) else { return Ok(()) };
    fs::read_dir(path).map(drop).map_err(PipelineError::io("open the shared cache", path))
}

/// What was exchanged with a shared cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Results of the pipeline that both caches have now.
    pub results: usize,
    /// Stages of which there was no result to exchange.
    pub missing: usize,
    /// Files that travelled.
    pub files: usize,
    /// Length of these files.
    pub bytes: u64,
}

impl Exchange {
    fn add(&mut self, traffic: Traffic) {
        self.results += 1;
        self.files += traffic.files;
        self.bytes += traffic.bytes;
    }
}

/// Gives the results of a pipeline to the shared cache, as far as they are there.
///
/// # Errors
///
/// Those of [`plan`](super::plan); [`PipelineError::NoRemote`] if the options name no shared cache,
/// and [`PipelineError::Remote`] if it cannot be used.
pub async fn push(
    spec: &PipelineSpec,
    options: &RunOptions,
    events: &EventSink,
) -> Result<Exchange, PipelineError> {
    exchange(spec, options, events, true).await
}

/// Takes the results of a pipeline from the shared cache that are not there.
///
/// # Errors
///
/// Those of [`push`].
pub async fn pull(
    spec: &PipelineSpec,
    options: &RunOptions,
    events: &EventSink,
) -> Result<Exchange, PipelineError> {
    exchange(spec, options, events, false).await
}

async fn exchange(
    spec: &PipelineSpec,
    options: &RunOptions,
    events: &EventSink,
    is_push: bool,
) -> Result<Exchange, PipelineError> {
    if let Some(address) = &options.remote {
        if let Some(path) = folder(address).filter(|_| is_push) {
            fs::create_dir_all(path).map_err(PipelineError::io("create", path))?;
        }
        // A run does without one that is away, and here there would be nothing to do.
        find_folder(address)?;
    }
    let cancel = Arc::default();
    let run = Run::begin(spec, options, &cancel, events)?;
    let (mut done, mut failing) = (Exchange::default(), Failing::default());
    for &position in spec.graph().order() {
        if run.selection.mode(position) == Mode::Skip {
            continue;
        }
        let Some(remote) = run.remote(position)? else {
            run.foresee(position, &mut failing).await?;
            continue;
        };
        if !run.has_inputs(position) {
            done.missing += 1;
            continue;
        }
        let key = run.key_parts(position)?.key();
        let found = run.look_up(position, &key).await?;
        match (found, is_push) {
            (Some(manifest), true) => {
                let lock = loop {
                    // Nothing comes of waiting for the work of another run, but that it ends.
                    if let Some(lock) = run.lock(position, &key).await? {
                        break lock;
                    }
                };
                let (manifest, traffic) = run.push(remote, position, manifest, &lock).await?;
                done.add(traffic);
                run.set_result(position, manifest);
            }
            (Some(manifest), false) => {
                done.add(Traffic::default());
                run.set_result(position, manifest);
            }
            (None, true) => done.missing += 1,
            (None, false) => {
                let lock = run.lock(position, &key).await?;
                let pulled = match &lock {
                    Some(lock) => run.pull(remote, position, &key, lock).await?,
                    // Another run has made it in the meantime.
                    None => {
                        run.look_up(position, &key).await?.map(|found| (found, Traffic::default()))
                    }
                };
                match pulled {
                    Some((manifest, traffic)) => {
                        done.add(traffic);
                        run.set_result(position, manifest);
                    }
                    None => done.missing += 1,
                }
            }
        }
    }
    Ok(done)
}

impl Run<'_> {
    /// Returns the shared cache, unless a stage's result has no business in it.
    fn remote(&self, position: usize) -> Result<Option<&Remote>, PipelineError> {
        let sharing = self.sharing.as_ref().ok_or(PipelineError::NoRemote)?;
        Ok(match self.spec.stages[position].stage {
            // It stands for an entry in a store, which other machines do not have.
            Stage::Register(_) => None,
            _ => Some(&sharing.remote),
        })
    }

    /// Does something with the shared cache, if there is one. It is there to save time: when it
    /// fails, the run says so, once, and goes on without it, and so it does when it is to stop.
    async fn if_shared<T>(
        &self,
        position: usize,
        work: impl AsyncFnOnce(&Remote) -> Result<Option<T>, PipelineError>,
    ) -> Option<T> {
        let sharing = self.sharing.as_ref()?;
        let remote = self.remote(position).ok()??;
        if sharing.has_failed.load(Ordering::Relaxed) {
            return None;
        }
        let done = tokio::select! {
            biased;
            () = self.cancelled() => return None,
            done = work(remote) => done,
        };
        match done {
            Ok(done) => done,
            Err(error) => {
                if !sharing.has_failed.swap(true, Ordering::Relaxed) {
                    self.tell_sharing_failed(&error);
                }
                None
            }
        }
    }

    pub(super) fn tell_sharing_failed(&self, error: &PipelineError) {
        let error = self.options.secrets.redact(&error.with_causes()).into_owned();
        self.events.send(RunEvent::SharingFailed { error });
    }

    /// Takes a result from the shared cache, if it has it.
    pub(super) async fn fetch(
        &self,
        position: usize,
        key: &Key,
    ) -> Result<Option<Arc<Manifest>>, PipelineError> {
        if self.sharing.is_none() {
            return Ok(None);
        }
        match self.lock(position, key).await? {
            Some(lock) => Ok(self.fetch_locked(position, key, &lock).await),
            None => self.look_up(position, key).await,
        }
    }

    /// Takes a result from the shared cache, if it has it; the lock keeps others from making it.
    pub(super) async fn fetch_locked(
        &self,
        position: usize,
        key: &Key,
        lock: &KeyLock,
    ) -> Option<Arc<Manifest>> {
        let pulling = async |remote: &Remote| self.pull(remote, position, key, lock).await;
        Some(self.if_shared(position, pulling).await?.0)
    }

    /// Returns what the shared cache says of a result, without taking it.
    pub(super) async fn find_shared(&self, position: usize, key: &Key) -> Option<Arc<Manifest>> {
        let finding = async |remote: &Remote| remote.find(key).await;
        self.if_shared(position, finding).await.map(Arc::new)
    }

    /// Gives a new result to the shared cache. If there is another result already that was made from
    /// the same, that one counts, so that all machines go on from one.
    pub(super) async fn share(
        &self,
        position: usize,
        manifest: Manifest,
        lock: &KeyLock,
    ) -> Arc<Manifest> {
        let manifest = Arc::new(manifest);
        let pushing = async |remote: &Remote| {
            Ok(Some(self.push(remote, position, Arc::clone(&manifest), lock).await?.0))
        };
        self.if_shared(position, pushing).await.unwrap_or(manifest)
    }

    /// Puts the readable copies of a result in place that came from the shared cache.
    pub(super) async fn bring_fetched(
        &self,
        position: usize,
        manifest: Arc<Manifest>,
    ) -> Result<Brought, PipelineError> {
        let report = self.deliver(position, &manifest, StageState::Cached).await?;
        Ok((report, manifest))
    }

    async fn pull(
        &self,
        remote: &Remote,
        position: usize,
        key: &Key,
        lock: &KeyLock,
    ) -> Result<Option<(Arc<Manifest>, Traffic)>, PipelineError> {
        let stage = self.name(position).to_owned();
        match self.cache.pull(remote, key, lock, &self.id).await? {
            Pulled::Result(manifest, traffic) => {
                let Traffic { files, bytes } = traffic;
                self.events.send(RunEvent::Fetched { stage, files, bytes });
                Ok(Some((Arc::from(manifest), traffic)))
            }
            Pulled::Miss => Ok(None),
            Pulled::Damaged(what) => {
                self.events.send(RunEvent::Damaged { stage, what });
                Ok(None)
            }
        }
    }

    async fn push(
        &self,
        remote: &Remote,
        position: usize,
        manifest: Arc<Manifest>,
        lock: &KeyLock,
    ) -> Result<(Arc<Manifest>, Traffic), PipelineError> {
        let stage = self.name(position).to_owned();
        match self.cache.push(remote, &manifest).await? {
            Pushed::Kept(traffic) => {
                let Traffic { files, bytes } = traffic;
                self.events.send(RunEvent::Shared { stage, files, bytes });
                Ok((manifest, traffic))
            }
            Pushed::Differs(theirs) => {
                let key = manifest.key.short();
                self.events.send(RunEvent::Nondeterministic { stage: stage.clone(), key });
                match self.cache.take_over(remote, *theirs, lock, &self.id).await? {
                    Pulled::Result(theirs, traffic) => Ok((Arc::from(theirs), traffic)),
                    // What there is cannot be used: ours stays.
                    Pulled::Damaged(what) => {
                        self.events.send(RunEvent::Damaged { stage, what });
                        Ok((manifest, Traffic::default()))
                    }
                    Pulled::Miss => Ok((manifest, Traffic::default())),
                }
            }
        }
    }
}
