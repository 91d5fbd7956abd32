//! What is checked of every model when it is loaded, after nnterp's checks and with more.
//!
//! Each check runs the model itself on a few tokens. None of them needs a reference: they find a tree that does not
//! fit the model, attention that is not attention, writes that go nowhere, and a tokenizer that loses text.

use candle_core::{DType, Result, Tensor};
use patchbay_checkpoint::Tokenizer;
use patchbay_graph::{LayerSite, Packing, Site, Tree};
use serde::Serialize;

use crate::decoder::Decoder;
use crate::memory::NoMemory;
use crate::run::Run;
use crate::segments::Segments;
use crate::tap::{NoTap, Tap};

/// What the checks found.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// Each check, in the order in which they ran.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Its name, stable over versions.
    pub name: String,
    /// Whether the model stood it.
    pub passed: bool,
    /// What was found.
    pub detail: String,
}

/// Lengths of the rows that the checks run on.
const LENGTHS: [usize; 2] = [5, 3];
/// How far a row of attention probabilities may be from 1, and packed logits from those of a row alone, relatively.
const TOLERANCE: f32 = 1e-3;

/// Runs every check.
pub fn run_checks(decoder: &Decoder, tokenizer: Option<&Tokenizer>) -> CheckReport {
    let context = decoder.tree().context;
    let lengths = LENGTHS.map(|length| length.min(context));
    let trial = Trial { decoder, ids: ids(decoder, lengths.iter().sum()), segments: Segments::from_lengths(&lengths) };
    let checks = vec![
        check("sites", trial.sites()),
        check("attention_rows", trial.attention_rows()),
        check("attention_matters", trial.attention_matters()),
        check("skipping_matters", trial.skipping_matters()),
        check("rows_are_independent", trial.rows_are_independent()),
        check("tokenizer_round_trip", Ok(round_trip(tokenizer))),
    ];
    CheckReport { checks }
}

/// What a check found: passed or not, and why.
type Finding = std::result::Result<String, String>;

fn check(name: &str, finding: Result<Finding>) -> Check {
    let finding = finding.unwrap_or_else(|error| Err(format!("the model could not be run: {error}")));
    let passed = finding.is_ok();
    Check { name: name.to_owned(), passed, detail: finding.unwrap_or_else(|detail| detail) }
}

/// The distance from 1 to the next number of a type, where that is more than the tolerance.
fn last_place(dtype: DType) -> f32 {
    match dtype {
        DType::BF16 => 2f32.powi(-7),
        DType::F16 => 2f32.powi(-10),
        _ => 0.0,
    }
}

/// Ids spread over the vocabulary.
fn ids(decoder: &Decoder, count: usize) -> Vec<u32> {
    let vocab = decoder.tree().vocab;
    (1..=count).map(|place| (place * 7919 % vocab) as u32).collect()
}

struct Trial<'a> {
    decoder: &'a Decoder,
    ids: Vec<u32>,
    segments: Segments,
}

