//! Whether a model's weights fit into memory, asked before they are read.

use std::fs::read_to_string;

use patchbay_model::Precision;

/// Holds what so many weights will take against what may be taken: the setting's bytes, or else what the machine has available,
/// where it says so.
///
/// # Errors
/// The two numbers, and what to do.
pub(crate) fn fits(parameters: u64, precision: Precision, setting: Option<u64>) -> Result<(), String> {
    let needed = precision.bytes(parameters);
    let (there, whose) = match (setting, available()) {
        (Some(setting), _) => (setting, "the limit `max_load_bytes` is"),
        (None, Some(available)) => (available, "this machine has available"),
        (None, None) => return Ok(()),
    };
    if needed <= there {
        tracing::info!(bytes = needed, "the weights fit");
        return Ok(());
    }
    let smaller = match precision {
        Precision::F32 => "load it as bf16, which takes half, or as q8_0, which takes about a quarter, unload",
        Precision::F16 | Precision::Bf16 => "load it as q8_0, which takes about half, unload",
        Precision::Q8_0 | Precision::Q4K => "unload",
    };
    Err(format!(
        "its weights take {needed} bytes as {precision}, {whose} {there}; {smaller} another model, or take a smaller one"
    ))
}

/// Bytes that can be had without swapping, in this machine and in this process's group; none where the system does not say.
fn available() -> Option<u64> {
    let machine = read_to_string("/proc/meminfo").ok().as_deref().and_then(mem_available);
    [machine, group()].into_iter().flatten().min()
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn mem_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
}

/// What a container's limit leaves.
fn group() -> Option<u64> {
    let number = |name: &str| read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_in_kibibytes() {
        assert_eq!(mem_available("MemTotal:  20 kB\nMemAvailable:    10 kB\nBuffers: 1 kB\n"), Some(10240));
        assert_eq!(mem_available("MemTotal:  20 kB\n"), None);
    }
}
