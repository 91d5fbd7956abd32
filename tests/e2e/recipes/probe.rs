//! Probes: the regression is solved, and what is there to be read is read.

use serde_json::{Value, json};

use super::cook;
use crate::golden::numbers;
use crate::server::Server;
use crate::smollm2::smollm2;

/// The solution of a system of equations, by elimination.
fn solved(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let n = rows.len();
    for column in 0..n {
        let pivot = (column..n).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs())).unwrap();
        rows.swap(column, pivot);
        let used = rows[column].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(row, _)| *row != column) {
            let share = row[column] / used[column];
            row.iter_mut().zip(&used).for_each(|(number, used)| *number -= share * used);
        }
    }
    (0..n).map(|row| rows[row][n] / rows[row][row]).collect()
}

#[tokio::test]
async fn a_probe_is_the_ridge_regression() {
    let server = Server::with("llama-rope3").await;
    let prompts: Vec<Value> =
        (0..16).map(|i| json!({"text": [i, 3 * i % 17, 5 * i % 13], "label": i % 2 == 0})).collect();
    let found = cook(&server, "probe", &json!({"prompts": prompts, "layers": [1], "ridge": 0.7})).await;
    assert_eq!((&found["classes"], &found["held_out"]), (&json!(["false", "true"]), &json!([6, 7, 14, 15])));
    let texts: Vec<&Value> = prompts.iter().map(|prompt| &prompt["text"]).collect();
    let answer = server.trace(&json!({"input": texts, "graph": "save layers.1.output[:, -1] as x"})).await;
    let rows: Vec<Vec<f64>> = answer["results"]["x"]["data"].as_array().unwrap().iter().map(numbers).collect();
    let train: Vec<usize> = (0..16).filter(|row| ![6, 7, 14, 15].contains(row)).collect();
    let (n, width) = (train.len() as f64, rows[0].len());
    // standardised, one column after the other
    let mut x = vec![vec![0.0; width]; train.len()];
    for column in 0..width {
        let mean = train.iter().map(|row| rows[*row][column]).sum::<f64>() / n;
        let spread = (train.iter().map(|row| (rows[*row][column] - mean).powi(2)).sum::<f64>() / n).sqrt();
        train
            .iter()
            .enumerate()
            .for_each(|(place, row)| x[place][column] = (rows[*row][column] - mean) / (spread + 1e-6));
    }
    let size = x.iter().flatten().map(|x| x * x).sum::<f64>() / n + 1e-6;
    let y: Vec<f64> = train.iter().map(|row| if row % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let mean = y.iter().sum::<f64>() / n;
    // (XᵀX / s + λ) w = Xᵀ (y − mean) / s
    let system = (0..width).map(|i| {
        let product = |j: usize| x.iter().map(|row| row[i] * row[j]).sum::<f64>() / size;
        let right = x.iter().zip(&y).map(|(row, y)| row[i] * (y - mean)).sum::<f64>() / size;
        (0..width).map(|j| product(j) + if i == j { 0.7 } else { 0.0 }).chain([right]).collect()
    });
    let expected = solved(system.collect());
    let weights = numbers(&found["results"]["weights"]["data"]);
    let largest = expected.iter().fold(0.0f64, |most, w| most.max(w.abs()));
    for (feature, expected) in expected.iter().enumerate() {
        let found = weights[2 * feature + 1];
        assert!((found - expected).abs() <= 1e-3 * largest, "{feature}: {found}, not {expected}");
    }
}

#[tokio::test]
async fn praise_can_be_read_off_the_stream() {
    let Some(file) = smollm2() else { return };
    let server = Server::start(&["--model", &format!("smollm2={}", file.display())]);
    server.ready().await;
    let good = ["lovely", "wonderful", "great", "delightful", "excellent", "brilliant", "superb", "amazing"];
    let bad = ["nasty", "horrible", "awful", "dreadful", "terrible", "disgusting", "poor", "boring"];
    let of = |words: [&str; 8], label: &'static str| {
        let text = |(i, word): (usize, &&str)| {
            let thing = ["weather", "food", "film", "room"][i % 4];
            json!({"text": format!("The {thing} was {word}"), "label": label})
        };
        words.iter().enumerate().map(text).collect::<Vec<_>>()
    };
    let prompts = [of(good, "good"), of(bad, "bad")].concat();
    let found = cook(&server, "probe", &json!({"prompts": prompts, "layers": [5, 15, 25]})).await;
    assert_eq!(found["results"]["accuracy"]["data"], json!([1.0, 1.0, 1.0]), "{}", found["results"]["accuracy"]);
    assert_eq!(found["results"]["train_accuracy"]["data"], json!([1.0, 1.0, 1.0]));
}
