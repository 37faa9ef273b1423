//! `kubeflow pipeline`: start runs, look at them, stop them.

mod compile;
mod find;
mod progress;
mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use futures::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};

use super::Common;
use crate::client::Client;
use crate::output::{self, Format};

/// Start runs, look at them, stop them.
#[derive(Debug, Clone, Args)]
pub struct Pipeline {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Start a run
    Run(Run),
    /// List pipelines
    List,
    /// Show a run with its steps
    Get {
        /// The run: its id, the beginning of it, or its name where only one run has it
        run: String,
    },
    /// List runs, newest first
    Runs {
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: u16,
    },
    /// Print the log of a step
    Logs {
        /// The run: its id, the beginning of it, or its name where only one run has it
        run: String,
        /// The step: its name, or its path where several have the name. Without one: every step, one after the other
        step: Option<String>,
        /// Stay until the step ended
        #[arg(long, short)]
        follow: bool,
        /// Begin each line with its time
        #[arg(long)]
        timestamps: bool,
    },
    /// Stop a run
    Cancel {
        /// The run: its id, the beginning of it, or its name where only one run has it
        run: String,
    },
}

/// Start a run.
#[derive(Debug, Clone, Args)]
struct Run {
    /// A compiled pipeline (YAML), a Python file that is compiled with your own kfp, or NAME[@VERSION] of an uploaded one
    what: String,
    /// A parameter; @file reads the value from a file
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    /// The experiment, made if there is none of this name
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// What to call the run
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Take no step from the cache
    #[arg(long)]
    no_cache: bool,
    /// Wait for the end and show the progress; the exit code says how it ended
    #[arg(long, short)]
    wait: bool,
}

/// Runs the command.
///
/// # Errors
/// When no platform runs, or it refuses.
pub async fn run(common: &Common, pipeline: Pipeline) -> Result<u8> {
    let client = common.client()?;
    match pipeline.command {
        Command::Run(run) => start(common, &client, run).await,
        Command::List => list(common, &client).await,
        Command::Get { run } => show::run(common, &client, &find::run(&client, &run).await?).await,
        Command::Runs { limit } => runs(common, &client, limit).await,
        Command::Logs { run, step, follow, timestamps } => {
            logs(&client, &find::run(&client, &run).await?, step, follow, timestamps).await
        }
        Command::Cancel { run } => {
            let run = find::run(&client, &run).await?;
            client.post(&format!("/apis/v2beta1/runs/{run}:terminate"), &json!({})).await?;
            output::line(format!("Run {run} is being canceled."));
            Ok(output::OK)
        }
    }
}

async fn start(common: &Common, client: &Client, run: Run) -> Result<u8> {
    let parameters = parameters(&run.parameters)?;
    let mut body = json!({"runtime_config": {"parameters": parameters}});
    let path = Path::new(&run.what);
    let name = if path.exists() {
        let text = if path.extension().is_some_and(|ending| ending == "py") {
            compile::python(path)?
        } else {
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
        };
        let package = pipelines::ir::package::Package::from_file(&run.what, text.as_bytes())?;
        let name = package.ir.pipeline_info.name.clone();
        body["pipeline_spec"] = package.document();
        if run.no_cache {
            switch_cache_off(&mut body["pipeline_spec"]);
        }
        name
    } else {
        let (name, reference) = reference(client, &run.what).await?;
        body["pipeline_version_reference"] = reference;
        name
    };
    body["display_name"] = json!(run.name.clone().unwrap_or(name));
    if let Some(experiment) = &run.experiment {
        body["experiment_id"] = json!(experiment_id(client, experiment).await?);
    }
    let made = client.post("/apis/v2beta1/runs", &body).await?;
    let id = made["run_id"].as_str().unwrap_or_default().to_owned();
    if run.wait {
        return progress::follow(common, client, &id).await;
    }
    match common.output {
        Format::Json => output::json(&made),
        Format::Table => output::line(&id),
    }
    Ok(output::OK)
}

fn parameters(given: &[String]) -> Result<Map<String, Value>> {
    let mut parameters = Map::new();
    for pair in given {
        let (name, value) = pair.split_once('=').with_context(|| format!("read -p {pair}: it must be NAME=VALUE"))?;
        let text = match value.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("read {file}"))?,
            None => value.to_owned(),
        };
        // JSON where it is JSON, else a text; the server makes it fit the parameter's type or says why not.
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        parameters.insert(name.to_owned(), value);
    }
    Ok(parameters)
}

