//! The fast kernels against the plain ones over random shapes, and their promise that a row's bits do not depend on its
//! company.

#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::slice;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor, Var};
use patchbay_model::kernels::{Cpu, Kernels, Plain, Scoring};
use patchbay_model::spec::{Activation, Alibi, AlibiOrigin, NormKind, Xielu};
use patchbay_model::{Linear, Norm, Pairing, Panels, Precision, RotaryRows, Segment, Segments, Span};
use proptest::prelude::*;

/// Normally distributed numbers that depend on the seed alone.
fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let count: usize = shape.iter().product();
    let normal = |_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
    Tensor::from_vec((0..count).map(normal).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    numbers(x).into_iter().map(f32::to_bits).collect()
}

fn close(found: &Tensor, expected: &Tensor, tolerance: f32) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (numbers(found), numbers(expected));
    let largest = expected.iter().filter(|x| x.is_finite()).fold(1e-3f32, |largest, x| largest.max(x.abs()));
    for (found, expected) in found.iter().zip(&expected) {
        let same = found == expected || (found - expected).abs() <= tolerance * largest;
        prop_assert!(same, "{} is not {}", found, expected);
    }
    Ok(())
}

fn linear(out: usize, input: usize, seed: u64, bias: bool) -> Linear {
    Linear { weight: random(&[out, input], seed).into(), bias: bias.then(|| random(&[out], seed + 1)) }
}

/// Segments, and the query, key and value heads of their tokens.
fn attention_input(
    lengths: &[usize],
    kv_heads: usize,
    group: usize,
    [dim, value]: [usize; 2],
    seed: u64,
) -> (Segments, [Tensor; 3]) {
    let segments = Segments::from_lengths(lengths);
    let heads = |count, dim, seed| random(&[segments.tokens(), count, dim], seed);
    let qkv = [heads(kv_heads * group, dim, seed), heads(kv_heads, dim, seed + 1), heads(kv_heads, value, seed + 2)];
    (segments, qkv)
}

