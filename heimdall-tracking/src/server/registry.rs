//! Registered models of a server.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::run::pairs;
use super::{Call, MlflowServer};
use crate::{ModelVersion, NewModelVersion, TrackingError};

/// Tag by which a version is found again that a lost answer told of.
const VERSION_KEY: &str = "heimdall.version_key";
/// How often a version is looked for and made, while the server fails.
const CREATIONS: usize = 5;
/// Most versions of an answer.
const PAGE: &str = "1000";

impl MlflowServer {
    /// Makes a version of a model, whose names were checked, and the model if there is none.
    pub(crate) async fn create_model_version(
        &self,
        new: &NewModelVersion,
    ) -> Result<u32, TrackingError> {
        let run = self.resume_run(&new.run_id).await?;
        let body = json!({ "name": new.name });
        match self.call(Call::post("make a model", "registered-models/create", body)).await {
            Err(TrackingError::Refused { code, .. }) if code == "RESOURCE_ALREADY_EXISTS" => {}
            made => drop(made?),
        }
        // A server makes one more version each time that it is asked to.
        let mut tags = new.tags.clone();
        let key = Uuid::new_v4().to_string();
        tags.insert(VERSION_KEY.to_owned(), key.clone());
        let below = |root: &str| match new.artifact_path.as_str() {
            "" => root.to_owned(),
            path => format!("{root}/{path}"),
        };
        let mut body = json!({
            "name": new.name,
            "source": below(run.artifact_uri()),
            "run_id": new.run_id,
            "tags": pairs(&tags),
        });
        if let Some(description) = &new.description {
            body["description"] = description.as_str().into();
        }
        let mut last = None;
        for attempt in 0..CREATIONS {
            if attempt > 0 {
                let versions = self.model_versions(&new.name).await?;
                let is_made = |v: &ModelVersion| v.tags.get(VERSION_KEY) == Some(&key);
                if let Some(made) = versions.into_iter().find(is_made) {
                    return Ok(made.version);
                }
            }
            let call =
                Call::post("register a model version", "model-versions/create", body.clone());
            match self.call(call.once()).await {
                Ok(answer) => return self.version_number(&answer["model_version"]["version"]),
                Err(error) if error.is_temporary() => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.expect("an attempt failed"))
    }

    /// Points an alias, which was checked, to a version.
    pub(crate) async fn set_alias(
        &self,
        name: &str,
        alias: &str,
        version: u32,
    ) -> Result<(), TrackingError> {
        let body = json!({ "name": name, "alias": alias, "version": version.to_string() });
        let call = Call::post("set an alias", "registered-models/alias", body);
        match self.call(call).await {
            Err(TrackingError::Refused { code, .. }) if code == "RESOURCE_DOES_NOT_EXIST" => {
                Err(TrackingError::UnknownModelVersion { name: name.to_owned(), version })
            }
            done => done.map(drop),
        }
    }

    /// Reads the versions of a model, oldest first.
    pub(crate) async fn model_versions(
        &self,
        name: &str,
    ) -> Result<Vec<ModelVersion>, TrackingError> {
        let Some(aliases) = self.aliases(name).await? else { return Ok(Vec::new()) };
        let filter = format!("name = '{}'", name.replace('\'', "''"));
        let (mut versions, mut page) = (Vec::new(), String::new());
        loop {
            let query = [("filter", &*filter), ("max_results", PAGE), ("page_token", &*page)];
            let query = if page.is_empty() { &query[..2] } else { &query[..] };
            let call = Call::get("read model versions", "model-versions/search", query);
            let answer = self.call(call).await?;
            for found in answer["model_versions"].as_array().into_iter().flatten() {
                versions.push(self.version(found, &aliases)?);
            }
            match answer["next_page_token"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut page),
                _ => break,
            }
        }
        versions.sort_by_key(|version| version.version);
        Ok(versions)
    }

    /// Aliases and the versions that they point to; `None` if there is no such model.
    async fn aliases(&self, name: &str) -> Result<Option<BTreeMap<String, u32>>, TrackingError> {
        let query = [("name", name)];
        let answer =
            match self.call(Call::get("read a model", "registered-models/get", &query)).await {
                Err(TrackingError::Refused { code, .. }) if code == "RESOURCE_DOES_NOT_EXIST" => {
                    return Ok(None);
                }
                answer => answer?,
            };
        let listed = answer["registered_model"]["aliases"].as_array().into_iter().flatten();
        let alias = |entry: &Value| {
            let alias = entry["alias"].as_str().unwrap_or_default().to_owned();
            Ok((alias, self.version_number(&entry["version"])?))
        };
        listed.map(alias).collect::<Result<_, _>>().map(Some)
    }

    fn version(
        &self,
        found: &Value,
        aliases: &BTreeMap<String, u32>,
    ) -> Result<ModelVersion, TrackingError> {
        let told = |field: &str| found[field].as_str().map(str::to_owned).filter(|s| !s.is_empty());
        let version = self.version_number(&found["version"])?;
        let source = told("source").unwrap_or_default();
        let tags = found["tags"].as_array().into_iter().flatten().map(|tag| {
            let part = |field: &str| tag[field].as_str().unwrap_or_default().to_owned();
            (part("key"), part("value"))
        });
        let own = aliases.iter().filter(|(_, owner)| **owner == version);
        Ok(ModelVersion {
            name: told("name").unwrap_or_default(),
            version,
            run_id: told("run_id"),
            storage_location: source.clone(),
            source,
            description: told("description"),
            tags: tags.collect(),
            aliases: own.map(|(alias, _)| alias.clone()).collect(),
            creation_time_ms: found["creation_timestamp"].as_i64().unwrap_or_default(),
        })
    }

    fn version_number(&self, value: &Value) -> Result<u32, TrackingError> {
        let number = match value {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64().and_then(|number| number.try_into().ok()),
        };
        number.ok_or_else(|| self.senseless("the number of a version"))
    }
}
