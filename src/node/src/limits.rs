//! Kubernetes quantities as numbers, and what the node and its pods may use. Called by `boxes`, `variables`, `registration`.

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sandbox::spec::Limits;

/// Pods without requests run at most this many times the number of cores at once …
const PODS_PER_CORE: usize = 4;
/// … but at least so many.
const PODS_MIN: usize = 16;
/// Steps give way to the platform.
const NICE: i32 = 5;
/// Threads and processes of one container.
const PROCESSES_MAX: u64 = 4096;
/// Limit of `/dev/shm`, of which a container runtime gives 64 MiB; data loaders need more.
pub const SHM_BYTES: u64 = 1 << 30;
/// Limit of what a container may write outside its volumes.
pub const ROOT_BYTES: u64 = 4 << 30;

/// How many pods this machine runs at once; the rest waits visibly for the scheduler.
pub fn pods_max(cores: usize) -> usize {
    PODS_MIN.max(PODS_PER_CORE * cores)
}

/// The value of a quantity in its base unit (bytes, cores); none if it is not one.
pub fn value(quantity: &Quantity) -> Option<f64> {
    let text = quantity.0.trim();
    let digits = text.find(|letter: char| !(letter.is_ascii_digit() || ".+-".contains(letter))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024_f64.powi(2),
        "Gi" => 1024_f64.powi(3),
        "Ti" => 1024_f64.powi(4),
        "Pi" => 1024_f64.powi(5),
        "Ei" => 1024_f64.powi(6),
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}

/// A quantity as whole bytes.
pub fn bytes(quantity: &Quantity) -> Option<u64> {
    value(quantity).filter(|value| *value >= 0.0).map(|value| value.ceil() as u64)
}

/// The limit that a container sets on a resource.
pub fn limit<'a>(container: &'a Container, resource: &str) -> Option<&'a Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get(resource)
}

/// The request that a container makes for a resource.
pub fn request<'a>(container: &'a Container, resource: &str) -> Option<&'a Quantity> {
    container.resources.as_ref()?.requests.as_ref()?.get(resource)
}

/// What a container's process is held to without a cgroup.
pub fn of_container(container: &Container) -> Limits {
    let cores = limit(container, "cpu").and_then(value).map(|cores| cores.ceil().max(1.0) as u32);
    Limits { processes: Some(PROCESSES_MAX), open_files: None, nice: NICE, cores }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_values() {
        let cases = [
            ("1", 1.0),
            ("500m", 0.5),
            ("1Gi", 1_073_741_824.0),
            ("1e3", 1000.0),
            ("1.5k", 1500.0),
            ("2E", 2e18),
            ("1E2", 100.0),
        ];
        for (text, expected) in cases {
            assert_eq!(value(&Quantity(text.into())), Some(expected), "{text}");
        }
        for text in ["", "x", "1x", "1 Gi"] {
            assert_eq!(value(&Quantity(text.into())), None, "{text}");
        }
    }
}
