//! How byte-level vocabularies cut a text before they merge: what `tokenizer.ggml.pre` stands for.
//!
//! llama.cpp names the cut and not its parts. These are the parts that the models' own `tokenizer.json` has, with the
//! normalizer that goes with them; llama.cpp's own expressions (`src/llama-vocab.cpp`) are these without the normalizer.

use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{PreTokenizerWrapper, Result, Tokenizer};

/// Contractions of any case, then words of letters with what stands before them.
macro_rules! cl100k {
    ($rest:expr) => {
        concat!(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|", $rest)
    };
}

/// What most expressions end with.
macro_rules! spaces {
    ($digits:expr) => {
        concat!($digits, r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    };
}

const LLAMA3: &str = cl100k!(spaces!(r"\p{N}{1,3}"));
const QWEN2: &str = cl100k!(spaces!(r"\p{N}"));
const SEED: &str = cl100k!(r"\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+");
const MINICPM5: &str = cl100k!(spaces!(r"\p{N}+"));
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const EXAONE_MOE: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
);
const BAILING: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const BLOOM: &str = r" ?[^(\s|[.,!?…。，、।۔،])]+";
const HAN: &str = "[一-龥ࠀ-一가-퟿]+";
const HAN_KANA: &str = "[一-龥぀-ゟ゠-ヿ]+";
const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Letters of scripts that have two cases.
const CASED: &str = concat!(
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅ",
    "ὐ-ὗὙὛὝὟ-\u{1F7D}ᾀ-ᾴᾶ-ᾼ\u{1FBE}ῂ-ῄῆ-ῌῐ-\u{1FD3}ῖ-\u{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳ",
    "Ꙁ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
);
const PUNCTUATION: &str = r"\s?[!-/:-~！-／：-～‘-‟　-。]+";

/// One step of a cut.
#[derive(Clone, Copy)]
enum Step {
    /// What the expression matches, and what lies between.
    Split(&'static str),
    /// GPT-2's expression; pieces are spelled in the byte alphabet from here on.
    Gpt2,
    /// Every digit alone.
    Digit,
    /// Every run of digits.
    Digits,
    /// Every run of punctuation.
    Punctuation,
}

use Step::{Digit, Gpt2, Split as By};

/// How a byte-level vocabulary cuts a text.
pub(super) struct Cut {
    /// Values of `tokenizer.ggml.pre`.
    pub(super) names: &'static [&'static str],
    /// Each applied to the pieces of the one before.
    steps: &'static [Step],
    /// Whether composed characters are made of what can be composed, first.
    composed: bool,
    /// Whether a piece that is a token is taken whole, without its merges being followed.
    pub(super) whole: bool,
}

const fn cut(names: &'static [&'static str], steps: &'static [Step]) -> Cut {
    Cut { names, steps, composed: false, whole: false }
}

const fn composed(names: &'static [&'static str], steps: &'static [Step]) -> Cut {
    Cut { composed: true, ..cut(names, steps) }
}

const fn whole(names: &'static [&'static str], steps: &'static [Step]) -> Cut {
    Cut { whole: true, ..cut(names, steps) }
}

