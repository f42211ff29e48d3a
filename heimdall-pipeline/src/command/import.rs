//! `import`: brings the recordings of a folder or of an installation into a catalog and a store of
//! objects.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use heimdall_data::{
    Approval, Catalog, DataError, EventFilter, ImportConfig, ImportFormat, ImportReport,
    Installation, RawType, Recordings, StoreAddress, import_folder, import_installation,
};

use super::Surroundings;
use crate::PipelineError;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Folder of recordings, with `receivers.csv` in it; or `postgres://USER@HOST/DATABASE`, the
    /// database of an existing installation, whose approved sessions are imported
    pub path: PathBuf,

    /// Catalog, made if it is not there: a file of SQLite, or `postgres://USER@HOST/DATABASE`
    #[arg(long, value_name = "ADDRESS", env = "HEIMDALL_CATALOG", hide_env_values = true)]
    pub catalog: String,

    /// Store of the samples: a folder, `file://PATH` or `s3://BUCKET/PATH` [default: the folder
    /// `objects` beside a catalog that is a file]
    #[arg(long, value_name = "ADDRESS")]
    pub store: Option<String>,

    /// How the files are written
    #[arg(long, value_enum, default_value_t = FolderFormat::Kiwi)]
    pub format: FolderFormat,

    /// Type of the samples of all files, which are then read as raw, such as `cu8`
    #[arg(long, value_name = "TYPE", value_parser = raw_type)]
    pub datatype: Option<RawType>,

    /// Sample rate of all files, whatever they say, in Hz
    #[arg(long, value_name = "HZ")]
    pub sample_rate: Option<f64>,

    /// Center frequency of all files, whatever they say, in Hz
    #[arg(long, value_name = "HZ")]
    pub center_frequency: Option<f64>,

    /// Import only this session of an installation (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub session: Vec<String>,

    /// Station that a number stands for in an installation whose measurements have no more than
    /// that, such as `3=Aquila` (can be repeated)
    #[arg(long, value_name = "NUMBER=NAME", value_parser = station)]
    pub station: Vec<(i64, String)>,

    /// Stop at the first file that cannot be used, rather than leave it out
    #[arg(long)]
    pub strict: bool,

    /// Approve new sessions at once, so that their events can be used
    #[arg(long)]
    pub approve: bool,

    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// How the files of a folder are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FolderFormat {
    /// WAV files of KiwiSDR receivers
    Kiwi,
    /// SigMF collections, recordings and archives
    Sigmf,
    /// WAV files with two channels
    Wav,
    /// Arrays of NumPy, with a sidecar each
    Npy,
    /// Files that have samples and nothing else
    Raw,
}

impl From<FolderFormat> for ImportFormat {
    fn from(format: FolderFormat) -> Self {
        match format {
            FolderFormat::Kiwi => Self::Kiwi,
            FolderFormat::Sigmf => Self::Sigmf,
            FolderFormat::Wav => Self::Wav,
            FolderFormat::Npy => Self::Npy,
            FolderFormat::Raw => Self::Raw,
        }
    }
}

/// Reads the name of a type of samples.
fn raw_type(text: &str) -> Result<RawType, String> {
    RawType::from_name(text)
        .ok_or_else(|| "expected a type of samples, such as `cu8` or `cf32`".to_owned())
}

/// Reads which station a number stands for.
fn station(text: &str) -> Result<(i64, String), String> {
    let parts = text.split_once('=').and_then(|(number, name)| Some((number.parse().ok()?, name)));
    let (number, name) =
        parts.ok_or_else(|| "expected a number and a name: `3=Aquila`".to_owned())?;
    Ok((number, name.to_owned()))
}

impl ImportArgs {
    /// Imports the folder; the exit code is 1 if files were left out.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let place = self.store_address()?;
        if let StoreAddress::Folder(path) = &place {
            std::fs::create_dir_all(path).map_err(PipelineError::io("create", path))?;
        }
        let store = place
            .open(&surroundings.environment, StoreAddress::PATIENCE)
            .map_err(PipelineError::Catalog)?;
        let catalog = Catalog::connect(&self.catalog).await.map_err(PipelineError::Catalog)?;
        let config = ImportConfig {
            format: self.format.into(),
            strict: self.strict,
            datatype: self.datatype,
            sample_rate_hz: self.sample_rate,
            center_frequency_hz: self.center_frequency,
            approval: if self.approve { Approval::Approved } else { Approval::Pending },
            ..ImportConfig::default()
        };
        let recordings = Recordings::new(catalog, store);
        let report = self.import(surroundings, &recordings, &config).await?;
        recordings.close().await?;
        let text = if self.json {
            serde_json::to_string(&report).expect("a report is plain data") + "\n"
        } else {
            summary(&report, self.approve)
        };
        surroundings.print(&text)?;
        Ok(u8::from(!report.quarantined.is_empty()))
    }

    async fn import(
        &self,
        surroundings: &Surroundings,
        into: &Recordings,
        config: &ImportConfig,
    ) -> Result<ImportReport, PipelineError> {
        let Some(address) = self.path.to_str().filter(|path| path.contains("://")) else {
            return Ok(import_folder(&self.path, into, config).await?);
        };
        let stations = self.station.iter().cloned().collect();
        let installation =
            Installation::connect(address, stations).await.map_err(PipelineError::Catalog)?;
        let filter = EventFilter { sessions: self.session.clone(), ..EventFilter::default() };
        let environment = &surroundings.environment;
        Ok(import_installation(&installation, environment, &filter, into, config).await?)
    }

    /// Where the samples go.
    fn store_address(&self) -> Result<StoreAddress, PipelineError> {
        match &self.store {
            Some(address) => {
                address.parse().map_err(|error: DataError| PipelineError::Catalog(error))
            }
            None if self.catalog.contains("://") => Err(PipelineError::InvalidOption {
                option: "--store",
                expected: "given, as the catalog is not a file",
            }),
            None => {
                let folder = PathBuf::from(&self.catalog);
                let folder = folder.parent().unwrap_or_else(|| "".as_ref());
                Ok(StoreAddress::Folder(folder.join("objects")))
            }
        }
    }
}

/// What people want to know of an import.
fn summary(report: &ImportReport, is_approved: bool) -> String {
    let merged = &report.merged;
    let mut text = format!(
        "{} new recordings of {} new events; {} recordings were there\n",
        merged.recordings_added, merged.events_added, merged.recordings_known
    );
    for file in &report.quarantined {
        text += &format!("left out {}: {}\n", file.file, file.reason);
    }
    if !is_approved && !merged.sessions_added.is_empty() {
        text += &format!(
            "{} new sessions wait for a decision: `catalog approve` takes their names\n",
            merged.sessions_added.len()
        );
    }
    text
}
