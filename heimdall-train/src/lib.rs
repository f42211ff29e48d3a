//! The training loop, its checkpoints, and an evaluation that cannot flatter.
//!
//! ```text
//! training, validation ──train──▶ TrainedModel ──evaluate──▶ TrainedModel, recalibrated
//!   HeimdallDataset       │       network, manifest   ▲     Evaluation: km, coverage, baselines
//!                         ▼                           │
//!                     TrainEvent              calibration, test
//! ```
//!
//! The loop is one function, [`train()`], that reads from top to bottom. It tells its caller what
//! happens and tracks nothing itself; it leaves a checkpoint after each epoch, and goes on from it.
//!
//! # Example
//!
//! The learning rate of a run of 20 epochs rises, and then falls to almost nothing:
//!
//! ```
//! use heimdall_train::{OneCycleConfig, ScheduleConfig, TrainConfig};
//!
//! let config = TrainConfig {
//!     epochs: 20,
//!     schedule: ScheduleConfig::OneCycle(OneCycleConfig {
//!         warm_up_share: 0.2,
//!         ..OneCycleConfig::default()
//!     }),
//!     ..TrainConfig::default()
//! };
//!
//! config.validate()?;
//! assert_eq!((config.batch_size, config.early_stopping), (32, Some(10)));
//! # Ok::<(), heimdall_train::TrainError>(())
//! ```

mod baseline;
mod checkpoint;
mod class_weight;
mod config;
mod device;
mod error;
mod evaluate;
mod evaluation;
mod event;
mod file;
mod gradient;
mod hold_out;
mod loss;
mod optimizer;
mod predict;
mod schedule;
mod standardization;
#[cfg(test)]
mod testing;
mod train;
mod trained_model;

pub use class_weight::ClassWeights;
pub use config::{NetworkChoice, TrainConfig};
pub use device::DeviceChoice;
pub use error::TrainError;
pub use evaluate::{EvaluateConfig, EvaluationSets, evaluate};
pub use evaluation::{
    BaselineAnswer, ConformalLimits, DataShift, EVALUATION_FILE, EVALUATION_FORMAT_VERSION,
    EvaluatedEvent, Evaluation, Grouping, Method, OtherWorld, REPORTED_PERCENT, Recalibration,
    ReceiverLoss, ShiftComparison, ShiftConfig, ShiftQuantity,
};
pub use event::{EpochSummary, TrainEvent};
pub use hold_out::{
    HOLD_OUT_FILE, HOLD_OUT_FORMAT_VERSION, HeldOutGroup, HeldOutTraining, HoldOut, HoldOutConfig,
    hold_out,
};
pub use loss::LossConfig;
pub use optimizer::{OptimizerKind, optimizer};
pub use schedule::{ConstantConfig, CosineConfig, OneCycleConfig, PlateauConfig, ScheduleConfig};
pub use standardization::measure_standardization;
pub use train::train;
pub use trained_model::{
    MANIFEST_FILE, MODEL_FORMAT_VERSION, MemberRun, ModelManifest, TrainedModel,
};