impl Trial<'_> {
    /// All sites are offered once, in order, finite and of the tree's shapes.
    fn sites(&self) -> Result<Finding> {
        let mut survey = Survey { tree: self.decoder.tree(), segments: &self.segments, seen: Vec::new(), wrong: None };
        self.decoder.forward(&self.ids, &self.segments, &mut survey)?;
        let Survey { seen, wrong, tree, .. } = survey;
        let expected: Vec<_> = tree.sites().collect();
        if let Some(wrong) = wrong {
            return Ok(Err(wrong));
        }
        let first_difference = (0..expected.len().max(seen.len())).find(|at| expected.get(*at) != seen.get(*at));
        Ok(match first_difference {
            None => Ok(format!("all {} sites have their shapes and finite values", seen.len())),
            Some(at) => Err(format!("site {at} is {}, not {}", name(seen.get(at)), name(expected.get(at)))),
        })
    }

    /// Attention probabilities add up to 1 for every query, with nothing above the diagonal.
    fn attention_rows(&self) -> Result<Finding> {
        let (tree, layers) = (self.decoder.tree(), &self.decoder.spec().layers);
        let sinks = |site: Site| site.layer().is_some_and(|layer| layers[layer].attention.sinks.is_some());
        let sinking = layers.iter().any(|layer| layer.attention.sinks.is_some());
        let mut worst: f32 = 0.0;
        let mut tolerance = TOLERANCE;
        let mut above = None;
        self.run(
            |site| matches!(site, Site::Layer(_, LayerSite::Probs)),
            |site, probs| {
                tolerance = tolerance.max(last_place(probs.dtype()));
                let flat = probs.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                let mut rest = flat.as_slice();
                let heads = site.layer().and_then(|layer| tree.layers.get(layer)).map_or(0, |layer| layer.heads);
                for len in self.segments.iter().flat_map(|segment| std::iter::repeat_n(segment.len, heads)) {
                    let (matrix, tail) = rest.split_at(len * len);
                    for (query, row) in matrix.chunks_exact(len.max(1)).enumerate() {
                        let excess = row.iter().sum::<f32>() - 1.0;
                        // A sink takes a share that no key has.
                        worst = worst.max(if sinks(site) { excess } else { excess.abs() });
                        if row[query + 1..].iter().any(|prob| *prob != 0.0) {
                            above = above.or(Some(site));
                        }
                    }
                    rest = tail;
                }
                Ok(probs)
            },
        )?;
        Ok(match above {
            Some(site) => Err(format!("{site} looks ahead of its query")),
            None if worst <= tolerance && sinking => {
                Ok("no row adds up to more than 1, what it lacks is its sink's".into())
            }
            None if worst <= tolerance => Ok(format!("every row adds up to 1 within {worst:.1e}")),
            None => Err(format!("a row is {worst:.1e} away from adding up to 1")),
        })
    }

    /// Taking away a block's attention changes the logits.
    fn attention_matters(&self) -> Result<Finding> {
        let layers = self.decoder.tree().layers.len();
        let before = self.logits(|_| false, Ok)?;
        let mut idle = Vec::new();
        for layer in [0, layers / 2, layers - 1] {
            let probs = Site::Layer(layer, LayerSite::Probs);
            let after = self.logits(|site| site == probs, |probs| probs.zeros_like())?;
            if distance(&before, &after) == 0.0 {
                idle.push(probs);
            }
        }
        Ok(match idle.first() {
            None => Ok("setting attention probabilities to 0 changes the logits".to_owned()),
            Some(site) => Err(format!("setting {site} to 0 leaves the logits as they are")),
        })
    }

    /// A block that is skipped changes the logits.
    fn skipping_matters(&self) -> Result<Finding> {
        let layers = self.decoder.tree().layers.len();
        let skipped = layers / 2;
        let before = self.logits(|_| false, Ok)?;
        let mut x = self.decoder.embed(&self.ids, &self.segments, &mut NoTap)?;
        for layer in (0..layers).filter(|layer| *layer != skipped) {
            x = self.decoder.block(layer, x, &mut Run::whole(&self.segments, &mut NoMemory), &mut NoTap)?;
        }
        let after = numbers(&self.decoder.project_on_vocab(&x, true)?)?;
        Ok(if distance(&before, &after) > 0.0 {
            Ok(format!("the logits change by up to {:.2e} without layer {skipped}", distance(&before, &after)))
        } else {
            Err(format!("the logits are the same without layer {skipped}"))
        })
    }

    /// A row's logits do not depend on what is packed beside it.
    fn rows_are_independent(&self) -> Result<Finding> {
        let packed = self.logits(|_| false, Ok)?;
        let vocab = self.decoder.tree().vocab;
        let mut worst: f32 = 0.0;
        for segment in &self.segments {
            let tokens = segment.start..segment.start + segment.len;
            let segments = Segments::from_lengths(&[segment.len]);
            let alone = Trial { decoder: self.decoder, ids: self.ids[tokens.clone()].to_vec(), segments };
            let alone = alone.logits(|_| false, Ok)?;
            let largest = alone.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
            worst = worst.max(distance(&alone, &packed[tokens.start * vocab..tokens.end * vocab]) / largest);
        }
        // Written so that a NaN fails.
        Ok(if worst <= TOLERANCE {
            Ok(format!("logits of packed rows equal those of the rows alone within {worst:.1e}"))
        } else {
            Err(format!("logits of packed rows are {worst:.1e} away from those of the rows alone"))
        })
    }

    /// The logits of a pass with one kind of site changed.
    fn logits(
        &self,
        changes: impl Fn(Site) -> bool,
        mut change: impl FnMut(Tensor) -> Result<Tensor>,
    ) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        self.run(
            |site| site == Site::Logits || changes(site),
            |site, value| {
                if site == Site::Logits {
                    logits = numbers(&value)?;
                    return Ok(value);
                }
                change(value)
            },
        )?;
        Ok(logits)
    }

    fn run(&self, wants: impl Fn(Site) -> bool, visit: impl FnMut(Site, Tensor) -> Result<Tensor>) -> Result<()> {
        self.decoder.forward(&self.ids, &self.segments, &mut Closures { wants, visit })
    }
}

