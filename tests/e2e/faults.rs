//! Clients that hang up, stall, flood and send nonsense: none of them takes the process, or another's request, with it.

mod clients;
mod crowds;
mod deadlines;
mod garbage;
mod peak;
mod soak;
mod soup;
mod turns;

use serde_json::{Value, json};

use crate::golden::Golden;
use crate::server::{Server, golden};

const MODEL: &str = "llama-rope3";

/// What a server answers before and after, and how much memory it holds.
struct Calm {
    server: Server,
    recorded: Golden,
    before: Vec<Value>,
    resident: u64,
}

impl Calm {
    /// A server that has answered every golden case.
    async fn start(flags: &[&str]) -> Self {
        Self::of(MODEL, flags).await
    }

    /// The same of another model.
    async fn of(model: &str, flags: &[&str]) -> Self {
        let folder = golden(model);
        let model = folder.display().to_string();
        let server = Server::start(&[&["--model", &model, "--log", "error"], flags].concat());
        server.ready().await;
        let recorded = Golden::read(&folder);
        let mut calm = Self { server, recorded, before: Vec::new(), resident: 0 };
        calm.before = calm.answers().await;
        calm.resident = calm.server.memory("VmRSS");
        calm
    }

    /// The results of every golden case, which are right.
    async fn answers(&self) -> Vec<Value> {
        let mut answers = Vec::new();
        for case in &self.recorded.cases {
            let mut answer = self.server.trace(&case["request"]).await;
            self.recorded.compare(case, &answer, "expect");
            answers.push(answer["results"].take());
        }
        answers
    }

    /// What the process holds now is where it starts from.
    fn settled(mut self) -> Self {
        self.resident = self.server.memory("VmRSS");
        self
    }

    /// The server answers to the bit as it did, and holds about as much memory once it rests.
    async fn still(self) {
        assert!(self.answers().await == self.before, "the answers are others than before");
        let mut grown = 0;
        for _ in 0..50 {
            grown = self.server.memory("VmRSS").saturating_sub(self.resident);
            if grown < 64 << 20 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        eprintln!("{} KiB more", grown >> 10);
        assert!(grown < 64 << 20, "{} MiB more than before", grown >> 20);
    }
}

/// A trace that takes hundreds of milliseconds: no two of its rows begin alike.
fn slow() -> Value {
    let row = |row: u32| [vec![row % 90, row / 90], vec![7; 118]].concat();
    json!({"input": (0..200).map(row).collect::<Vec<_>>(), "graph": [{"op": "save", "value": "logits[:, -1, :2]", "as": "x"}]})
}

/// A quick trace.
fn quick(token: u32) -> Value {
    json!({"input": [[token, 2, 3]], "graph": [{"op": "save", "value": "logits[:, -1]", "as": "x"}]})
}
