//! The results in an answer: tensors, and likeliest tokens.

use std::sync::Arc;

use patchbay_checkpoint::Tokenizer;
use patchbay_engine::{Answer, TokenScore};
use patchbay_graph::{DType, Encoding, Saved};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::nested::Nested;
use super::number::Number;
use super::spool::Spool;
use super::tensor::{WireTensor, converted, lengths};
use super::tensor_body::{Form, TensorBody};
use crate::Failure;

/// Results in the order of the graph; written as one object.
#[derive(Debug)]
pub struct NamedResults(pub Vec<(String, ResultBody)>);

impl Serialize for NamedResults {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_map(&self.0, serializer)
    }
}

/// Pairs as one object, in their order.
pub(super) fn as_map<S: Serializer, T: Serialize>(pairs: &[(String, T)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(pairs.len()))?;
    for (name, value) in pairs {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// One result.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub enum ResultBody {
    /// A tensor.
    Tensor(TensorBody),
    /// The likeliest tokens.
    Tokens {
        /// At each place.
        tokens: TopTokens,
    },
    /// A tensor that is in the caller's store.
    Handle(HandleBody),
    /// Lists of what rows of text are, nested as prompts and layers are.
    Texts(Value),
}

/// A tensor that is too large to be told in an event, and is in the caller's store.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = Handle, example = json!({"dtype": "f32", "shape": [1, 24, 576], "tensor": "@generate-2f8a0f1c.h"}))]
pub struct HandleBody {
    /// Type of its elements.
    pub dtype: &'static str,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// Its name in the store.
    pub tensor: String,
}

impl ResultBody {
    /// About how much there is to write, as bytes of elements.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Tensor(body) => body.tensor.byte_len(),
            Self::Handle(_) => 64,
            Self::Texts(value) => value.to_string().len(),
            Self::Tokens { tokens } => 32 * tokens.places.iter().map(Vec::len).sum::<usize>(),
        }
    }
}

/// The likeliest tokens at each place; written as lists nested as the places are.
#[derive(Debug)]
pub struct TopTokens {
    dims: Vec<usize>,
    places: Vec<Vec<TokenScore>>,
    tokenizer: Option<Arc<Tokenizer>>,
}

impl TopTokens {
    /// At each place the tokens, best first: id, text where there is a tokenizer, and probability.
    pub(crate) fn places(&self) -> impl Iterator<Item = impl Iterator<Item = (u32, Option<String>, f32)>> {
        let text = |id: u32| self.tokenizer.as_ref().map(|tokenizer| tokenizer.token_text(id));
        self.places.iter().map(move |place| place.iter().map(move |score| (score.id, text(score.id), score.prob)))
    }
}

/// A token and how likely it is.
#[derive(serde::Serialize)]
struct TokenBody {
    id: u32,
    /// As decoded alone; null where the model has no tokenizer.
    text: Option<String>,
    #[serde(serialize_with = "number")]
    prob: f32,
    #[serde(serialize_with = "number")]
    logit: f32,
}

/// A number as the elements of tensors are written.
pub(super) fn number<S: Serializer, T: Copy + Into<Number>>(x: &T, serializer: S) -> Result<S::Ok, S::Error> {
    (*x).into().serialize(serializer)
}

impl Serialize for TopTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let token = |score: &TokenScore| TokenBody {
            id: score.id,
            text: self.tokenizer.as_ref().map(|tokenizer| tokenizer.token_text(score.id)),
            prob: score.prob,
            logit: score.logit,
        };
        let place = |place: usize| self.places[place].iter().map(token).collect::<Vec<_>>();
        Nested::new(&self.dims, &place).serialize(serializer)
    }
}

/// How results are written, and what their tokens are called.
#[derive(Clone, Debug)]
pub struct Style {
    /// The form of the answer.
    pub encoding: Encoding,
    /// The type that floats are converted to.
    pub convert: Option<DType>,
    /// Of the model, if it came with one.
    pub tokenizer: Option<Arc<Tokenizer>>,
}

impl Style {
    /// A tensor as it will be written.
    pub fn tensor(&self, tensor: WireTensor) -> ResultBody {
        let form = match self.encoding {
            Encoding::Json => Form::Lists,
            Encoding::Base64 => Form::Base64,
            Encoding::Safetensors => Form::Elsewhere,
        };
        ResultBody::Tensor(TensorBody { tensor, form })
    }

    /// A tensor whose elements were gathered, as it will be written.
    ///
    /// # Errors
    /// Not all of them came, which is a fault of the server.
    pub fn gathered(&self, saved: &Saved, spool: Spool) -> Result<ResultBody, Failure> {
        let Saved { name, shape, dtype, .. } = saved;
        let came = spool.byte_len();
        let dtype = converted(*dtype, self.convert);
        let tensor = WireTensor::spooled(spool, dtype, shape.dims.clone(), lengths(shape));
        match came == tensor.byte_len() {
            true => Ok(self.tensor(tensor)),
            false => Err(Failure::internal(format!("{came} bytes came of `{name}`, not as many as planned"))),
        }
    }

    /// Tokens as they will be written.
    pub fn tokens(&self, dims: Vec<usize>, places: Vec<Vec<TokenScore>>) -> ResultBody {
        ResultBody::Tokens { tokens: TopTokens { dims, places, tokenizer: self.tokenizer.clone() } }
    }

    /// A result as it will be written.
    ///
    /// # Errors
    /// When a tensor cannot be read, which is a fault of the server.
    pub fn result(&self, answer: Answer) -> Result<ResultBody, Failure> {
        Ok(match answer {
            Answer::Tensor { tensor, shape, dtype } => {
                self.tensor(WireTensor::new(&tensor, dtype, lengths(&shape), self.convert)?)
            }
            Answer::Tokens { dims, tokens } => self.tokens(dims, tokens),
        })
    }
}
