//! `kubeflow config`: each effective value and where it came from.

use anyhow::Result;
use serde_json::{Value, json};

use super::Common;
use crate::output::{self, Format};

/// Runs the command.
///
/// # Errors
/// When the settings cannot be read.
pub fn run(common: &Common) -> Result<u8> {
    let config = common.config()?;
    if common.output == Format::Json {
        let all: serde_json::Map<String, Value> = config
            .all()
            .map(|(setting, value, origin)| (setting.name.to_owned(), json!({"value": value, "origin": origin})))
            .collect();
        output::json(&Value::Object(all));
        return Ok(output::OK);
    }
    output::line(format!("Data folder: {}\n", config.data_dir.display()));
    let rows: Vec<Vec<String>> = config
        .all()
        .map(|(setting, value, origin)| {
            vec![setting.name.to_owned(), value.to_owned(), origin.to_string(), setting.doc.to_owned()]
        })
        .collect();
    output::table(&["SETTING", "VALUE", "FROM", "WHAT IT IS FOR"], &rows);
    Ok(output::OK)
}
