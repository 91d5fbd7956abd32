//! Which of the processor's instructions the kernels are made of.

use std::sync::OnceLock;

use pulp::Arch;

use crate::error::LoadError;

/// The environment's name of the set to take instead of the best one, so that all can be tested on one machine.
const CHOICE: &str = "PATCHBAY_INSTRUCTIONS";

/// The instruction sets that this machine has, each with its name, the best first.
fn there() -> Vec<(&'static str, Arch)> {
    #[cfg(target_arch = "x86_64")]
    let vectors = [
        pulp::x86::V4::try_new().map(|simd| ("avx512", Arch::V4(simd))),
        pulp::x86::V3::try_new().map(|simd| ("avx2", Arch::V3(simd))),
    ];
    #[cfg(target_arch = "aarch64")]
    let vectors = [pulp::aarch64::Neon::try_new().map(|simd| ("neon", Arch::Neon(simd)))];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let vectors: [Option<(&'static str, Arch)>; 0] = [];
    vectors.into_iter().flatten().chain([("scalar", Arch::Scalar)]).collect()
}

/// The set of this name, or the best one.
fn find(name: Option<&str>) -> Result<(&'static str, Arch), LoadError> {
    let there = there();
    let found = there.iter().find(|(known, _)| name.is_none_or(|name| name == *known));
    found.copied().ok_or_else(|| LoadError::Instructions {
        name: name.unwrap_or_default().to_owned(),
        there: there.iter().map(|(name, _)| *name).collect(),
    })
}

/// The set that the environment names, or the best one.
///
/// # Errors
/// The environment names one that this machine does not have.
pub(crate) fn instructions() -> Result<Arch, LoadError> {
    let name = std::env::var_os(CHOICE);
    find(name.map(|name| name.to_string_lossy().into_owned()).as_deref()).map(|(_, arch)| arch)
}

/// The set that is taken: the same one always, and the best one where the environment names none that is there.
pub(crate) fn arch() -> Arch {
    static TAKEN: OnceLock<Arch> = OnceLock::new();
    *TAKEN.get_or_init(|| instructions().unwrap_or_else(|_| Arch::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_that_is_there_is_found_by_its_name() {
        for (name, _) in there() {
            assert_eq!(find(Some(name)).unwrap().0, name);
        }
        assert_eq!(find(None).unwrap().0, there()[0].0);
        let error = find(Some("sse9")).unwrap_err().to_string();
        assert!(error.contains("\"sse9\"") && error.ends_with("scalar"), "{error}");
    }
}