/// A tap of two closures.
struct Closures<W, V> {
    wants: W,
    visit: V,
}

impl<W: Fn(Site) -> bool, V: FnMut(Site, Tensor) -> Result<Tensor>> Tap for Closures<W, V> {
    fn wants(&self, site: Site) -> bool {
        (self.wants)(site)
    }

    fn visit(&mut self, site: Site, value: Tensor) -> Result<Tensor> {
        (self.visit)(site, value)
    }
}

/// A tap that compares every site with the tree.
struct Survey<'a> {
    tree: &'a Tree,
    segments: &'a Segments,
    seen: Vec<Site>,
    /// The first thing that is not as it has to be.
    wrong: Option<String>,
}

impl Tap for Survey<'_> {
    fn wants(&self, _: Site) -> bool {
        true
    }

    fn visit(&mut self, site: Site, value: Tensor) -> Result<Tensor> {
        self.seen.push(site);
        let tokens = self.segments.tokens();
        let expected = match self.tree.packing(site) {
            Some(Packing::Channels { width }) => vec![tokens, width],
            Some(Packing::Heads { heads, dim }) => vec![tokens, heads, dim],
            Some(Packing::Pairs { heads }) => vec![self.segments.pairs(heads)],
            None => Vec::new(),
        };
        let masked = matches!(site, Site::Layer(_, LayerSite::Scores));
        let usable = |number: &f32| number.is_finite() || masked && *number == f32::NEG_INFINITY;
        if value.dims() != expected {
            self.wrong.get_or_insert(format!("{site} has shape {:?}, not {expected:?}", value.dims()));
        } else if !numbers(&value)?.iter().all(usable) {
            self.wrong.get_or_insert(format!("{site} has a value that is not finite"));
        }
        Ok(value)
    }
}

fn numbers(value: &Tensor) -> Result<Vec<f32>> {
    value.flatten_all()?.to_dtype(DType::F32)?.to_vec1()
}

/// The largest difference; NaN where there is one.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |largest, x| if x > largest || x.is_nan() { x } else { largest })
}

fn name(site: Option<&Site>) -> String {
    site.map_or_else(|| "missing".to_owned(), Site::to_string)
}

/// Text comes back from its tokens as it went in.
fn round_trip(tokenizer: Option<&Tokenizer>) -> Finding {
    const TEXTS: [&str; 3] = ["The capital of France is", "Two words, 37 more.", "a b"];
    let Some(tokenizer) = tokenizer else { return Ok("skipped: this model has no tokenizer".to_owned()) };
    for text in TEXTS {
        let encoding = tokenizer.encode(text, false).map_err(|error| error.to_string())?;
        let back = tokenizer.decode(&encoding.ids, true).map_err(|error| error.to_string())?;
        // SentencePiece tokenizers may put a space before the first word.
        if back.trim_start() != text {
            return Err(format!("{text:?} comes back as {back:?}"));
        }
    }
    Ok(format!("{} texts come back as they went in", TEXTS.len()))
}
