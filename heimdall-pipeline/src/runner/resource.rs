//! What stages share while they run side by side: processors, memory, graphics processors.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::RunOptions;
use crate::PipelineError;
use crate::spec::{PipelineSpec, RunSpec, StageSpec};

/// Memory is dealt out in pieces of this size.
const MEMORY_PIECE_BYTES: u64 = 1 << 20;

/// What there is, and how much of it is free.
#[derive(Debug)]
pub(super) struct Resources {
    processors: Pool,
    memory: Pool,
    gpus: Pool,
}

/// One thing of which there are so many.
#[derive(Debug)]
struct Pool {
    name: &'static str,
    total: u32,
    free: Semaphore,
}

impl Pool {
    fn new(name: &'static str, total: u32) -> Self {
        let free = Semaphore::new(usize::try_from(total).unwrap_or(Semaphore::MAX_PERMITS));
        Self { name, total, free }
    }

    fn check(&self, stage: &StageSpec, asked: u32) -> Result<(), PipelineError> {
        if asked > self.total {
            let (stage, resource) = (stage.name.clone(), self.name);
            return Err(PipelineError::NotEnough { stage, resource, asked, total: self.total });
        }
        Ok(())
    }

    async fn take(&self, count: u32) -> SemaphorePermit<'_> {
        self.free.acquire_many(count).await.expect("the pool is never closed")
    }
}

/// What a stage has taken; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    _permits: [SemaphorePermit<'a>; 3],
}

impl Resources {
    /// Deals out what there is, once every stage's needs are known to be within it.
    pub(super) fn new(spec: &PipelineSpec, options: &RunOptions) -> Result<Self, PipelineError> {
        let pieces = options.memory_bytes / MEMORY_PIECE_BYTES;
        let resources = Self {
            processors: Pool::new("processors", options.jobs),
            memory: Pool::new("MiB of memory", u32::try_from(pieces).unwrap_or(u32::MAX)),
            gpus: Pool::new("graphics processors", options.gpus),
        };
        for stage in &spec.stages {
            let [processors, memory, gpus] = resources.needs(stage);
            resources.processors.check(stage, processors)?;
            resources.memory.check(stage, memory)?;
            resources.gpus.check(stage, gpus)?;
        }
        Ok(resources)
    }

    /// A stage that does not say otherwise gets what its kind can use: all processors, or one.
    fn needs(&self, stage: &StageSpec) -> [u32; 3] {
        let RunSpec { processors, memory, gpus, .. } = &stage.run;
        let all = self.processors.total;
        let by_kind = if stage.stage.kind().is_parallel() { all } else { 1 };
        let pieces = memory.map_or(0, |memory| memory.bytes().div_ceil(MEMORY_PIECE_BYTES));
        [processors.unwrap_or(by_kind), u32::try_from(pieces).unwrap_or(u32::MAX), *gpus]
    }

    /// Waits until everything that a stage needs is free, always in one order, so that no two
    /// stages wait for each other.
    pub(super) async fn take(&self, stage: &StageSpec) -> Taken<'_> {
        let [processors, memory, gpus] = self.needs(stage);
        let processors = self.processors.take(processors).await;
        let memory = self.memory.take(memory).await;
        Taken { _permits: [processors, memory, self.gpus.take(gpus).await] }
    }
}

/// Returns how much memory the machine has; as good as any amount where that is not known.
pub(super) fn memory_of_machine_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib * 1024)
}
