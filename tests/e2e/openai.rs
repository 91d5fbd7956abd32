//! OpenAI's endpoints.

mod clients;
mod scored;
mod tools;
