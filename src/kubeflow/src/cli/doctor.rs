//! `kubeflow doctor`: what this host allows, and the remedy for what it does not.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Common;
use crate::output::{self, Format};

struct Finding {
    name: &'static str,
    good: bool,
    found: String,
    remedy: Option<String>,
}

/// Runs the command; the exit code is 1 when something is not as it should be.
///
/// # Errors
/// When the host cannot be looked at.
pub async fn run(common: &Common) -> Result<u8> {
    let data_dir = common.config()?.data_dir;
    let findings = vec![isolation(&data_dir)?, python(&data_dir).await, disk(&data_dir)?, sync_speed(&data_dir)?];
    let good = findings.iter().all(|finding| finding.good);
    if common.output == Format::Json {
        let list: Vec<Value> = findings
            .iter()
            .map(|one| json!({"check": one.name, "pass": one.good, "found": one.found, "remedy": one.remedy}))
            .collect();
        output::json(&Value::Array(list));
    } else {
        for one in &findings {
            output::line(format!("{}  {:<12} {}", if one.good { "pass" } else { "FAIL" }, one.name, one.found));
            if let Some(remedy) = &one.remedy {
                output::line(format!("                   {remedy}"));
            }
        }
    }
    Ok(if good { output::OK } else { output::FAILED })
}

fn isolation(data_dir: &std::path::Path) -> Result<Finding> {
    let folder = data_dir.join("pods/.doctor");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let program = std::env::current_exe().context("find this program")?;
    let report = sandbox::support::ask(&program, &["shim", "probe"], &folder);
    let _ = std::fs::remove_dir_all(&folder);
    let found = match (report.sandbox, &report.failure) {
        (true, None) => "steps run in sandboxes of their own".to_owned(),
        (true, Some(failure)) => format!("sandboxes, without copy-on-write layers: {failure}"),
        (false, failure) => {
            let why = failure.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("steps would run as plain processes, without isolation: {why}")
        }
    };
    Ok(Finding { name: "isolation", good: report.sandbox, found, remedy: report.remedy })
}

async fn python(data_dir: &std::path::Path) -> Finding {
    let environments = node::environments::Environments::new(data_dir, None, foundation::clock::Clock::system());
    let found = environments.interpreters().await.summary();
    let none = found.is_empty();
    Finding {
        name: "python",
        good: !none,
        found: if none { "no Python was found".to_owned() } else { found },
        remedy: none.then(|| "Install Python 3.11 or newer; steps that need it fail without one.".to_owned()),
    }
}

fn disk(data_dir: &std::path::Path) -> Result<Finding> {
    /// Below this the store refuses writes; a few environments need more.
    const FREE_BYTES_MIN: u64 = 1 << 30;
    let stat = rustix::fs::statvfs(data_dir).with_context(|| format!("look at {}", data_dir.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let good = free >= FREE_BYTES_MIN;
    Ok(Finding {
        name: "disk",
        good,
        found: format!("{} MiB are free in {}", free >> 20, data_dir.display()),
        remedy: (!good).then(|| "Free some space, or choose another folder with --data-dir.".to_owned()),
    })
}

/// A sync that takes no time does not reach a disk.
fn sync_speed(data_dir: &std::path::Path) -> Result<Finding> {
    const TRIES: u32 = 5;
    const TOO_FAST: std::time::Duration = std::time::Duration::from_micros(20);
    let path = data_dir.join(".doctor");
    let mut best = std::time::Duration::MAX;
    for _ in 0..TRIES {
        let mut file = std::fs::File::create(&path).with_context(|| format!("write {}", path.display()))?;
        std::io::Write::write_all(&mut file, &[1; 4096]).context("write to the data folder")?;
        let started = std::time::Instant::now();
        file.sync_data().context("sync to the disk")?;
        best = best.min(started.elapsed());
    }
    let _ = std::fs::remove_file(&path);
    let good = best >= TOO_FAST;
    let remedy =
        "What was acknowledged may be lost in a power cut: the folder is in memory, or the disk does not sync.";
    Ok(Finding {
        name: "sync",
        good,
        found: format!("a sync takes {} µs at best", best.as_micros()),
        remedy: (!good).then(|| remedy.to_owned()),
    })
}
