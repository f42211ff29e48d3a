//! Running a stage: in a folder of its own, for so long and so often as it may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::provenance::Attempt;
use super::{Run, WATCH_INTERVAL};
use crate::PipelineError;
use crate::cache::{Key, KeyLock, KeyParts, Manifest, WorkFolder, blocking};
use crate::event::RunEvent;
use crate::fault::FaultPoint;
use crate::stage::{Stage, StageContext, StageLog, StageOutput, StageProgress};

/// How long to wait before the first retry, where the stage does not say.
const BACKOFF: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// Runs a stage until it succeeds or may not be tried again, and publishes what it made; hands
    /// the lock back.
    pub(super) async fn make(
        &self,
        position: usize,
        parts: KeyParts,
        lock: KeyLock,
    ) -> Result<(Manifest, KeyLock), PipelineError> {
        let spec = &self.spec.stages[position];
        let taken = tokio::select! {
            biased;
            () = self.cancelled() => return Err(PipelineError::Interrupted),
            taken = self.resources.take(spec) => taken,
        };
        let (begun, started) = (Instant::now(), Timestamp::now());
        self.events.send(RunEvent::StageStarted { stage: spec.name.clone() });
        let key = parts.key();
        let mut backoff = spec.run.backoff.map_or(BACKOFF, crate::Span::duration);
        let mut attempts = 1;
        self.check_inputs(position).await?;
        let (work, (output, memory_peak_bytes), resumed_from) = loop {
            let work = self.cache.create_work(&key, &self.id)?;
            let resumed_from = self.take_scratch(&key)?;
            let error = match self.attempt(position, &key, &work).await {
                Ok(output) => break (work, output, resumed_from),
                Err(error) => error,
            };
            self.cache.keep_log(&work, &self.id, &spec.name)?;
            if attempts > spec.run.retries || !error.may_pass() {
                return Err(error);
            }
            self.events.send(RunEvent::Retrying {
                stage: spec.name.clone(),
                attempt: attempts,
                error: self.options.secrets.redact(&error.with_causes()).into_owned(),
                seconds: backoff.as_secs_f64(),
            });
            drop(work);
            tokio::select! {
                () = self.cancelled() => return Err(PipelineError::Interrupted),
                () = tokio::time::sleep(backoff) => {}
            }
            (attempts, backoff) = (attempts + 1, backoff * 2);
        };
        drop(taken);
        self.cache.reach(FaultPoint::StageDone);
        if let Stage::Cmd(_) = spec.stage {
            // Who may write everywhere can write into what it was given to read.
            self.check_inputs(position).await?;
        }
        if let Some((metric, value)) = output.metrics.iter().find(|(_, value)| !value.is_finite()) {
            let (stage, metric) = (spec.name.clone(), metric.clone());
            return Err(PipelineError::NonFiniteMetric { stage, metric, value: *value });
        }

        let ports = spec.stage.output_ports();
        let attempt = Attempt { started, number: attempts, resumed_from, memory_peak_bytes };
        let manifest = Manifest {
            version: Manifest::version(),
            key,
            kind: spec.stage.kind(),
            key_parts: parts,
            outputs: BTreeMap::new(),
            log: None,
            boot: None,
            metrics: output.metrics,
            headline: output
                .headline
                .map(|headline| self.options.secrets.redact(&headline).into_owned()),
            seconds: begun.elapsed().as_secs_f64(),
            provenance: self.provenance(position, attempt),
        };
        let cache = self.cache.clone();
        blocking(move || Ok((cache.publish(&lock, work, &ports, manifest)?, lock))).await
    }

    /// Runs a stage once, and has it stop when the run is to stop or its time is over.
    async fn attempt(
        &self,
        position: usize,
        key: &Key,
        work: &WorkFolder,
    ) -> Result<(StageOutput, Option<u64>), PipelineError> {
        let spec = &self.spec.stages[position];
        let flag = Arc::new(AtomicBool::new(self.is_cancelled()));
        let context = self.context(position, key, work, &flag)?;
        let log = StageLog::create(&work.log())?;
        let (stage, memory) = (spec.stage.clone(), Arc::clone(&context.memory_peak_bytes));
        let begun = Instant::now();
        // On a task of its own, so that its panic is an error of the stage alone.
        let mut task = tokio::spawn(log.during(async move { stage.run(&context).await }));
        let mut timed_out = None;
        loop {
            tokio::select! {
                ended = &mut task => {
                    let ended = ended.unwrap_or_else(|error| Err(panicked(&spec.name, error)));
                    let memory = Some(memory.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0);
                    return match (ended.map(|output| (output, memory)), timed_out) {
                        (Err(PipelineError::Interrupted), Some(timeout)) if !self.is_cancelled() => {
                            Err(PipelineError::TimedOut { stage: spec.name.clone(), timeout })
                        }
                        (ended, _) => ended,
                    };
                }
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
            }
            let is_late = |timeout: &crate::Span| begun.elapsed() >= timeout.duration();
            timed_out = timed_out.or(spec.run.timeout.filter(is_late));
            if timed_out.is_some() || self.is_cancelled() {
                flag.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Reads everything that a stage is about to read.
    async fn check_inputs(&self, position: usize) -> Result<(), PipelineError> {
        for wire in self.spec.graph().inputs(position) {
            let (cache, result) = (self.cache.clone(), self.result(wire.producer).cloned());
            blocking(move || {
                let result = result.expect("a stage runs once its inputs are there");
                cache.check_input(&wire.input.name, &result.outputs[&*wire.output.name])
            })
            .await?;
        }
        Ok(())
    }

    /// Lays out what a stage runs with.
    fn context(
        &self,
        position: usize,
        key: &Key,
        work: &WorkFolder,
        flag: &Arc<AtomicBool>,
    ) -> Result<StageContext, PipelineError> {
        let spec = &self.spec.stages[position];
        let mut inputs = BTreeMap::new();
        for wire in self.spec.graph().inputs(position) {
            let manifest =
                self.result(wire.producer).expect("a stage runs once its inputs are there");
            let output = &manifest.outputs[&*wire.output.name];
            let folder = self.cache.link_input(work, &wire.input.name, output)?;
            inputs.insert(wire.input.name.into_owned(), folder);
        }
        let mut outputs = BTreeMap::new();
        for port in spec.stage.output_ports().iter() {
            outputs.insert(port.name.to_string(), work.create_output(&port.name)?);
        }
        let (events, stage) = (self.events.clone(), spec.name.clone());
        let (cancel, raised) = (Arc::clone(self.cancel), Arc::clone(flag));
        let progress = move |progress: StageProgress| {
            events.send(RunEvent::StageProgress { stage: stage.clone(), progress });
            if cancel.load(Ordering::Relaxed) {
                raised.store(true, Ordering::Relaxed);
            }
        };
        Ok(StageContext {
            stage: spec.name.clone(),
            inputs,
            outputs,
            private: work.private()?,
            scratch: self.cache.scratch(key),
            cancel: Arc::clone(flag),
            device: spec.run.device,
            facts: Arc::new(self.facts(position)?),
            environment: Arc::new(self.options.environment.clone()),
            progress: Arc::new(progress),
            memory_peak_bytes: Arc::default(),
        })
    }
}

fn panicked(stage: &str, error: tokio::task::JoinError) -> PipelineError {
    let message = match error.try_into_panic() {
        Ok(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload
                .downcast_ref::<&str>()
                .map_or_else(|| "no message".to_owned(), |text| (*text).to_owned()),
        },
        Err(error) => error.to_string(),
    };
    PipelineError::Panicked { stage: stage.to_owned(), message }
}
