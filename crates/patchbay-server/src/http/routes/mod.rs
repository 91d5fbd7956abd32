//! The routes, by what they are about.

pub(super) mod edits;
pub(super) mod generations;
pub(super) mod health;
pub(super) mod jobs;
pub(super) mod models;
pub(super) mod openai;
pub(super) mod recipes;
pub(super) mod sessions;
pub(super) mod tensors;
pub(super) mod tokens;
pub(super) mod traces;
