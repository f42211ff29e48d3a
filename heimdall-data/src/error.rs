//! What can go wrong between files, databases and tensors.

use std::io;
use std::path::PathBuf;

use heimdall_features::ClassicalFix;
use thiserror::Error;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why it cannot be.
        source: io::Error,
    },

    /// A file or folder cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why it cannot be.
        source: io::Error,
    },

    /// Something is already where a new file or folder was to be made.
    #[error("`{}` exists already, and is not written over", path.display())]
    AlreadyExists {
        /// What is there.
        path: PathBuf,
    },

    // Tables of measurements.
    /// Some levels of a table are relative to noise and others are not.
    #[error(
        "other levels are above noise, but that of `{receiver}` in event `{event}` is neither \
         `snr_db` nor `rss_db` with `noise_db`"
    )]
    MixedLevels {
        /// Name of the event.
        event: String,
        /// Name of the receiver.
        receiver: String,
    },

    /// The tables of two folders have no receiver in common.
    #[error("none of its {receivers} receivers is one of those that were learned from")]
    ForeignReceivers {
        /// Receivers of the folder.
        receivers: usize,
    },

    /// A receiver stands at two places.
    #[error(
        "receiver `{receiver}` stands {distance_km:.3} km from where it stood when it was learned \
         from: it needs another name"
    )]
    MovedReceiver {
        /// Name of the receiver.
        receiver: String,
        /// Distance of the two places, in km.
        distance_km: f64,
    },

    /// The receivers of a table do not fit into one plane.
    #[error("the receivers of the table do not fit into one plane")]
    Plane(#[source] heimdall_geo::GeoError),

    /// A field of a configuration breaks its rule.
    #[error("`{field}` must be {expected}, but is {actual}")]
    InvalidField {
        /// Path of the field, as the user wrote it.
        field: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: &'static str,
        /// The value that was given.
        actual: String,
    },

    // Files of samples.
    /// A file breaks a rule of its format.
    #[error("`{file}`, {place}: must be {expected}, but is {actual}")]
    Malformed {
        /// Name of the file, or key of the object.
        file: String,
        /// Place in the file: a field, a byte, a line.
        place: String,
        /// The rule that is broken, as a phrase that follows "must be".
        expected: String,
        /// What is there.
        actual: String,
    },

    /// Nothing tells how a file is to be read.
    #[error(
        "neither the first bytes of `{file}` nor its extension tell its format: name the type of \
         its samples if it has nothing else"
    )]
    UnknownFormat {
        /// Name of the file.
        file: String,
    },

    /// A file makes use of something that is not understood.
    #[error("`{file}` takes {what}, which is not supported")]
    Unsupported {
        /// Name of the file.
        file: String,
        /// What would have to be understood.
        what: String,
    },

    /// A file holds something other than complex samples.
    #[error("IQ samples are pairs of numbers, but `{file}` holds {actual}")]
    NotIq {
        /// Name of the file.
        file: String,
        /// What it holds.
        actual: String,
    },

    /// A file has the samples of several receivers.
    #[error("`{file}` has {channel_count} channels: say which one is to be read, from 0 on")]
    ChannelNotChosen {
        /// Name of the file.
        file: String,
        /// Channels that it has.
        channel_count: u64,
    },

    /// A file has not the part of it that was asked for.
    #[error("`{file}` has no {part}: it has {actual}")]
    NoSuchPart {
        /// Name of the file.
        file: String,
        /// What was asked for.
        part: String,
        /// What there is.
        actual: String,
    },

    /// Neither a file nor its reader tell what is needed.
    #[error(
        "nothing tells the {fact} of `{file}`: neither the file, nor a sidecar `{file}.json`, nor \
         an option"
    )]
    MissingFact {
        /// Name of the file.
        file: String,
        /// What is not known.
        fact: &'static str,
    },

    /// A file has other bytes than those whose hash was written down.
    #[error("`{file}` has the SHA-512 {actual}, but {expected} was written down")]
    HashMismatch {
        /// Name of the file.
        file: String,
        /// Hash that it should have.
        expected: String,
        /// Hash that it has.
        actual: String,
    },

    // Recordings in the format of KiwiSDR.
    /// The name of a KiwiSDR file does not tell date, frequency and station.
    #[error(
        "the name of a KiwiSDR recording is `YYYYMMDDThhmmssZ_FREQUENCY_STATION_iq.wav`, but \
         `{file}` has no {missing}"
    )]
    KiwiFileName {
        /// Name of the file.
        file: String,
        /// Part that is not there, or not readable.
        missing: &'static str,
    },

    /// A WAV file has samples, but no time stamps.
    #[error("`{file}` is an ordinary WAV file: it has no `kiwi` chunk, so no time stamps")]
    NoStamps {
        /// Name of the file.
        file: String,
    },

    /// The receiver had no position fix from its satellite receiver, so that no stamp means much.
    #[error("all {block_count} time stamps of `{file}` are stale: the receiver had no recent fix")]
    StaleStamps {
        /// Name of the file.
        file: String,
        /// Blocks in the file.
        block_count: usize,
    },

    /// Time stamps jump about.
    #[error(
        "no three successive time stamps of `{file}` are one block of samples apart, within 1 ms, \
         among its {block_count} blocks"
    )]
    UnsteadyStamps {
        /// Name of the file.
        file: String,
        /// Blocks in the file.
        block_count: usize,
    },

    // Tables of people.
    /// A table has no such column.
    #[error("`{}` has no column `{column}`", path.display())]
    MissingColumn {
        /// The table.
        path: PathBuf,
        /// Name of the column.
        column: &'static str,
    },

    /// A line of a table cannot be read.
    #[error("`{}` cannot be read as a table of comma-separated values", path.display())]
    Table {
        /// The table.
        path: PathBuf,
        /// Why, with the line.
        source: Box<csv::Error>,
    },

    /// A cell of a table has a value that makes no sense.
    #[error(
        "`{}`, line {line}: `{column}` must be {expected}, but is `{actual}`", path.display()
    )]
    Cell {
        /// The table.
        path: PathBuf,
        /// Line, from 1 on.
        line: u64,
        /// Name of the column.
        column: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: &'static str,
        /// The value that was given.
        actual: String,
    },

    /// A folder that was to be imported has no recordings.
    #[error("`{}` has no file {files}", folder.display())]
    NothingToImport {
        /// The folder.
        folder: PathBuf,
        /// The files that were looked for, such as `*.wav`.
        files: &'static str,
    },

    /// One receiver has two recordings of one emission.
    #[error(
        "`{}` and `{}` are both of the receiver `{receiver}`, at one frequency and one time",
        first.display(), second.display()
    )]
    OverlappingRecordings {
        /// Name of the receiver.
        receiver: String,
        /// File of one recording.
        first: PathBuf,
        /// File of the other.
        second: PathBuf,
    },

    /// A recording was made by a receiver that nobody has described.
    #[error(
        "{recording} is of the receiver `{receiver}`, which is not among the known ones: {known}"
    )]
    UnknownReceiver {
        /// The recording.
        recording: String,
        /// Name of the receiver.
        receiver: String,
        /// Names of those that are known.
        known: String,
    },

    /// A recording is not worth keeping, and the import is strict.
    #[error("`{}` is not usable", path.display())]
    Unusable {
        /// File of the recording.
        path: PathBuf,
        /// Why it is not.
        source: Box<Self>,
    },

    /// Some samples are no numbers.
    #[error("{count} of the {sample_count} samples are not finite, the first at index {first}")]
    NotFinite {
        /// Samples that are not finite.
        count: usize,
        /// Index of the first of them.
        first: usize,
        /// Samples in all.
        sample_count: usize,
    },

    /// All samples are zero.
    #[error("all {sample_count} samples are zero")]
    Silent {
        /// Samples in all.
        sample_count: usize,
    },

    /// Too many samples are at the end of the scale.
    #[error(
        "{:.2} % of the samples are clipped, but at most {:.2} % may be", share * 100.0,
        share_max * 100.0
    )]
    Clipped {
        /// Share of the samples that are clipped.
        share: f64,
        /// Share that is allowed.
        share_max: f64,
    },

    /// A recording is too short to be of use.
    #[error("a recording takes {duration_s_min} s, but this one lasts {duration_s:.3} s")]
    TooShort {
        /// Duration of the recording, in seconds.
        duration_s: f64,
        /// Duration that it must have, in seconds.
        duration_s_min: f64,
    },

    /// A sample rate is not one.
    #[error("a sample rate is a positive number of hertz, but this one is {sample_rate_hz}")]
    SampleRate {
        /// The rate, in Hz.
        sample_rate_hz: f64,
    },

    // Catalogs.
    /// A file is not a catalog.
    #[error("`{}` is not a catalog: it is {actual}", path.display())]
    NotACatalog {
        /// The file.
        path: PathBuf,
        /// What it is, as a phrase that follows "it is".
        actual: &'static str,
    },

    /// A catalog was written by another release.
    #[error(
        "the catalog `{catalog}` has version {actual} of the schema, but this release reads version \
         {expected}"
    )]
    CatalogVersion {
        /// Where the catalog is.
        catalog: String,
        /// Version that it has.
        actual: i64,
        /// Version that is understood.
        expected: i64,
    },

    /// There can be no catalog or no store of objects at an address.
    #[error("`{address}` is no address of a {what}: {reason}")]
    Address {
        /// The address, without a password.
        address: String,
        /// What should be there.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },

    /// A database refuses a query.
    #[error("the catalog cannot {action}")]
    Catalog {
        /// What was to be done, as a phrase that follows "cannot".
        action: String,
        /// What the database says.
        source: Box<sqlx::Error>,
    },

    /// The schema of a new catalog cannot be made.
    #[error("the schema of the catalog cannot be made")]
    Migration(#[source] Box<sqlx::migrate::MigrateError>),

    /// Something that must be unique is there already.
    #[error("there are two {kind}s named `{name}`")]
    Duplicate {
        /// What must be unique: `receiver`, `event`.
        kind: &'static str,
        /// Its name.
        name: String,
    },

    /// Rows contradict each other.
    #[error("{kind} `{name}` has two values of `{field}`")]
    Contradiction {
        /// What the rows describe: `source`, `session`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// In what they differ.
        field: &'static str,
    },

    /// Recordings that belong together are of several events in the catalog.
    #[error("the recordings of `{event}` are of several events of the catalog: {}", events.join(", "))]
    Regrouped {
        /// Name of the event that has them.
        event: String,
        /// Names of the events in the catalog.
        events: Vec<String>,
    },

    /// A session was named that the catalog does not have.
    #[error("the catalog has no session `{session}`")]
    UnknownSession {
        /// Name of the session.
        session: String,
    },

    /// A row of a catalog has a value that makes no sense.
    #[error("`{field}` of {row} must be {expected}, but is `{actual}`")]
    Row {
        /// The row, such as ``event `a` ``.
        row: String,
        /// Column of the table.
        field: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: &'static str,
        /// The value that is there.
        actual: String,
    },

    // Objects.
    /// An object cannot be read or written.
    #[error("the object `{key}` cannot be {action}")]
    Object {
        /// Key of the object.
        key: String,
        /// What was to be done, as a phrase that follows "cannot be".
        action: &'static str,
        /// What the store says.
        source: Box<object_store::Error>,
    },

    /// An object has other bytes than when it was stored.
    #[error("the object `{key}` has the digest {actual}, but {expected} was stored")]
    DigestMismatch {
        /// Key of the object.
        key: String,
        /// Digest in the catalog.
        expected: String,
        /// Digest of the bytes.
        actual: String,
    },

    /// An object has more or fewer samples than the catalog says.
    #[error("the object `{key}` has {actual} samples, but the catalog says {expected}")]
    SampleCountMismatch {
        /// Key of the object.
        key: String,
        /// Samples in the catalog.
        expected: u64,
        /// Samples in the object.
        actual: u64,
    },

    /// An object cannot be decoded.
    #[error("the object `{key}` cannot be decoded")]
    Undecodable {
        /// Key of the object.
        key: String,
        /// Why it cannot be.
        source: Box<Self>,
    },

    // Features.
    /// The description of features contradicts itself, or the features it describes.
    #[error("`{field}` of the features must be {expected}, but is {actual}")]
    HeaderMismatch {
        /// Field of the description.
        field: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: String,
        /// The value that was found.
        actual: String,
    },

    /// A level is not finite, or not after it was rounded to the precision of its folder.
    #[error("a level of the event `{event}` cannot be stored: {level_db} dB")]
    UnstorableLevel {
        /// Name of the event.
        event: String,
        /// The level, in dB.
        level_db: f32,
    },

    /// A classical fix is no position with a covariance.
    #[error(
        "the classical fix of event `{event}` must have a finite position and a positive definite \
         covariance, but is at {:?} km with {:?} km²", fix.position_km, fix.covariance_km2
    )]
    InvalidFix {
        /// Name of the event.
        event: String,
        /// The fix.
        fix: ClassicalFix,
    },

    /// Events cannot be changed like this.
    #[error("`augmentation.{field}` must be {expected}, but is {actual}")]
    InvalidAugmentation {
        /// The field: `receiver_drop_out`.
        field: &'static str,
        /// What was expected.
        expected: &'static str,
        /// The value that was given.
        actual: f64,
    },

    /// Features were written by a newer release.
    #[error(
        "`{}` has version {actual} of the format, but this release reads versions up to \
         {supported}", path.display()
    )]
    NewerFeatures {
        /// Description of the features.
        path: PathBuf,
        /// Version that it has.
        actual: u32,
        /// Newest version that is understood.
        supported: u32,
    },

    /// A file of features is truncated, or is not the one that was described.
    #[error("`{}` is damaged: it must have {expected}, but has {actual}", path.display())]
    DamagedFeatures {
        /// The file.
        path: PathBuf,
        /// What it must have.
        expected: String,
        /// What it has.
        actual: String,
    },

    // Splits and batches.
    /// A split by time takes the time of every event.
    #[error("the event `{event}` has no time, by which it could be split")]
    NoTime {
        /// Name of the event.
        event: String,
    },

    /// A list of a split names what does not exist.
    #[error("`lists` names the group `{name}`, but no event with a position is of this {by}")]
    UnknownGroup {
        /// The name.
        name: String,
        /// What the groups are.
        by: crate::SplitBy,
    },

    /// A part of a split has no group.
    #[error(
        "the part `{part}` is empty: {groups} groups by {by} are too few for a ratio of {ratio}"
    )]
    EmptyPart {
        /// The part.
        part: crate::Part,
        /// Share of the groups that it should have.
        ratio: f64,
        /// What groups the events.
        by: crate::SplitBy,
        /// Groups that there are.
        groups: usize,
    },

    /// A batch was to have no events.
    #[error("a batch takes at least one event")]
    EmptyBatch,

    /// An event has no position to learn from, or to be measured against.
    #[error("the position of the event `{event}` is unknown: it can be located, not learned from")]
    Unlabelled {
        /// Name of the event.
        event: String,
    },
}