/// Every cut that is known.
pub(super) const CUTS: &[Cut] = &[
    cut(&["default", "gpt-2", "gpt2", "phi-2", "jais", "trillion", "granite-docling", "exaone4"], &[Gpt2]),
    composed(&["olmo", "mpt"], &[Gpt2]),
    cut(&["smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"], &[Digit, Gpt2]),
    composed(&["command-r"], &[Digit, Gpt2]),
    whole(
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        &[By(LLAMA3)],
    ),
    cut(&["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"], &[By(LLAMA3)]),
    composed(&["qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "kormo", "f2llmv2"], &[By(QWEN2)]),
    cut(&["hunyuan", "grok-2", "solar-open"], &[By(QWEN2)]),
    composed(&["qwen35"], &[By(QWEN35)]),
    cut(&["seed-coder"], &[By(SEED)]),
    cut(&["bailingmoe", "bailingmoe2", "llada-moe"], &[By(BAILING)]),
    cut(&["exaone-moe"], &[By(EXAONE_MOE)]),
    cut(&["minicpm5"], &[By(r"\p{N}{1,3}"), By(MINICPM5)]),
    whole(&["tekken"], &[By(TEKKEN)]),
    cut(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[By(GPT4O)]),
    cut(&["bloom", "gpt3-finnish", "poro-chat"], &[By(BLOOM)]),
    cut(&["viking"], &[By(BLOOM), Digit]),
    cut(&["falcon"], &[Step::Punctuation, Gpt2, Step::Digits, By("[0-9][0-9][0-9]")]),
    cut(&["deepseek-llm"], &[By(r"[\r\n]"), By(CASED), By(PUNCTUATION), By(r"\s+$"), By(HAN), Digit]),
    cut(&["deepseek-coder"], &[By(r"[\r\n]"), By(r"\s?\p{L}+"), By(r"\s?\p{P}+"), By(HAN), Digit]),
    cut(&["deepseek-v3", "hunyuan-dense", "joyai-llm"], &[By(r"\p{N}{1,3}"), By(HAN_KANA), By(DEEPSEEK3)]),
    cut(&["superbpe"], &[By(r"\p{N}+"), By(r"(?=(\d{3})+(?!\d))")]),
];

impl Cut {
    /// The cut of this name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        CUTS.iter().find(|cut| cut.names.contains(&name))
    }

    /// Gives a tokenizer this cut.
    pub(super) fn dress(&self, inner: &mut Tokenizer) -> Result<()> {
        let mut steps = Vec::new();
        let mut spelled = false;
        for step in self.steps {
            steps.push(match step {
                By(expression) => {
                    let pattern = SplitPattern::Regex((*expression).to_owned());
                    PreTokenizerWrapper::Split(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?)
                }
                Gpt2 => PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true)),
                Digit => PreTokenizerWrapper::Digits(Digits::new(true)),
                Step::Digits => PreTokenizerWrapper::Digits(Digits::new(false)),
                Step::Punctuation => {
                    PreTokenizerWrapper::Punctuation(Punctuation::new(SplitDelimiterBehavior::Contiguous))
                }
            });
            spelled |= matches!(step, Gpt2);
        }
        if !spelled {
            steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)));
        }
        inner.with_pre_tokenizer(Some(Sequence::new(steps)));
        if self.composed {
            inner.with_normalizer(Some(NFC))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use tokenizers::models::bpe::BPE;
    use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    /// `tests/fixtures/make_cuts.py` recorded the pieces of many texts, with the Python package and Oniguruma's expressions.
    #[test]
    fn texts_are_cut_as_the_models_own_tokenizers_cut_them() {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cuts.json");
        let fixture: Value = serde_json::from_slice(&std::fs::read(fixture).unwrap()).unwrap();
        let texts = fixture["texts"].as_array().unwrap();
        for (name, expected) in fixture["cuts"].as_object().unwrap() {
            let mut inner = Tokenizer::new(BPE::default());
            Cut::find(name).unwrap().dress(&mut inner).unwrap();
            for (text, expected) in texts.iter().zip(expected.as_array().unwrap()) {
                let mut normalized = NormalizedString::from(text.as_str().unwrap());
                inner.get_normalizer().map(|normalizer| normalizer.normalize(&mut normalized)).transpose().unwrap();
                let mut pieces = PreTokenizedString::from(normalized);
                inner.get_pre_tokenizer().unwrap().pre_tokenize(&mut pieces).unwrap();
                let found = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
                let found: Vec<&str> = found.into_iter().map(|(piece, ..)| piece).collect();
                assert_eq!(Value::from(found), *expected, "{name}: {text}");
            }
        }
    }

    #[test]
    fn no_name_stands_for_two_cuts_and_every_cut_can_be_made() {
        let mut names: Vec<_> = CUTS.iter().flat_map(|cut| cut.names).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        for cut in CUTS {
            let mut inner = Tokenizer::new(BPE::default());
            cut.dress(&mut inner).unwrap();
            let mut pieces = PreTokenizedString::from("It's 1234 words, or 5\n  more");
            inner.get_pre_tokenizer().unwrap().pre_tokenize(&mut pieces).unwrap();
        }
    }
}