/// The SDK does the same in its client: `cachingOptions` of every task of the root.
fn switch_cache_off(document: &mut Value) {
    let spec = if document.get("pipeline_spec").is_some() { &mut document["pipeline_spec"] } else { document };
    let mut dags = Vec::new();
    if let Some(components) = spec.get_mut("components").and_then(Value::as_object_mut) {
        dags.extend(components.values_mut().filter_map(|component| component.get_mut("dag")));
    }
    for dag in dags {
        clear_caching(dag);
    }
    clear_caching(&mut spec["root"]["dag"]);
}

fn clear_caching(dag: &mut Value) {
    for task in dag["tasks"].as_object_mut().into_iter().flat_map(|tasks| tasks.values_mut()) {
        task["cachingOptions"] = json!({});
    }
}

async fn reference(client: &Client, what: &str) -> Result<(String, Value)> {
    let (name, version) = what.split_once('@').map_or((what, None), |(name, version)| (name, Some(version)));
    let pipeline = client.get(&format!("/apis/v2beta1/pipelines/names/{name}")).await;
    let pipeline = pipeline.with_context(|| format!("find {what}: there is no such file and no such pipeline"))?;
    let id = pipeline["pipeline_id"].as_str().unwrap_or_default().to_owned();
    let mut reference = json!({"pipeline_id": id});
    if let Some(version) = version {
        let listed = client.get(&format!("/apis/v2beta1/pipelines/{id}/versions?page_size=200")).await?;
        let versions = listed["pipeline_versions"].as_array().cloned().unwrap_or_default();
        let found = versions.iter().find(|one| one["display_name"] == version || one["name"] == version);
        let Some(found) = found else { bail!("pipeline {name} has no version {version}") };
        reference["pipeline_version_id"] = found["pipeline_version_id"].clone();
    }
    Ok((name.to_owned(), reference))
}

async fn experiment_id(client: &Client, name: &str) -> Result<String> {
    let filter = json!({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]});
    let filter = percent(&filter.to_string());
    let listed = client.get(&format!("/apis/v2beta1/experiments?filter={filter}")).await?;
    let found = match listed["experiments"].as_array().and_then(|list| list.first()) {
        Some(found) => found.clone(),
        None => client.post("/apis/v2beta1/experiments", &json!({"display_name": name})).await?,
    };
    Ok(found["experiment_id"].as_str().unwrap_or_default().to_owned())
}

/// A text as a part of a path or a value of a query.
pub(crate) fn percent(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

async fn list(common: &Common, client: &Client) -> Result<u8> {
    let listed = client.get("/apis/v2beta1/pipelines?page_size=200&sort_by=created_at%20desc").await?;
    if common.output == Format::Json {
        output::json(&listed);
        return Ok(output::OK);
    }
    let rows = listed["pipelines"].as_array().into_iter().flatten().map(|pipeline| {
        let text = |name: &str| pipeline[name].as_str().unwrap_or_default().to_owned();
        vec![text("name"), text("created_at"), text("pipeline_id"), text("description")]
    });
    output::table(&["NAME", "CREATED", "ID", "DESCRIPTION"], &rows.collect::<Vec<_>>());
    Ok(output::OK)
}

async fn runs(common: &Common, client: &Client, limit: u16) -> Result<u8> {
    let listed = client.get(&format!("/apis/v2beta1/runs?page_size={limit}&sort_by=created_at%20desc")).await?;
    if common.output == Format::Json {
        output::json(&listed);
        return Ok(output::OK);
    }
    let rows = listed["runs"].as_array().into_iter().flatten().map(|run| {
        let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
        vec![text("state"), text("display_name"), text("created_at"), text("run_id")]
    });
    output::table(&["STATE", "NAME", "CREATED", "ID"], &rows.collect::<Vec<_>>());
    Ok(output::OK)
}

async fn logs(client: &Client, run: &str, step: Option<String>, follow: bool, timestamps: bool) -> Result<u8> {
    let steps = match step {
        Some(step) => vec![step],
        None => {
            let listed = client.get(&format!("/apis/v2beta1/runs/{run}/tasks")).await?;
            let steps = listed["tasks"].as_array().cloned().unwrap_or_default();
            let steps = steps.iter().filter(|task| task["type"] == "RUNTIME" && task["pods"].is_array());
            steps.filter_map(|task| task["scope_path"].as_str().map(str::to_owned)).collect()
        }
    };
    let many = steps.len() > 1;
    for step in steps {
        if many {
            output::line(format!("==> {step} <=="));
        }
        let path =
            format!("/apis/v1alpha1/runs/{run}/nodes/{}/log?follow={follow}&timestamps={timestamps}", percent(&step));
        let mut body = client.stream(&path).await?.into_data_stream();
        while let Some(chunk) = body.next().await {
            output::bytes(&chunk.context("read the log")?);
        }
    }
    Ok(output::OK)
}

/// A file below the user's temporary folder that is removed when this goes.
pub(super) struct Temporary(pub(super) PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
