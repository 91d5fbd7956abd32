//! The built program, end to end: over a real socket, or from the command line.

#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod answers;
mod commands;
mod common;
mod contract;
mod datasets;
mod docs;
mod edits;
mod faults;
mod folder;
mod generations;
mod golden;
mod graphs;
mod hub;
mod jobs;
mod models;
mod openai;
mod parts;
mod precision;
mod prefixes;
mod problems;
mod python;
mod real;
mod recipes;
mod server;
mod smollm2;
mod sweeps;
mod tensors;
mod tokens;
