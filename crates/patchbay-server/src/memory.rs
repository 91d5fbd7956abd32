//! Memory: whether a model's weights fit, asked before they are read, and what requests may hold beside them.

use std::fs::read_to_string;

use patchbay_engine::Memory;
use patchbay_model::Precision;

use crate::Failure;

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

/// What requests may hold together: the setting's bytes, or else what the machine has available.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    setting: Option<u64>,
    memory: Memory,
}

/// A process may take this share more than was planned.
const SLACK: u64 = 10;

impl Budget {
    pub(crate) fn new(setting: Option<u64>) -> Self {
        let budget = Self { setting, memory: setting.map_or_else(Memory::default, Memory::new) };
        budget.look();
        budget
    }

    /// The books that the engines on the CPU share.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Books for another device: the setting's bytes, or without an end.
    pub(crate) fn elsewhere(&self) -> Memory {
        self.setting.map_or_else(Memory::default, Memory::new)
    }

    /// Looks at what the machine has available, unless the setting says what to take.
    pub(crate) fn look(&self) {
        if self.setting.is_none() {
            // what is kept for the next is available, too
            patchbay_heap::give_back();
            if let Some(available) = available() {
                self.memory.set_free(available - available / SLACK);
            }
        }
    }

    /// Whether what a request holds at its worst moment is within what all may hold together by these books.
    ///
    /// # Errors
    /// Status 413, with both numbers and what to do.
    pub(crate) fn admit(&self, memory: &Memory, peak: u64) -> Result<(), Failure> {
        if peak > memory.limit() {
            // a model may have been unloaded
            self.look();
        }
        let limit = memory.limit();
        if peak <= limit {
            return Ok(());
        }
        let detail = format!("this request would hold {peak} bytes, and all requests together may hold {limit}");
        let hint = "send fewer rows, a sweep in parts, or save less, for example with an index such as `[:, -1]`; the \
                    server's setting is `memory`";
        Err(Failure::new(413, "too_large", detail).hint(hint).at("/graph"))
    }
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

/// What a container's limit leaves. Files that lie in memory count as used there, and go when something else needs the room.
fn group() -> Option<u64> {
    let text = |name: &str| read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let used = number("memory.current")?.saturating_sub(text("memory.stat").map_or(0, |stat| files(&stat)));
    Some(number("memory.max")?.saturating_sub(used))
}

/// Bytes of files in `memory.stat`.
fn files(stat: &str) -> u64 {
    let of = |line: &str| {
        line.strip_prefix("active_file ").or_else(|| line.strip_prefix("inactive_file "))?.parse::<u64>().ok()
    };
    stat.lines().filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_budget_is_refused_with_both_numbers() {
        let budget = Budget::new(Some(1000));
        let held = budget.memory().hold(900);
        budget.admit(budget.memory(), 1000).unwrap();
        let failure = budget.admit(budget.memory(), 1001).unwrap_err();
        assert_eq!((failure.status, failure.code.as_str(), budget.memory().limit()), (413, "too_large", 1000));
        assert!(failure.detail.contains("1001") && failure.detail.contains("1000"), "{failure}");
        drop(held);
        assert_eq!(budget.elsewhere().free(), 1000);
        // what the machine has is known on Linux alone
        let budget = Budget::new(None);
        assert!(budget.memory().limit() > 1 << 20);
        assert_eq!(budget.admit(budget.memory(), u64::MAX).is_ok(), available().is_none());
    }

    #[test]
    fn meminfo_is_in_kibibytes() {
        assert_eq!(mem_available("MemTotal:  20 kB\nMemAvailable:    10 kB\nBuffers: 1 kB\n"), Some(10240));
        assert_eq!(mem_available("MemTotal:  20 kB\n"), None);
    }

    #[test]
    fn files_in_memory_are_not_taken() {
        assert_eq!(files("anon 5\nfile 100\ninactive_file 30\nactive_file 7\nunevictable 3\n"), 37);
    }
}
