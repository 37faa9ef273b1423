//! What the kernel says about this process, under the names that every Prometheus client uses.
//!
//! Source: `proc(5)` (`/proc/self/stat`, `/proc/self/status`, `/proc/self/fd`).

use std::fs;
use std::time::Instant;

use crate::metrics::{Metrics, Shape};

/// The unit of times in `/proc`: the kernel shows them in 1/100 s on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Registers memory, processor time, open files and uptime of this process, which began at `started`.
pub fn register(metrics: &Metrics, started: Instant) {
    let memory = "Memory of this process that is in RAM, in bytes";
    metrics.of_process("process_resident_memory_bytes", memory, Shape::Gauge, resident_bytes);
    let processor = "Processor time used by this process, in seconds";
    metrics.of_process("process_cpu_seconds", processor, Shape::Counter, cpu_seconds);
    metrics.of_process("process_open_fds", "Open file descriptors of this process", Shape::Gauge, open_files);
    metrics
        .gauge("uptime_seconds", "Seconds since the platform began to start", move || started.elapsed().as_secs_f64());
}

fn resident_bytes() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; the fields are counted behind it. utime and stime are 14 and 15 of all.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

fn open_files() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}
