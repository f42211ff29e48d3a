//! Which events of a catalog are wanted.

use heimdall_features::UtcTime;
use serde::{Deserialize, Serialize};

use super::Approval;
use super::database::Statement;
use crate::DataError;
use crate::recording::utc_text;

/// Which events are wanted: those that fulfill all of it.
///
/// ```
/// use heimdall_data::EventFilter;
///
/// let filter: EventFilter = serde_json::from_str(
///     r#"{"sessions": ["evening"], "where": {"from": "2022-07-05T10:00:00Z", "receivers_min": 3}}"#,
/// )?;
///
/// assert_eq!(filter.conditions.receivers_min, 3);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventFilter {
    /// Names of sessions; all of them if there is none.
    pub sessions: Vec<String>,
    /// What was decided on their sessions; those that are approved, by default.
    pub approval: Vec<Approval>,
    /// What the events themselves must fulfill.
    #[serde(rename = "where")]
    pub conditions: EventConditions,
}

impl Default for EventFilter {
    fn default() -> Self {
        Self {
            sessions: Vec::new(),
            approval: vec![Approval::Approved],
            conditions: EventConditions::default(),
        }
    }
}

/// What an event must fulfill to be wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventConditions {
    /// Names of sources; all of them if there is none.
    pub sources: Vec<String>,
    /// What was transmitted; anything, known or not, if there is none.
    pub waveforms: Vec<String>,
    /// Lowest frequency of the emission, in Hz.
    pub frequency_hz_min: Option<f64>,
    /// Highest frequency of the emission, in Hz.
    pub frequency_hz_max: Option<f64>,
    /// Earliest start, such as `2022-07-05T10:51:43Z`.
    #[serde(with = "utc_text")]
    pub from: Option<UtcTime>,
    /// Start before which an event must begin.
    #[serde(with = "utc_text")]
    pub until: Option<UtcTime>,
    /// Fewest receivers that have a recording or a level of it.
    pub receivers_min: u32,
    /// Whether the position of the source must be known, or must not be.
    pub is_located: Option<bool>,
}

impl EventFilter {
    /// Wants the events of all sessions, whatever was decided on them.
    pub fn any() -> Self {
        Self { approval: Approval::ALL.to_vec(), ..Self::default() }
    }

    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidField`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), DataError> {
        let EventConditions { frequency_hz_min, frequency_hz_max, from, until, .. } =
            &self.conditions;
        let invalid = |field, expected, actual: String| {
            Err(DataError::InvalidField { field, expected, actual })
        };
        let bounds = [
            ("where.frequency_hz_min", frequency_hz_min),
            ("where.frequency_hz_max", frequency_hz_max),
        ];
        for (field, bound) in bounds {
            if let Some(hz) = bound.filter(|hz| !(hz.is_finite() && *hz >= 0.0)) {
                return invalid(field, "finite and at least 0", hz.to_string());
            }
        }
        if let (Some(min_hz), Some(max_hz)) = (frequency_hz_min, frequency_hz_max)
            && min_hz > max_hz
        {
            let expected = "no less than `where.frequency_hz_min`";
            return invalid("where.frequency_hz_max", expected, max_hz.to_string());
        }
        if let (Some(from), Some(until)) = (from, until)
            && from >= until
        {
            return invalid("where.until", "later than `where.from`", format!("{until:?}"));
        }
        if self.approval.is_empty() {
            return invalid("approval", "at least one decision", "none".to_owned());
        }
        Ok(())
    }

    /// Adds what sessions must fulfill to a statement that joins them.
    pub(super) fn of_sessions(&self, statement: Statement) -> Statement {
        let approval = self.approval.iter().map(|approval| approval.name());
        let mut statement = statement.sql("sessions.approval IN ").values(approval);
        if !self.sessions.is_empty() {
            statement = statement.sql(" AND sessions.name IN ").values(&self.sessions);
        }
        if !self.conditions.sources.is_empty() {
            statement = statement.sql(" AND sources.name IN ").values(&self.conditions.sources);
        }
        match self.conditions.is_located {
            Some(true) => statement.sql(" AND sources.latitude_deg IS NOT NULL"),
            Some(false) => statement.sql(" AND sources.latitude_deg IS NULL"),
            None => statement,
        }
    }

    /// Adds what events must fulfill to a statement that joins them with their sessions and sources.
    pub(super) fn of_events(&self, statement: Statement) -> Statement {
        let mut statement = self.of_sessions(statement);
        let wanted = &self.conditions;
        if !wanted.waveforms.is_empty() {
            statement = statement.sql(" AND events.waveform IN ").values(&wanted.waveforms);
        }
        if let Some(hz) = wanted.frequency_hz_min {
            statement = statement.sql(" AND events.frequency_hz >= ").value(hz);
        }
        if let Some(hz) = wanted.frequency_hz_max {
            statement = statement.sql(" AND events.frequency_hz <= ").value(hz);
        }
        let instant = |time: UtcTime| [time.seconds, i64::from(time.nanoseconds)];
        if let Some(from) = wanted.from {
            let start = " AND (events.start_s, events.start_ns) >= ";
            statement = statement.sql(start).values(instant(from));
        }
        if let Some(until) = wanted.until {
            let start = " AND (events.start_s, events.start_ns) < ";
            statement = statement.sql(start).values(instant(until));
        }
        if wanted.receivers_min > 0 {
            statement = statement
                .sql(
                    " AND (SELECT count(*) FROM (
                           SELECT receiver FROM recordings WHERE recordings.event = events.id
                           UNION SELECT receiver FROM levels WHERE levels.event = events.id
                       ) AS hearing) >= ",
                )
                .value(i64::from(wanted.receivers_min));
        }
        statement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_field_is_refused() {
        for text in [r#"{"session": []}"#, r#"{"where": {"source": []}}"#] {
            assert!(serde_json::from_str::<EventFilter>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn filter_that_nothing_fulfills_is_refused() {
        let cases = [
            (r#"{"where": {"frequency_hz_min": -1}}"#, "where.frequency_hz_min"),
            (
                r#"{"where": {"frequency_hz_min": 2, "frequency_hz_max": 1}}"#,
                "where.frequency_hz_max",
            ),
            (
                r#"{"where": {"from": "2022-07-05T10:00:00Z", "until": "2022-07-05T10:00:00Z"}}"#,
                "where.until",
            ),
            (r#"{"approval": []}"#, "approval"),
        ];
        for (text, place) in cases {
            let filter: EventFilter = serde_json::from_str(text).unwrap();

            match filter.validate() {
                Err(DataError::InvalidField { field, .. }) => assert_eq!(field, place),
                other => panic!("{text} gives {other:?}"),
            }
        }
    }

    #[test]
    fn time_is_written_as_it_is_read() {
        let text = r#"{"from":"2022-07-05T10:51:43.250000000Z"}"#;
        let conditions: EventConditions = serde_json::from_str(text).unwrap();

        let json = serde_json::to_string(&conditions).unwrap();

        assert!(json.contains(&text[1..text.len() - 1]), "{json}");
        let noon = serde_json::from_str::<EventConditions>(r#"{"from":"noon"}"#).unwrap_err();
        assert!(noon.to_string().contains("2022-07-05T10:51:43Z"), "{noon}");
    }
}
