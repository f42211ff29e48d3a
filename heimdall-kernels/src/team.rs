//! The threads that share the items of one operation.
//!
//! An operation is cut into items that write to different places and each compute the same bits
//! wherever and whenever they run: who takes which item does not matter for the result.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Threads that work on an operation, at most; 0 before the first one asks.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Rounds in which a thread looks for work, or for the end of it, before it sleeps.
const SPINS: usize = 2000;

/// Threads that an operation of this crate is spread over.
pub fn threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        threads => threads,
    }
}

/// Sets the number of threads that an operation of this crate is spread over.
///
/// The results do not depend on it, bit by bit. Unless set, it is the number of processors.
pub fn set_threads(threads: NonZeroUsize) {
    THREADS.store(threads.get(), Ordering::Relaxed);
}

/// Calls `work` for every item below `items`, on all threads of the team.
///
/// # Panics
///
/// If `work` does.
pub(crate) fn share(items: usize, work: &(dyn Fn(usize) + Sync)) {
    let threads = threads().min(items);
    let team = team();
    // A second operation at the same time has its thread to itself.
    let owner = if threads > 1 { team.owner.try_lock().ok() } else { None };
    let Some(_owner) = owner else {
        (0..items).for_each(work);
        return;
    };

    let job = Job { work, next: AtomicUsize::new(0), items, failed: AtomicBool::new(false) };
    team.post(&job, threads - 1);
    // The job must not go away while another thread works on it, even if this one panics.
    let posted = Posted(team);
    job.drain();
    drop(posted);
    assert!(!job.failed.load(Ordering::Relaxed), "an item failed on another thread");
}

/// An operation that is being worked on.
struct Job<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    next: AtomicUsize,
    items: usize,
    /// Whether a helper could not finish its item.
    failed: AtomicBool,
}

impl Job<'_> {
    /// Takes items until there are none left.
    fn drain(&self) {
        loop {
            let item = self.next.fetch_add(1, Ordering::Relaxed);
            if item >= self.items {
                return;
            }
            (self.work)(item);
        }
    }
}

/// The address of a job, which its owner keeps alive while it is posted or worked on.
#[derive(Clone, Copy)]
struct JobAddress(*const Job<'static>);

// SAFETY: a job is shared between threads by references only, and all that it holds is `Sync`.
unsafe impl Send for JobAddress {}

/// The helpers of a process, and the job that they should look at.
struct Team {
    /// Held by the thread whose operation it is.
    owner: Mutex<()>,
    board: Mutex<Board>,
    /// Rung when there is a job.
    posted: Condvar,
    /// Rung when the last helper leaves a job.
    left: Condvar,
    /// Counts jobs, for those who look without sleeping.
    generation: AtomicUsize,
    /// Helpers at work, for the owner to look at without sleeping.
    working: AtomicUsize,
}

#[derive(Default)]
struct Board {
    job: Option<JobAddress>,
    /// Helpers that may still join the job.
    places: usize,
    helpers: usize,
}

fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    TEAM.get_or_init(|| Team {
        owner: Mutex::new(()),
        board: Mutex::new(Board::default()),
        posted: Condvar::new(),
        left: Condvar::new(),
        generation: AtomicUsize::new(0),
        working: AtomicUsize::new(0),
    })
}

impl Team {
    /// No code that could panic runs under this lock.
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets helpers join a job, and makes as many as there are places.
    fn post(&'static self, job: &Job<'_>, places: usize) {
        let mut board = self.board();
        board.job = Some(JobAddress(std::ptr::from_ref(job).cast()));
        board.places = places;
        self.generation.fetch_add(1, Ordering::Release);
        while board.helpers < places {
            let helper = std::thread::Builder::new().name("heimdall-kernels".to_owned());
            if helper.spawn(|| self.help()).is_err() {
                // Fewer threads do the same work.
                break;
            }
            board.helpers += 1;
        }
        drop(board);
        self.posted.notify_all();
    }

    /// The life of a helper: to join jobs.
    fn help(&self) {
        let mut seen = 0;
        loop {
            for _ in 0..SPINS {
                if self.generation.load(Ordering::Acquire) != seen {
                    break;
                }
                std::hint::spin_loop();
            }
            let mut board = self.board();
            let job = loop {
                seen = self.generation.load(Ordering::Acquire);
                if let Some(job) = board.job
                    && board.places > 0
                {
                    board.places -= 1;
                    self.working.fetch_add(1, Ordering::AcqRel);
                    break job;
                }
                board = self.posted.wait(board).unwrap_or_else(PoisonError::into_inner);
            };
            drop(board);
            // SAFETY: the owner posted the job, and waits in `Posted::drop` until `working`, which
            // was raised under the lock under which the job is withdrawn, is zero again.
            let job = unsafe { &*job.0 };
            let _working = Working { team: self, job };
            job.drain();
        }
    }
}

/// Counts a helper out, however it leaves: with a panic it is gone for good.
struct Working<'a> {
    team: &'a Team,
    job: &'a Job<'a>,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut board = self.team.board();
        if std::thread::panicking() {
            self.job.failed.store(true, Ordering::Relaxed);
            board.helpers -= 1;
        }
        if self.team.working.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.team.left.notify_all();
        }
    }
}

/// Withdraws the job and waits for its helpers.
struct Posted(&'static Team);

impl Drop for Posted {
    fn drop(&mut self) {
        let mut board = self.0.board();
        board.job = None;
        if self.0.working.load(Ordering::Acquire) == 0 {
            return;
        }
        drop(board);
        for _ in 0..SPINS {
            if self.0.working.load(Ordering::Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        let mut board = self.0.board();
        while self.0.working.load(Ordering::Acquire) > 0 {
            board = self.0.left.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Numbers that the items of an operation write to, each item to its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    start: *mut f32,
    length: usize,
    lifetime: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: the places that are handed out do not overlap, which `slice` makes its caller promise.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(numbers: &'a mut [f32]) -> Self {
        Self {
            start: numbers.as_mut_ptr(),
            length: numbers.len(),
            lifetime: std::marker::PhantomData,
        }
    }

    /// A part of the numbers.
    ///
    /// # Safety
    ///
    /// No two threads may hold parts that overlap at the same time.
    #[inline(always)]
    pub(crate) unsafe fn slice(&self, start: usize, length: usize) -> &'a mut [f32] {
        assert!(start <= self.length && length <= self.length - start, "a part of the numbers");
        // SAFETY: within the numbers, and not held by anybody else, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once() {
        for items in [0, 1, 2, 3, 1000] {
            let counts: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();

            share(items, &|item| {
                counts[item].fetch_add(1, Ordering::Relaxed);
            });

            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{items}");
        }
    }

    #[test]
    fn operations_of_several_threads_do_not_disturb_each_other() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let sum = AtomicUsize::new(0);
                        share(50, &|item| {
                            sum.fetch_add(item, Ordering::Relaxed);
                        });
                        assert_eq!(sum.into_inner(), 50 * 49 / 2);
                    }
                });
            }
        });
    }

    #[test]
    fn operation_within_an_operation_ends() {
        let sum = AtomicUsize::new(0);

        share(8, &|_| {
            share(8, &|_| {
                sum.fetch_add(1, Ordering::Relaxed);
            });
        });

        assert_eq!(sum.into_inner(), 64);
    }
}