fn scorings() -> impl Strategy<Value = Scoring> {
    let origin = prop_oneof![Just(AlibiOrigin::First), Just(AlibiOrigin::Last)];
    let alibi = (prop::collection::vec(0f32..1.0, 12), origin, any::<bool>(), 0.1f32..1.0)
        .prop_map(|(slopes, origin, rounded, factor)| Alibi { slopes, origin, rounded, factor });
    let spans = (prop::option::of(1usize..40), prop::option::of(1usize..40));
    let options = (prop::option::of(alibi), prop::option::of(prop::collection::vec(-3f32..3.0, 12)));
    (spans, prop::option::of(1f32..30.0), 0.05f32..1.0, options).prop_map(
        |((window, chunk), soft_cap, scale, (alibi, sinks))| Scoring { scale, soft_cap, alibi, window, chunk, sinks },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn projections_agree(rows in 0usize..40, input in 1usize..130, out in 1usize..70, bias: bool, seed in 1u64..1000) {
        let x = random(&[rows, input], seed);
        let (a, b) = (linear(out, input, seed + 7, bias), linear(3, input, seed + 9, !bias));
        let expected = Plain.linear(&x, &[&a, &b]).unwrap();
        for (found, expected) in Cpu::new().linear(&x, &[&a, &b]).unwrap().iter().zip(&expected) {
            close(found, expected, 2e-6)?;
        }
    }

    /// Weights of every precision are multiplied as what they stand for, forwards and backwards.
    #[test]
    fn panels_are_the_matrices_they_stand_for(
        rows in 1usize..40, input in 1usize..530, out in 1usize..70, which in 0usize..5, seed in 1u64..1000,
    ) {
        let precision = Precision::ALL[which];
        let panels = Panels::of(&random(&[out, input], seed + 7), precision).unwrap();
        prop_assert_eq!((panels.dims(), panels.precision()), ((out, input), precision));
        let whole = panels.tensor().unwrap();
        let picked = [out as u32 - 1, 0, out as u32 / 2];
        let expected = whole.index_select(&Tensor::new(&picked, &Device::Cpu).unwrap(), 0).unwrap();
        prop_assert_eq!(bits(&panels.select(&picked).unwrap()), bits(&expected));
        prop_assert!(panels.select(&[out as u32]).is_err());

        let kept = Linear { weight: panels.into(), bias: None };
        let plain = Linear { weight: whole.into(), bias: None };
        let (x, toward) = (random(&[rows, input], seed), random(&[rows, out], seed + 3));
        close(&Cpu::new().linear(&x, &[&kept]).unwrap()[0], &Plain.linear(&x, &[&plain]).unwrap()[0], 2e-6)?;
        let gradient = |kernels: &dyn Kernels, linear: &Linear| {
            let x = Var::from_tensor(&x).unwrap();
            let y = kernels.linear(&x, &[linear]).unwrap().remove(0);
            (y * &toward).unwrap().sum_all().unwrap().backward().unwrap().remove(&x).unwrap()
        };
        close(&gradient(&*Cpu::new().differentiable(), &kept), &gradient(&Plain, &plain), 2e-6)?;
    }

    /// Quantised weights are what candle's blocks of the same name stand for, bit by bit.
    #[test]
    fn quantised_panels_are_candles_blocks(blocks in 1usize..4, out in 1usize..70, fours: bool, seed in 1u64..1000) {
        let (precision, blocked, size) =
            if fours { (Precision::Q4K, GgmlDType::Q4K, 256) } else { (Precision::Q8_0, GgmlDType::Q8_0, 32) };
        let matrix = random(&[out, blocks * size], seed);
        let expected = QTensor::quantize(&matrix, blocked).unwrap().dequantize(&Device::Cpu).unwrap();
        prop_assert_eq!(bits(&Panels::of(&matrix, precision).unwrap().tensor().unwrap()), bits(&expected));
    }

    /// What is kept in fewer bits is near the numbers it was made of, also where a row's end fills no block.
    #[test]
    fn fewer_bits_stay_near(input in 1usize..300, out in 1usize..40, which in 1usize..5, seed in 1u64..1000) {
        let matrix = random(&[out, input], seed);
        let kept = Panels::of(&matrix, Precision::ALL[which]).unwrap().tensor().unwrap();
        // of the largest number: half a place of 16-bit floats and of 8 bits, and a whole one of 4, where candle's search for the least
        // squares may give up the largest number for the others
        close(&kept, &matrix, [0.0, 5e-4, 4e-3, 5e-3, 2.0 / 15.0][which])?;
    }

    #[test]
    fn a_projected_row_has_the_same_bits_alone(rows in 1usize..40, input in 1usize..130, out in 1usize..300, seed in 1u64..1000) {
        let (x, w) = (random(&[rows, input], seed), linear(out, input, seed + 7, true));
        let together = Cpu::new().linear(&x, &[&w]).unwrap().remove(0);
        for row in 0..rows {
            let alone = Cpu::new().linear(&x.narrow(0, row, 1).unwrap(), &[&w]).unwrap().remove(0);
            prop_assert_eq!(bits(&alone), bits(&together.narrow(0, row, 1).unwrap()));
        }
    }

    #[test]
    fn norms_agree(rows in 1usize..20, width in 1usize..200, rms: bool, bias: bool, seed in 1u64..1000) {
        let kind = if rms { NormKind::Rms } else { NormKind::Layer };
        let bias = (bias && !rms).then(|| random(&[width], seed + 2));
        let norm = Norm { kind, eps: 1e-5, weight: random(&[width], seed + 1), bias };
        let x = random(&[rows, width], seed);
        close(&Cpu::new().norm(&x, &norm).unwrap(), &Plain.norm(&x, &norm).unwrap(), 5e-6)?;
    }

    #[test]
    fn rotations_agree(tokens in 1usize..20, heads in 1usize..5, pairs in 1usize..20, start in 0usize..9, rest in 0usize..9, which in 0usize..3) {
        let pairing = [Pairing::Neighbours, Pairing::Halves, Pairing::NeighboursToHalves][which];
        let angles = random(&[tokens, pairs], 5);
        let rows = RotaryRows { cos: angles.cos().unwrap(), sin: angles.sin().unwrap(), start, pairing };
        let x = random(&[tokens, heads, start + 2 * pairs + rest], 6);
        close(&Cpu::new().rotate(&x, &rows).unwrap(), &Plain.rotate(&x, &rows).unwrap(), 1e-6)?;
    }

    #[test]
    fn activations_agree(rows in 1usize..9, width in 1usize..60, gated: bool, which in 0usize..7) {
        let kinds = [
            Activation::Silu,
            Activation::GeluErf,
            Activation::GeluTanh,
            Activation::Relu,
            Activation::ReluSquared,
            Activation::Xielu(Xielu { positive: 0.8, negative: 1.3, beta: 0.4, eps: -1e-6 }),
            Activation::ClampedSilu { sharpness: 1.702, limit: 2.0 },
        ];
        let x = (random(&[rows, width], 3) * 3.0).unwrap();
        let up = gated.then(|| random(&[rows, width], 4));
        let found = Cpu::new().activate(kinds[which], &x, up.as_ref()).unwrap();
        close(&found, &Plain.activate(kinds[which], &x, up.as_ref()).unwrap(), 1e-6)?;
    }

    #[test]
    fn attention_agrees_and_its_parts_have_the_bits_of_the_whole(
        lengths in prop::collection::vec(1usize..70, 1..4),
        kv_heads in 1usize..3,
        group in 1usize..4,
        dims in [1usize..90, 1usize..90],
        scoring in scorings(),
        seed in 1u64..1000,
    ) {
        let (segments, [q, k, v]) = attention_input(&lengths, kv_heads, group, dims, seed);
        let (cpu, heads) = (Cpu::new(), kv_heads * group);
        let scores = cpu.scores(&q, slice::from_ref(&k), &segments, &scoring).unwrap();
        close(&scores, &Plain.scores(&q, slice::from_ref(&k), &segments, &scoring).unwrap(), 5e-6)?;
        let sinks = scoring.sinks.as_ref().map(|sinks| &sinks[..heads]);
        let probs = cpu.probs(&scores, &segments, heads, sinks).unwrap();
        close(&probs, &Plain.probs(&scores, &segments, heads, sinks).unwrap(), 2e-6)?;
        let z = cpu.mix(&probs, slice::from_ref(&v), &segments, heads).unwrap();
        close(&z, &Plain.mix(&probs, slice::from_ref(&v), &segments, heads).unwrap(), 5e-6)?;
        let fused = cpu.attention(&q, slice::from_ref(&k), slice::from_ref(&v), &segments, &scoring).unwrap();
        prop_assert_eq!(bits(&fused), bits(&z));
    }

    #[test]
    fn a_segment_has_the_same_bits_alone(
        lengths in prop::collection::vec(1usize..60, 2..5),
        scoring in scorings(),
        seed in 1u64..1000,
    ) {
        let (segments, [q, k, v]) = attention_input(&lengths, 2, 2, [20, 12], seed);
        let together = Cpu::new().attention(&q, slice::from_ref(&k), slice::from_ref(&v), &segments, &scoring).unwrap();
        for segment in &segments {
            let part = |x: &Tensor| x.narrow(0, segment.start, segment.len).unwrap();
            let alone = Segments::from_lengths(&[segment.len]);
            let alone = Cpu::new().attention(&part(&q), &[part(&k)], &[part(&v)], &alone, &scoring).unwrap();
            prop_assert_eq!(bits(&alone), bits(&part(&together)));
        }
    }

    /// A sequence cut in runs, each of which looks back on the keys of the runs before it: some in a source of their own, some
    /// beside it in the same pass.
    #[test]
    fn a_sequence_in_runs_has_the_bits_of_the_whole(
        lengths in prop::collection::vec(1usize..40, 1..5),
        kept in any::<u8>(),
        group in 1usize..3,
        scoring in scorings(),
        seed in 1u64..1000,
    ) {
        let total: usize = lengths.iter().sum();
        let (whole, [q, k, v]) = attention_input(&[total], 2, group, [20, 12], seed);
        let (cpu, heads) = (Cpu::new(), 2 * group);
        let sinks = scoring.sinks.as_ref().map(|sinks| sinks[..heads].to_vec());
        let scoring = Scoring { sinks, ..scoring };
        let expected = cpu.attention(&q, slice::from_ref(&k), slice::from_ref(&v), &whole, &scoring).unwrap();

        let mut sources = [&k, &v].map(|x| vec![x.narrow(0, 0, 0).unwrap()]);
        let (mut spans, mut segments, mut rows, mut position) = (Vec::new(), Vec::new(), 0, 0);
        for (number, len) in lengths.iter().enumerate() {
            let part = |x: &Tensor| x.narrow(0, position, *len).unwrap();
            // a run of an earlier pass has a source of its own and is not computed here
            if kept >> number & 1 == 1 {
                spans.push(Span { source: sources[0].len(), start: 0, len: *len });
                sources[0].push(part(&k));
                sources[1].push(part(&v));
            } else {
                spans.push(Span { source: 0, start: rows, len: *len });
                let segment = Segment { start: rows, len: *len, position, length: total, keys: spans.clone() };
                segments.push(segment);
                rows += len;
                for (source, x) in sources.iter_mut().zip([&k, &v]) {
                    source[0] = Tensor::cat(&[&source[0], &part(x)], 0).unwrap();
                }
            }
            position += len;
        }
        let here = |x: &Tensor| {
            let parts = segments.iter().map(|segment| x.narrow(0, segment.position, segment.len).unwrap());
            let parts: Vec<Tensor> = parts.collect();
            if parts.is_empty() { x.narrow(0, 0, 0).unwrap() } else { Tensor::cat(&parts, 0).unwrap() }
        };
        let (queries, expected) = (here(&q), here(&expected));
        let segments = Segments::new(segments.clone());
        let [keys, values] = &sources;
        let fused = cpu.attention(&queries, keys, values, &segments, &scoring).unwrap();
        prop_assert_eq!(bits(&fused), bits(&expected));
        let scores = cpu.scores(&queries, keys, &segments, &scoring).unwrap();
        let probs = cpu.probs(&scores, &segments, heads, scoring.sinks.as_deref()).unwrap();
        prop_assert_eq!(bits(&cpu.mix(&probs, values, &segments, heads).unwrap()), bits(&expected));
        close(&Plain.attention(&queries, keys, values, &segments, &scoring).unwrap(), &expected, 5e-6)?;
    }
}

#[test]
fn spans_outside_of_their_sources_are_refused() {
    let (_, [q, k, v]) = attention_input(&[3], 1, 1, [4, 4], 1);
    let scoring = Scoring { scale: 1.0, soft_cap: None, alibi: None, window: None, chunk: None, sinks: None };
    let spans = |source, start, len| Segment { keys: vec![Span { source, start, len }], ..Segment::whole(0, 3) };
    for segment in [spans(1, 0, 3), spans(0, 1, 3), spans(0, 0, 2)] {
        let segments = Segments::new(vec![segment]);
        for kernels in [&Cpu::new() as &dyn Kernels, &Plain] {
            let error = kernels.attention(&q, slice::from_ref(&k), slice::from_ref(&v), &segments, &scoring);
            assert!(error.unwrap_err().to_string().contains("does not fit sources"));
        }
    }
}

#[test]
fn a_row_that_is_all_masked_is_nan_as_in_pytorch() {
    let scores = Tensor::full(f32::NEG_INFINITY, 4, &Device::Cpu).unwrap();
    let probs = Cpu::new().probs(&scores, &Segments::from_lengths(&[2]), 1, None).unwrap();
    assert!(numbers(&probs).iter().all(|prob| prob.is_nan()));
}

#[test]
fn fast_kernels_refuse_what_they_cannot_do() {
    let w = linear(4, 3, 1, false);
    let tracked = Var::from_tensor(&random(&[2, 3], 2)).unwrap();
    let error = Cpu::new().linear(tracked.as_tensor(), &[&w]).unwrap_err();
    assert!(error.to_string().contains("no backward"), "{error}");
    let half = random(&[2, 3], 2).to_dtype(DType::F16).unwrap();
    assert!(Cpu::new().linear(&half, &[&w]).unwrap_err().to_string().contains("float32"));
    let wide = random(&[2, 5], 2);
    assert!(Cpu::new().linear(&wide, &[&w]).unwrap_err().to_string().contains("3 inputs was given 5"));
    let (segments, [q, k, v]) = attention_input(&[3], 1, 1, [4, 4], 1);
    let scoring = Scoring { scale: 1.0, soft_cap: None, alibi: None, window: None, chunk: None, sinks: None };
    let longer = Segments::from_lengths(&[4]);
    assert!(Cpu::new().attention(&q, slice::from_ref(&k), slice::from_ref(&v), &longer, &scoring).is_err());
    assert!(Cpu::new().attention(&q, slice::from_ref(&k), slice::from_ref(&v), &segments, &scoring).is_ok());
}

#[test]
fn a_query_sees_its_own_chunk_of_positions() {
    let scoring = Scoring { scale: 1.0, soft_cap: None, alibi: None, window: None, chunk: Some(3), sinks: None };
    let first = |scoring: &Scoring| (0..7).map(|query| scoring.first_key(query)).collect::<Vec<_>>();
    assert_eq!(first(&scoring), [0, 0, 0, 3, 3, 3, 6]);
    assert_eq!(first(&Scoring { window: Some(2), ..scoring }), [0, 0, 1, 3, 3, 4, 6]);
}
