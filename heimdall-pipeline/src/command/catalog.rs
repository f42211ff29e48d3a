//! `catalog`: lists, shows and decides on what a catalog has.

use clap::{Args, Subcommand};
use heimdall_data::{Approval, Catalog, CatalogStats, EventEntry, EventFilter, SessionEntry};
use heimdall_features::UtcTime;
use jiff::Timestamp;
use serde::Serialize;

use super::Surroundings;
use super::table::table;
use crate::PipelineError;

/// Events that are read at a time.
const PAGE: u32 = 1000;

/// Columns that are shortened, so that a table fits a terminal.
const NAME_LENGTH_MAX: usize = 24;

/// Arguments of `catalog`.
#[derive(Debug, Args)]
pub struct CatalogCommandArgs {
    /// What to do
    #[command(subcommand)]
    pub action: CatalogAction,
}

/// What is done with a catalog.
#[derive(Debug, Subcommand)]
pub enum CatalogAction {
    /// List the sessions, whatever was decided on them
    List(ListArgs),
    /// List the events of a session and what receivers have of them
    Show(ShowSessionArgs),
    /// Let the events of sessions be used
    Approve(DecideArgs),
    /// Keep the events of sessions from being used
    Reject(DecideArgs),
    /// Count what there is
    Stats(StatsArgs),
    /// Print the events of approved sessions, one JSON object a line
    Export(ExportEventsArgs),
}

/// Where a catalog is.
#[derive(Clone, Debug, Args)]
pub struct CatalogAddressArgs {
    /// Catalog: a file of SQLite, or `postgres://USER@HOST/DATABASE`
    #[arg(long, value_name = "ADDRESS", env = "HEIMDALL_CATALOG", hide_env_values = true)]
    pub catalog: String,
}

/// Arguments of `catalog list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The catalog
    #[command(flatten)]
    pub address: CatalogAddressArgs,

    /// List only sessions on which this was decided (can be repeated)
    #[arg(long, value_name = "DECISION", value_parser = approval)]
    pub approval: Vec<Approval>,

    /// List only sessions of this source (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub source: Vec<String>,

    /// Print one JSON object for each session
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `catalog show`.
#[derive(Debug, Args)]
pub struct ShowSessionArgs {
    /// Name of the session
    pub session: String,

    /// The catalog
    #[command(flatten)]
    pub address: CatalogAddressArgs,

    /// Print one JSON object for each event
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `catalog approve` and `catalog reject`.
#[derive(Debug, Args)]
pub struct DecideArgs {
    /// Names of sessions
    #[arg(required = true)]
    pub sessions: Vec<String>,

    /// The catalog
    #[command(flatten)]
    pub address: CatalogAddressArgs,
}

/// Arguments of `catalog stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// The catalog
    #[command(flatten)]
    pub address: CatalogAddressArgs,

    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `catalog export`.
#[derive(Debug, Args)]
pub struct ExportEventsArgs {
    /// The catalog
    #[command(flatten)]
    pub address: CatalogAddressArgs,

    /// Print only events of this session (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub session: Vec<String>,
}

/// Reads a decision.
fn approval(text: &str) -> Result<Approval, String> {
    let known = Approval::ALL.into_iter().find(|approval| approval.name() == text);
    known.ok_or_else(|| "expected `pending`, `approved` or `rejected`".to_owned())
}

impl CatalogCommandArgs {
    /// Does what is asked for.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        match &self.action {
            CatalogAction::List(arguments) => arguments.run(surroundings).await,
            CatalogAction::Show(arguments) => arguments.run(surroundings).await,
            CatalogAction::Approve(arguments) => arguments.decide(Approval::Approved).await,
            CatalogAction::Reject(arguments) => arguments.decide(Approval::Rejected).await,
            CatalogAction::Stats(arguments) => arguments.run(surroundings).await,
            CatalogAction::Export(arguments) => arguments.run(surroundings).await,
        }
    }
}

impl CatalogAddressArgs {
    /// Opens the catalog, which must be there.
    pub(crate) async fn open(&self) -> Result<Catalog, PipelineError> {
        Catalog::reach(&self.catalog).await.map_err(PipelineError::Catalog)
    }
}

impl ListArgs {
    async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let mut filter = EventFilter::any();
        if !self.approval.is_empty() {
            filter.approval.clone_from(&self.approval);
        }
        filter.conditions.sources.clone_from(&self.source);
        let sessions = self.address.open().await?.sessions(&filter).await?;
        if self.json {
            surroundings.print(&sessions.iter().map(json_line).collect::<String>())?;
            return Ok(0);
        }
        let header = ["session", "source", "decision", "events", "recordings", "levels", "from"];
        let mut rows = vec![header.map(str::to_owned)];
        rows.extend(sessions.iter().map(session_row));
        surroundings.print(&table(&rows))?;
        Ok(0)
    }
}

