//! Callers at two addresses of this machine.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Calm, quick};

/// Requests of the first caller.
const CROWD: usize = 100;

/// A trace of tens of milliseconds that has nothing in common with others.
fn large(number: usize) -> Value {
    rows(number, 30)
}

fn rows(number: usize, rows: usize) -> Value {
    let row = |row: usize| [vec![number, row], vec![7; 100]].concat();
    json!({"input": (0..rows).map(row).collect::<Vec<_>>(), "graph": [{"op": "save", "value": "logits[:, -1, :2]", "as": "x"}]})
}

fn client(last: u8) -> Client {
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    Client::builder().no_proxy().local_address(address).build().unwrap()
}

/// Traces come while a hundred of one caller wait: another caller's are next, the same caller's last if they are as large.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_behind_the_queue_of_another() {
    let calm = Calm::start(&[]).await;
    // so that the server learns how little it may take into one wave
    for number in 0..10 {
        calm.server.trace(&rows(210 + number, 150)).await;
    }
    let url = format!("{}/v1/trace", calm.server.url());
    let (first, second, answered) = (client(1), client(2), Arc::new(AtomicUsize::new(0)));
    let mut crowd = JoinSet::new();
    for number in 0..CROWD {
        let (send, answered) = (first.post(&url).json(&large(number)).send(), Arc::clone(&answered));
        crowd.spawn(async move {
            assert_eq!(send.await.unwrap().status(), 200);
            answered.fetch_add(1, Ordering::SeqCst);
        });
    }
    while answered.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut late = JoinSet::new();
    let begun = answered.load(Ordering::SeqCst);
    for (number, (who, client, body)) in [
        ("first, large", &first, large(200)),
        ("second, large", &second, large(201)),
        ("first, small", &first, quick(5)),
        ("second, small", &second, quick(6)),
    ]
    .into_iter()
    .enumerate()
    {
        let (send, answered) = (client.post(&url).json(&body).send(), Arc::clone(&answered));
        late.spawn(async move {
            assert_eq!(send.await.unwrap().status(), 200);
            let behind = answered.load(Ordering::SeqCst) - begun;
            eprintln!("{who}: behind {behind} others");
            (number, behind)
        });
    }
    let mut behind = [0; 4];
    while let Some(done) = late.join_next().await {
        let (number, others) = done.unwrap();
        behind[number] = others;
    }
    while let Some(done) = crowd.join_next().await {
        done.unwrap();
    }
    let [own, others, _, small_others] = behind;
    assert!(begun < CROWD / 3, "the crowd was gone before anybody could wait behind it");
    // a few waves that were on their way while the requests were read
    assert!(others.max(small_others) <= CROWD / 2, "{behind:?}");
    assert!(
        own >= others.max(small_others) + CROWD / 4,
        "a request as large as its caller's others comes after them: {behind:?}"
    );
    calm.still().await;
}
