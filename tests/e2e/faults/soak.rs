//! Many clients with random graphs, a third of whose connections are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use super::{Calm, quick};
use crate::common::Random;
use crate::graphs::{Generator, put_joy, tree};

const CLIENTS: u64 = 64;
const GRAPHS: u64 = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_soak() {
    soak("llama-gqa-tied", Duration::from_secs(8)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes"]
async fn a_long_soak() {
    for model in ["llama-gqa-tied", "gemma3"] {
        soak(model, Duration::from_secs(120)).await;
    }
}

/// Random graphs that are right, and what they give alone.
async fn alone(calm: &Calm, model: &str) -> Vec<(Value, Value)> {
    let tree = tree(model).await;
    put_joy(&calm.server, &tree).await;
    let mut graphs = Vec::new();
    for seed in 0..GRAPHS {
        let body = Generator::graph(&tree, 7000 + seed, false).body;
        let results = calm.server.trace(&body).await["results"].take();
        graphs.push((body, results));
    }
    graphs
}

/// Every answer is what it is alone, whoever is there or goes away; afterwards nothing is left of any of them.
async fn soak(model: &str, time: Duration) {
    let calm = Calm::of(model, &[]).await;
    let graphs = Arc::new(alone(&calm, model).await);
    // what the allocator keeps of a crowd is no leak; what it holds after a second one would be
    let calm = crowd(calm, &graphs, time / 4).await.settled();
    crowd(calm, &graphs, time).await.still().await;
}

async fn crowd(calm: Calm, graphs: &Arc<Vec<(Value, Value)>>, time: Duration) -> Calm {
    let (calm, end) = (Arc::new(calm), Instant::now() + time);
    let (answered, killed, company) =
        (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (calm, graphs) = (Arc::clone(&calm), Arc::clone(graphs));
        let (answered, killed, company) = (Arc::clone(&answered), Arc::clone(&killed), Arc::clone(&company));
        clients.spawn(async move {
            let mut random = Random(client);
            while Instant::now() < end {
                let (body, expected) = random.of(&graphs);
                if random.once_in(3) {
                    // hangs up while the request is sent, waits, runs or is answered
                    let patience = Duration::from_micros(random.below(60_000) as u64);
                    let send = async { calm.server.post("/v1/trace", body).await.bytes().await };
                    match tokio::time::timeout(patience, send).await {
                        Ok(_) => {}
                        Err(_) => drop(killed.fetch_add(1, Ordering::Relaxed)),
                    }
                    continue;
                }
                let mut answer = calm.server.trace(body).await;
                assert!(answer["results"].take() == *expected, "it has another answer alone: {body}");
                answered.fetch_add(1, Ordering::Relaxed);
                let others = answer["usage"]["co_batched"].as_u64().unwrap() as usize;
                company.fetch_max(others, Ordering::Relaxed);
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let [answered, killed, company] = [answered, killed, company].map(|count| count.load(Ordering::Relaxed));
    eprintln!("{answered} answered, {killed} killed, at most {company} in a wave");
    assert!(answered > 100 && killed > answered / 10 && company > 4, "{answered}, {killed}, {company}");
    // the queue is empty as soon as nobody is there
    let begin = Instant::now();
    let last = calm.server.trace(&quick(3)).await;
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(last["usage"]["co_batched"], 1);
    Arc::into_inner(calm).unwrap()
}
