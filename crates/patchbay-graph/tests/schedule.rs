//! When things happen: the order of sites and of the list, passes, and what is left out.

mod common;

use common::{plan, plan_body, plan_pair, tree};
use patchbay_graph::plan::{Event, Pass, Plan, Source, WriteMode};
use patchbay_graph::{Code, Site};
use serde_json::{Value, json};

/// The accesses of a pass, each as `input/site` with what is done: `<` reads, `=` replaces, `+` adds.
fn accesses(plan: &Plan, pass: &Pass) -> Vec<String> {
    let name = |input: usize, site: Site| format!("{}/{site}", plan.inputs[input].name);
    let show = |step: &patchbay_graph::plan::Step| match step.event {
        Event::Compute(_) => None,
        Event::Read(id) => match &plan.values[id].source {
            Source::Read(read) => Some(format!("{} <", name(read.input, read.site))),
            source => panic!("a read of {source:?}"),
        },
        Event::Write(write) => {
            let write = &plan.writes[write];
            let sign = if write.mode == WriteMode::Add { '+' } else { '=' };
            Some(format!("{} {sign}{}", name(write.input, write.site), write.node))
        }
        Event::Grad { gradient, wrt } => {
            let wrt = &plan.gradients[gradient].wrt[wrt];
            Some(format!("{} d{gradient}", name(wrt.input, wrt.site)))
        }
    };
    pass.steps.iter().filter_map(show).collect()
}

fn passes(plan: &Plan) -> Vec<Vec<String>> {
    plan.passes.iter().map(|pass| accesses(plan, pass)).collect()
}

/// Every value is made once, after what it is made of and before it is written.
fn assert_in_order(plan: &Plan) {
    let mut made = vec![false; plan.values.len()];
    let make = |made: &mut Vec<bool>, id: usize| {
        assert!(!made[id], "value {id} is made twice");
        assert!(plan.values[id].args().iter().all(|arg| made[*arg]), "value {id} is made too early");
        made[id] = true;
    };
    plan.prologue.iter().for_each(|id| make(&mut made, *id));
    for pass in &plan.passes {
        assert!(pass.steps.windows(2).all(|pair| pair[0].site <= pair[1].site), "{pass:?}");
        for step in &pass.steps {
            match step.event {
                Event::Read(id) | Event::Compute(id) => make(&mut made, id),
                Event::Write(write) => assert!(made[plan.writes[write].value], "write {write} comes too early"),
                Event::Grad { .. } => {}
            }
        }
        for gradient in &pass.gradients {
            plan.gradients[*gradient].wrt.iter().for_each(|wrt| make(&mut made, wrt.value));
        }
        pass.after.iter().for_each(|id| make(&mut made, *id));
    }
    assert!(made.iter().all(|made| *made), "every value is made");
}

fn save(value: &str, name: &str) -> Value {
    json!({"op": "save", "value": value, "as": name})
}

#[test]
fn sites_come_in_their_own_order_nodes_of_one_site_in_that_of_the_list() {
    let plan = plan(json!([
        save("logits[:, -1]", "a"),
        save("layers.1.output", "before"),
        {"op": "set", "target": "layers.1.output", "value": 0},
        {"op": "steer", "layers": [1, 0], "vector": "@joy", "factor": 2},
        save("layers.1.output", "after"),
        save("layers.0.mlp.up", "early"),
    ]))
    .unwrap();
    assert_eq!(
        passes(&plan),
        [[
            "input/layers.0.mlp.up <",
            "input/layers.0.output +3",
            "input/layers.1.output <",
            "input/layers.1.output =2",
            "input/layers.1.output +3",
            "input/layers.1.output <",
            "input/logits <",
        ]]
    );
    assert_in_order(&plan);
    let names: Vec<&str> = plan.results.iter().map(|result| result.name.as_str()).collect();
    assert_eq!(names, ["a", "before", "after", "early"], "results keep the order of the list");
}

#[test]
fn a_site_may_be_written_with_what_was_read_of_it() {
    let scaled = json!({"op": "mul", "args": ["layers.2.output", 2]});
    let graph = json!([{"op": "set", "target": "layers.2.output", "value": scaled}, save("logits", "x")]);
    let found = plan(graph).unwrap();
    assert_eq!(passes(&found), [["input/layers.2.output <", "input/layers.2.output =0", "input/logits <"]]);
    assert_in_order(&found);
    // listed after the write, the read would have to see the value it makes
    let graph = json!([
        {"op": "set", "target": "layers.2.output", "value": "$a"},
        {"op": "mul", "args": ["layers.2.output", 2], "id": "a"},
        save("logits", "x"),
    ]);
    assert_eq!(plan(graph).unwrap_err().code, Code::BackwardFlow);
}

