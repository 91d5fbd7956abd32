//! A fuzzer that runs with the tests, for a few seconds and always the same way; `PATCHBAY_FUZZ_SECONDS` gives it more, and
//! `PATCHBAY_FUZZ_SEED` another way. Whatever is answered as nothing before it was is kept and changed further. The same
//! targets can be driven by coverage: see `fuzz/README.md`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test stops where something fails, and says where"
)]

#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod mutate;
mod targets;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use mutate::{Random, change, spliced};
use serde_json::Value;
use targets::Answer;

/// How much of what is new is kept.
const KEPT: usize = 4000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}")))
}

/// Runs a target, and shows its input where it fails.
fn run(target: fn(&[u8]) -> Answer, input: &[u8]) -> Answer {
    catch_unwind(AssertUnwindSafe(|| target(input))).unwrap_or_else(|panic| {
        eprintln!("this input fails:\n{}", String::from_utf8_lossy(input));
        resume_unwind(panic)
    })
}

/// What makes an answer unlike others: of a refusal its kind and wording, without names and numbers.
fn kind(answer: Answer) -> String {
    let problem = match answer {
        Answer::Unread => return String::new(),
        Answer::Taken(deeds) => return deeds,
        Answer::Refused(problem) => problem,
    };
    let wording = problem.detail.lines().next().unwrap_or_default();
    let parts = wording.split(['`', '"']).enumerate().filter(|(i, _)| i % 2 == 0);
    let plain = parts.flat_map(|(_, part)| part.chars()).filter(char::is_ascii_alphabetic).take(24);
    format!("{:?} {}", problem.code, plain.collect::<String>())
}

/// What there is to change: what can run, and what cannot.
struct Inputs<T> {
    taken: Vec<T>,
    refused: Vec<T>,
    seen: HashSet<String>,
}

impl<T> Inputs<T> {
    /// Keeps an input whose answer is unlike all before it. Whether it was taken.
    fn add(&mut self, input: T, answer: Answer) -> bool {
        let taken = matches!(answer, Answer::Taken(_));
        let inputs = if taken { &mut self.taken } else { &mut self.refused };
        if self.seen.insert(kind(answer)) && inputs.len() < KEPT {
            inputs.push(input);
        }
        taken
    }

    /// Most changes of what is refused are refused for the same reason.
    fn choose(&self, random: &mut Random) -> &T {
        random.of(if random.0.is_multiple_of(8) { &self.refused } else { &self.taken })
    }
}

/// Changes inputs until time is up. Gives the number of runs, of those that were taken, and of kinds of answers.
fn fuzz<T: Clone>(
    given: Vec<T>,
    change: impl Fn(&T, &T, &mut Random) -> T,
    bytes: impl Fn(&T) -> Vec<u8>,
    target: fn(&[u8]) -> Answer,
) -> (usize, usize, usize) {
    let end = Instant::now() + Duration::from_secs(setting("PATCHBAY_FUZZ_SECONDS", 6));
    let mut random = Random(setting("PATCHBAY_FUZZ_SEED", 20));
    let mut inputs = Inputs { taken: Vec::new(), refused: Vec::new(), seen: HashSet::new() };
    for input in given {
        let answer = run(target, &bytes(&input));
        inputs.add(input, answer);
    }
    let (mut runs, mut taken) = (0, 0);
    while Instant::now() < end {
        random.next();
        let mut input = inputs.choose(&mut random).clone();
        for _ in 0..*random.of(&[1, 1, 1, 2, 4]) {
            let other = inputs.choose(&mut random).clone();
            input = change(&input, &other, &mut random);
        }
        let answer = run(target, &bytes(&input));
        runs += 1;
        taken += usize::from(inputs.add(input, answer));
    }
    println!("{runs} runs, {taken} taken, {} kinds of answers", inputs.seen.len());
    (runs, taken, inputs.seen.len())
}

/// Most bytes that the process held so far, where the system says.
fn most_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<usize>().ok()? << 10)
}

fn assert_little_memory() {
    assert!(most_memory().is_none_or(|bytes| bytes < 1 << 30), "{:?}", most_memory());
}

#[test]
fn requests() {
    let bytes = |body: &Value| serde_json::to_vec(body).unwrap();
    let small = |body: Value, fallback: &Value| if body.to_string().len() < 16 << 10 { body } else { fallback.clone() };
    let changed = |body: &Value, other: &Value, random: &mut Random| small(change(body, other, random), body);
    let (runs, taken, kinds) = fuzz(corpus::requests(), changed, bytes, targets::request);
    assert!(runs > 500 && taken > 50 && kinds > 100, "{runs} runs, {taken} taken, {kinds} kinds of answers");
    assert_little_memory();
}

#[test]
fn texts() {
    let changed = |text: &String, other: &String, random: &mut Random| match random.below(4) {
        0 => {
            let lines: Vec<&str> = other.lines().collect();
            let line = if lines.is_empty() { "" } else { *random.of(&lines) };
            format!("{text}{line}\n").chars().take(8 << 10).collect()
        }
        _ => spliced(text, random),
    };
    let (runs, taken, kinds) = fuzz(corpus::texts(), changed, |text| text.clone().into_bytes(), targets::text);
    assert!(runs > 500 && taken > 50 && kinds > 100, "{runs} runs, {taken} taken, {kinds} kinds of answers");
    assert_little_memory();
}

/// Bytes that need not be JSON or UTF-8.
#[test]
fn bytes() {
    let mut random = Random(3);
    let (requests, texts) = (corpus::requests(), corpus::texts());
    for _ in 0..2000 {
        let mut input = match random.below(2) {
            0 => serde_json::to_vec(random.of(&requests)).unwrap(),
            _ => random.of(&texts).clone().into_bytes(),
        };
        for _ in 0..random.below(4) {
            let place = random.below(input.len());
            input[place] = random.next() as u8;
        }
        input.truncate(random.below(input.len()) + 1);
        run(targets::request, &input);
        run(targets::text, &input);
    }
}

/// Writes what fuzzing starts from into a folder, for a fuzzer that is driven by coverage.
#[test]
#[ignore = "writes the folder PATCHBAY_FUZZ_CORPUS"]
fn write_corpus() {
    let folder = std::env::var("PATCHBAY_FUZZ_CORPUS").unwrap();
    let write = |target: &str, inputs: Vec<Vec<u8>>| {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder).unwrap();
        for (i, input) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{i:03}")), input).unwrap();
        }
    };
    write("request", corpus::requests().iter().map(|body| serde_json::to_vec(body).unwrap()).collect());
    write("text", corpus::texts().into_iter().map(String::into_bytes).collect());
}
