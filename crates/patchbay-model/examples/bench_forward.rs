//! Times bare forward passes: `bench_forward MODEL [TOKENS …]`, with both kernels where `PLAIN` is set.
//!
//! Prints, for each number of tokens, the median and the best time of a pass in milliseconds.

use std::time::{Duration, Instant};

use patchbay_checkpoint::{HubSettings, Source, open};
use patchbay_graph::Site;
use patchbay_model::{Decoder, LoadOptions, Segments, Tap};

/// Wants the logits, so that the whole model runs.
struct Logits;

impl Tap for Logits {
    fn wants(&self, site: Site) -> bool {
        site == Site::Logits
    }

    fn visit(&mut self, _: Site, value: candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
        Ok(value)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let source = arguments.next().ok_or("usage: bench_forward MODEL [TOKENS …]")?;
    let mut lengths = arguments.map(|length| length.parse()).collect::<Result<Vec<usize>, _>>()?;
    if lengths.is_empty() {
        lengths = vec![1, 5, 16, 64, 512];
    }
    let started = Instant::now();
    let checkpoint = open(&Source::parse(&source)?, &HubSettings::default(), &|_| ())?;
    let decoder = Decoder::load(&checkpoint, &LoadOptions::default(), &|_| ())?;
    eprintln!("loaded {} parameters in {:?}", decoder.parameters(), started.elapsed());
    let mut decoders = vec![("cpu", decoder.clone())];
    if std::env::var_os("PLAIN").is_some() {
        decoders.push(("plain", decoder.differentiable()));
    }
    for length in lengths {
        for (name, decoder) in &decoders {
            let times = times(decoder, length)?;
            let (median, best) = (times[times.len() / 2].as_secs_f64() * 1e3, times[0].as_secs_f64() * 1e3);
            eprintln!("{name:>6} {length:>5} tokens: median {median:8.1} ms, best {best:8.1} ms");
        }
    }
    Ok(())
}

/// The times of passes over this many tokens, for about three seconds, sorted.
fn times(decoder: &Decoder, length: usize) -> candle_core::Result<Vec<Duration>> {
    let vocab = decoder.spec().vocab as u32;
    let ids: Vec<u32> = (0..length as u32).map(|token| token * 7919 % vocab).collect();
    let segments = Segments::from_lengths(&[length]);
    let started = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || started.elapsed() < Duration::from_secs(3) {
        let pass = Instant::now();
        decoder.forward(&ids, &segments, &mut Logits)?;
        times.push(pass.elapsed());
    }
    times.sort();
    Ok(times)
}