#[test]
fn values_flow_between_inputs_in_one_pass() {
    let plan = plan_pair(json!([
        save("corrupt/logits[:, -1]", "x"),
        {"op": "set", "target": "corrupt/layers.2.output[:, -1]", "value": "clean/layers.1.output[:, -1]"},
    ]))
    .unwrap();
    assert_eq!(passes(&plan), [["clean/layers.1.output <", "corrupt/layers.2.output =1", "corrupt/logits <"]]);
    let clean = &plan.passes[0].inputs[0];
    assert_eq!(clean.until.to_string(), "layers.1.output", "the clean run ends where it was read");
    assert!(clean.finished && clean.final_tokens.iter().all(Vec::is_empty));
    assert_eq!(plan.passes[0].inputs[1].unembedded, [[2]], "only the last token's logits are wanted");
    assert_eq!(plan.cost.layers_run, 4);
    assert_in_order(&plan);
}

#[test]
fn values_that_flow_back_into_another_input_take_a_second_pass() {
    let plan = plan_pair(json!([
        {"op": "set", "target": "corrupt/layers.0.output", "value": "clean/layers.3.output"},
        save("corrupt/logits", "x"),
        save("corrupt/embed_tokens.output", "e"),
    ]))
    .unwrap();
    assert_eq!(
        passes(&plan),
        [
            vec!["corrupt/embed_tokens.output <", "clean/layers.3.output <"],
            vec!["corrupt/layers.0.output =0", "corrupt/logits <"],
        ]
    );
    let shown: Vec<Vec<(usize, bool)>> =
        plan.passes.iter().map(|pass| pass.inputs.iter().map(|i| (i.input, i.finished)).collect()).collect();
    assert_eq!(shown, [vec![(0, true), (1, false)], vec![(1, true)]]);
    assert_in_order(&plan);
}

#[test]
fn crossing_values_take_as_many_passes_as_they_need() {
    let inputs: Vec<String> = (0..5).map(|i| format!("r{i}")).collect();
    let mut graph: Vec<Value> = (1..5)
        .map(|i| {
            let value = format!("r{}/layers.3.output", i - 1);
            json!({"op": "set", "target": format!("r{i}/layers.0.output"), "value": value})
        })
        .collect();
    graph.push(save("r4/logits", "x"));
    let texts: serde_json::Map<String, Value> = inputs.iter().map(|name| (name.clone(), json!("a b"))).collect();
    let plan = plan_body(&json!({"inputs": texts, "graph": graph})).unwrap();
    assert_eq!(plan.passes.len(), 5);
    assert!(plan.passes.iter().all(|pass| pass.inputs.len() == 1), "runs that wait do not run");
    assert_in_order(&plan);

    let crossed = plan_pair(json!([
        {"op": "set", "target": "corrupt/layers.2.output", "value": "clean/layers.3.output"},
        {"op": "set", "target": "clean/layers.3.input", "value": "corrupt/layers.1.output"},
        save("corrupt/logits", "x"),
    ]))
    .unwrap();
    assert_eq!(crossed.passes.len(), 2);
    assert_in_order(&crossed);
}

#[test]
fn inputs_that_wait_for_each_other_are_refused() {
    let problem = plan_pair(json!([
        {"op": "set", "target": "corrupt/layers.0.output", "value": "clean/layers.2.output"},
        {"op": "set", "target": "clean/layers.0.output", "value": "corrupt/layers.2.output"},
        save("corrupt/logits", "x"),
        save("clean/logits", "y"),
    ]))
    .unwrap_err();
    assert_eq!(problem.code, Code::BackwardFlow);
    assert!(problem.detail.contains("waits for it in turn"), "{problem}");
}

#[test]
fn skipped_blocks_do_not_run() {
    let found =
        plan(json!([{"op": "skip", "layers": [1, 2]}, save("logits[:, -1]", "x"), save("layers.2.output", "y")]));
    let found = found.unwrap();
    assert_eq!(found.cost.layers_run, 2);
    assert_eq!(found.skip_at(0, 2).map(|skip| (skip.first, skip.last)), Some((1, 2)));
    assert!(found.skip_at(0, 0).is_none() && found.skip_at(0, 3).is_none());
    let with = json!({"op": "skip", "layers": -1, "with": {"op": "mul", "args": ["layers.3.input", 2]}});
    let found = plan(json!([with, save("logits", "x")])).unwrap();
    assert_eq!(passes(&found), [["input/layers.3.input <", "input/logits <"]]);
    assert_in_order(&found);
    // the ends of the skipped part may be written
    let ends = json!([
        {"op": "skip", "layers": [1, 2]},
        {"op": "set", "target": "layers.1.input", "value": 0},
        {"op": "set", "target": "layers.2.output", "value": 0},
        save("logits", "x"),
    ]);
    assert_eq!(passes(&plan(ends).unwrap())[0].len(), 3);
}