fn session_row(session: &SessionEntry) -> [String; 7] {
    [
        short(&session.name),
        short(&session.source),
        session.approval.name().to_owned(),
        session.events.to_string(),
        session.recordings.to_string(),
        session.levels.to_string(),
        session.start.map(second).unwrap_or_default(),
    ]
}

impl ShowSessionArgs {
    async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let filter = EventFilter { sessions: vec![self.session.clone()], ..EventFilter::any() };
        let catalog = self.address.open().await?;
        let events = catalog.select(&filter).await.map_err(PipelineError::Catalog)?;
        if self.json {
            surroundings.print(&events.iter().map(json_line).collect::<String>())?;
            return Ok(0);
        }
        let sessions = catalog.sessions(&filter).await?;
        let mut text = String::new();
        for session in &sessions {
            let place = session.position.map_or("an unknown place".to_owned(), |position| {
                format!("{:.5}, {:.5}", position.latitude_deg(), position.longitude_deg())
            });
            let (source, decision) = (&session.source, session.approval.name());
            text += &format!("session {}, {decision}: {source} at {place}\n\n", session.name);
        }
        let header = ["event", "start", "MHz", "receiver", "s", "dB", "object"];
        let mut rows = vec![header.map(str::to_owned)];
        rows.extend(events.iter().flat_map(event_rows));
        surroundings.print(&(text + &table(&rows)))?;
        Ok(0)
    }
}

/// Rows of an event: one for each recording and each level, and one if there is neither.
fn event_rows(event: &EventEntry) -> Vec<[String; 7]> {
    let row = |receiver: &str, duration: String, level: String, object: &str| {
        [
            short(&event.id),
            second(event.start),
            format!("{:.4}", event.frequency_hz / 1e6),
            short(receiver),
            duration,
            level,
            object.to_owned(),
        ]
    };
    let recordings = event.recordings.iter().map(|recording| {
        let duration_s = recording.sample_count as f64 / recording.sample_rate_hz;
        let object: String = recording.object.chars().take(12).collect();
        row(&recording.receiver, format!("{duration_s:.2}"), String::new(), &object)
    });
    let levels = event.levels.iter().map(|level| {
        let decibels = level.rss_db.or(level.snr_db).map(|db| format!("{db:.1}"));
        row(&level.receiver, String::new(), decibels.unwrap_or_default(), "")
    });
    let mut rows: Vec<_> = recordings.chain(levels).collect();
    if rows.is_empty() {
        rows.push(row("", String::new(), String::new(), ""));
    }
    rows
}

impl DecideArgs {
    async fn decide(&self, approval: Approval) -> Result<u8, PipelineError> {
        let catalog = self.address.open().await?;
        for session in &self.sessions {
            catalog.set_approval(session, approval).await.map_err(PipelineError::Catalog)?;
        }
        Ok(0)
    }
}

impl StatsArgs {
    async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let stats = self.address.open().await?.stats().await?;
        if self.json {
            surroundings.print(&json_line(&stats))?;
            return Ok(0);
        }
        surroundings.print(&table(&stats_rows(&stats)))?;
        Ok(0)
    }
}

fn stats_rows(stats: &CatalogStats) -> Vec<[String; 2]> {
    [
        ("receivers", stats.receivers),
        ("sources", stats.sources),
        ("  at a known place", stats.located_sources),
        ("sessions pending", stats.pending_sessions),
        ("  approved", stats.approved_sessions),
        ("  rejected", stats.rejected_sessions),
        ("events", stats.events),
        ("recordings", stats.recordings),
        ("samples", stats.samples),
        ("levels", stats.levels),
    ]
    .map(|(what, count)| [what.to_owned(), count.to_string()])
    .into()
}

impl ExportEventsArgs {
    async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let filter = EventFilter { sessions: self.session.clone(), ..EventFilter::default() };
        let catalog = self.address.open().await?;
        let mut after: Option<String> = None;
        loop {
            let page = catalog.page(&filter, after.as_deref(), PAGE).await;
            let events = page.map_err(PipelineError::Catalog)?;
            surroundings.print(&events.iter().map(json_line).collect::<String>())?;
            match events.into_iter().next_back() {
                Some(last) => after = Some(last.id),
                None => return Ok(0),
            }
        }
    }
}

fn json_line(row: &impl Serialize) -> String {
    serde_json::to_string(row).expect("a row is plain data") + "\n"
}

/// Shortens a name that would make a table too wide.
fn short(name: &str) -> String {
    if name.chars().count() <= NAME_LENGTH_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_LENGTH_MAX - 1).chain(['…']).collect()
}

/// The second of an instant.
fn second(time: UtcTime) -> String {
    match Timestamp::from_second(time.seconds) {
        Ok(timestamp) => timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        // Beyond the years of people.
        Err(_) => time.seconds.to_string(),
    }
}