#[test]
fn nothing_runs_that_nobody_reads() {
    for (value, layers, until) in [
        ("embed_tokens.output", 0, "embed_tokens.output"),
        ("layers.0.input", 0, "layers.0.input"),
        ("layers.2.input", 2, "layers.2.input"),
        ("layers.2.self_attn.q", 3, "layers.2.self_attn.q"),
        ("layers[-1].output", 4, "layers.3.output"),
        ("ln_final.output[:, 1]", 4, "ln_final.output"),
    ] {
        let plan = plan(json!([save(value, "x")])).unwrap();
        let input = &plan.passes[0].inputs[0];
        assert_eq!((plan.cost.layers_run, input.until.to_string().as_str()), (layers, until), "{value}");
    }
    let literal = plan(json!([{"op": "save", "value": {"op": "add", "args": [1, 2]}, "as": "x"}])).unwrap();
    assert!(literal.passes.is_empty());
    assert_in_order(&literal);
    let one = plan_pair(json!([save("clean/logits", "x")])).unwrap();
    assert_eq!(one.passes[0].inputs.len(), 1, "an input that nobody reads does not run");
}

#[test]
fn only_tokens_that_are_looked_at_reach_the_logits() {
    let body = json!({"input": ["a b c", "a", "a b"], "graph": [
        save("logits[:, -1]", "x"), save("logits[[0], 0]", "y"), save("next_token_probs[1]", "z"),
        save("ln_final.input[2, 0]", "w"),
    ]});
    let plan = plan_body(&body).unwrap();
    assert_eq!(plan.passes[0].inputs[0].final_tokens, [vec![0, 2], vec![0], vec![0, 1]]);
    assert_eq!(plan.passes[0].inputs[0].unembedded, [vec![0, 2], vec![0], vec![1]]);
}

#[test]
fn logits_that_nobody_looks_at_are_not_made() {
    let ids = |graph: &[Value]| {
        let plan = plan(json!(graph)).unwrap();
        (plan.passes[0].vocab.as_deref().map(<[u32]>::to_vec), plan.cost.flops)
    };
    let few = [
        save("logits[:, -1, 3]", "x"),
        save("lm_head.output[0, [0, 1], [-8, 3]]", "y"),
        save("logits[:, :, 3:4]", "z"),
    ];
    let (listed, flops) = ids(&few);
    assert_eq!(listed, Some(vec![3]));
    for more in [
        json!({"op": "top_tokens", "value": "logits[:, -1]", "k": 1, "as": "t"}),
        save("logits[:, 0, [1, 2, 3]]", "t"),
        json!({"op": "set", "target": "logits[:, -1, 3]", "value": 0}),
        json!({"op": "save", "value": {"op": "grad", "of": "logits[0, -1, 3]", "wrt": "logits"}, "as": "g"}),
    ] {
        let (listed, with) = ids(&[&[more][..], &few].concat());
        assert!(listed.is_none() && with > flops);
    }
    assert_eq!(ids(&[save("ln_final.output", "x")]).0, None);
}

#[test]
fn wildcards_stack_layers_and_lists_keep_their_order() {
    let plan = plan(json!([save("layers.*.output[:, -1]", "all"), save("layers.[3, 0, 3].output", "some")])).unwrap();
    let shapes: Vec<&[usize]> = plan.results.iter().map(|r| plan.values[r.value].shape.dims.as_slice()).collect();
    assert_eq!(shapes, [&[4, 1, 8][..], &[3, 1, 3, 8]]);
    assert_in_order(&plan);
}

/// nnterp steers a layer as often as it is listed; PyTorch's `x[:, [0, 0]] += v` adds to a token once.
#[test]
fn a_repeated_layer_is_steered_again_a_repeated_token_is_not() {
    let graph = json!([{"op": "steer", "layers": [1, 1], "vector": "@joy", "tokens": [0, 0, -3]}, save("logits", "x")]);
    let plan = plan(graph).unwrap();
    assert_eq!(passes(&plan)[0], ["input/layers.1.output +0", "input/layers.1.output +0", "input/logits <"]);
    for write in &plan.writes {
        assert_eq!(write.selection.shape().dims, [1, 3, 8]);
        assert_eq!(write.selection.tokens(1), [[0]]);
    }
}

#[test]
fn every_site_can_be_read_and_written() {
    for site in tree().sites() {
        let graph = json!([
            {"op": "set", "target": site.to_string(), "value": 0},
            save(&site.to_string(), "x"),
        ]);
        let plan = plan(graph).unwrap_or_else(|problem| panic!("{site}: {problem}"));
        assert_eq!(passes(&plan)[0], [format!("input/{site} =0"), format!("input/{site} <")]);
    }
}

#[test]
fn gradients_are_taken_when_the_pass_of_their_number_has_ended() {
    let plan = plan(json!([
        {"op": "sum", "args": ["logits[:, -1, 3]"], "id": "m"},
        save("layers.1.output", "h"),
        {"op": "steer", "layers": [1], "vector": "@joy"},
        {"op": "grad", "of": "$m", "wrt": ["layers.0.output", "layers.1.output"], "id": "g"},
        {"op": "save", "value": {"op": "mul", "args": ["$g", 2]}, "as": "x"},
    ]))
    .unwrap();
    assert_eq!(
        passes(&plan),
        [[
            "input/layers.0.output d0",
            "input/layers.1.output <",
            "input/layers.1.output +2",
            "input/layers.1.output d0",
            "input/logits <",
        ]]
    );
    assert_eq!((plan.passes[0].gradients.as_slice(), plan.passes[0].after.len()), (&[0][..], 2));
    assert_eq!(plan.values[plan.results[1].value].shape.dims, [2, 1, 3, 8], "several sites of one shape are stacked");
    assert_in_order(&plan);
}

#[test]
fn a_gradient_is_that_of_the_site_as_the_writes_before_it_leave_it() {
    // what is read of a site without a write in between is made of the same value, though it is listed first
    let plan = plan(json!([
        {"op": "sum", "args": ["layers.2.output"], "id": "m"},
        {"op": "grad", "of": "$m", "wrt": "layers.2.output", "id": "g"},
        save("$g", "x"),
    ]))
    .unwrap();
    assert_eq!(passes(&plan), [["input/layers.2.output d0", "input/layers.2.output <"]]);
    assert_in_order(&plan);
}

#[test]
fn a_wildcard_takes_what_is_written_layer_by_layer() {
    // every layer takes its own slice, as soon as it is there
    let frozen = plan_pair(json!([
        {"op": "set", "target": "corrupt/layers.[1, 2].mlp_add", "value": "clean/layers.[1, 2].mlp_add"},
        save("corrupt/logits", "x"),
    ]))
    .unwrap();
    assert_eq!(
        passes(&frozen),
        [[
            "clean/layers.1.mlp_add <",
            "corrupt/layers.1.mlp_add =0",
            "clean/layers.2.mlp_add <",
            "corrupt/layers.2.mlp_add =0",
            "corrupt/logits <",
        ]]
    );
    assert_in_order(&frozen);
    // a value without that axis goes to all of them, and any operation may make one with it
    for value in
        [json!("@joy"), json!({"op": "zeros", "args": [[4, 1, 3, 8]]}), json!({"op": "ones", "args": [[4, 1, 1, 1]]})]
    {
        let plan =
            plan(json!([{"op": "set", "target": "layers.*.output", "value": value}, save("logits", "x")])).unwrap();
        assert_eq!(plan.writes.len(), 4);
        assert_in_order(&plan);
    }
    let wrong = json!([{"op": "set", "target": "layers.*.output", "value": {"op": "zeros", "args": [[3, 1, 3, 8]]}}, save("logits", "x")]);
    assert_eq!(plan(wrong).unwrap_err().code, Code::ShapeMismatch);
}

#[test]
fn a_gradient_of_one_input_may_be_written_into_another() {
    let plan = plan_pair(json!([
        {"op": "sum", "args": ["clean/logits"], "id": "m"},
        {"op": "grad", "of": "$m", "wrt": "clean/layers.0.output", "id": "g"},
        {"op": "set", "target": "corrupt/layers.0.output", "value": "$g"},
        save("corrupt/logits", "x"),
    ]))
    .unwrap();
    assert_eq!(
        passes(&plan),
        [vec!["clean/layers.0.output d0", "clean/logits <"], vec!["corrupt/layers.0.output =2", "corrupt/logits <"]]
    );
    assert_in_order(&plan);
}

#[test]
fn what_is_made_of_nothing_is_made_before_the_first_pass() {
    let plan = plan(json!([
        {"op": "randn", "args": [[8]], "seed": 0, "id": "noise"},
        {"op": "set", "target": "embed_tokens.output",
         "value": {"op": "add", "args": ["embed_tokens.output", "$noise"]}},
        {"op": "save", "value": {"op": "mul", "args": ["$noise", {"op": "arange", "args": [8]}]}, "as": "made"},
        {"op": "save", "value": "layers.0.output", "as": "x"},
    ]))
    .unwrap();
    assert_in_order(&plan);
    assert_eq!(plan.prologue.len(), 3, "{plan:?}");
    assert_eq!(passes(&plan).len(), 1);
}
