use super::*;
use clap::Parser;
use hermesh_engine::reveal;

use super::report::Progress;

#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    files: Files,
}

fn files() -> Files {
    Defaults::parse_from(["leak"]).files
}

fn digits(model: &str) -> (Model, Vec<Vec<f64>>) {
    let (model, samples) = compiled(&files(), model).unwrap();
    let inputs = samples.inputs.slices().into_iter().map(<[f64]>::to_vec).collect();
    (model, inputs)
}

fn attack(inferences: usize, real: bool) -> Attack {
    let inferences = NonZeroUsize::new(inferences).unwrap();
    Attack { files: files(), inferences, real, seed: 7, json: false }
}

fn scores(inferences: usize, real: bool, share_noise: Option<f64>) -> Scores {
    Scores { attack: attack(inferences, real), resolution: 4.0, share_noise }
}

/// The client's budget.
fn at_the_budget(report: &Report) -> &Progress {
    report.progress.iter().find(|line| line.counted_bits >= report.budget_bits).unwrap()
}

#[test]
fn rounded_scores_give_the_key_away_but_not_within_the_budget() {
    let (model, inputs) = digits("mlp64.onnx");
    let inputs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
    let report = run_scores(&model, &inputs, &scores(1000, false, None)).unwrap();
    let last = report.progress.last().unwrap();
    // Ten thousand scores: the attack has nearly found the key.
    assert!(last.wrong < report.key_bits / 4 && last.work_log2 < 110.0, "{last:?}");
    let stop = at_the_budget(&report);
    assert!(stop.work_log2 >= reveal::REMAINING_SECURITY_BITS, "{stop:?}");
    // The bits counted exceed the bits found, while few are found.
    assert!(stop.found_bits < stop.counted_bits, "{stop:?}");

    let noisy = run_scores(&model, &inputs, &scores(1000, false, Some(10.0))).unwrap();
    let last = noisy.progress.last().unwrap();
    assert!(last.work_log2 >= reveal::REMAINING_SECURITY_BITS, "{last:?}");
    assert!(last.counted_bits < noisy.budget_bits, "{last:?}");

    // Real ciphertexts behave as simulated ones do. Rounded finely, few scores are enough to see it.
    let fine = |inferences, real| Scores { resolution: 0.5, ..scores(inferences, real, None) };
    let simulated = run_scores(&model, &inputs, &fine(300, false)).unwrap();
    let real = run_scores(&model, &inputs, &fine(30, true)).unwrap();
    assert!(simulated.explained > 0.2, "{simulated:?}");
    assert!((real.explained - simulated.explained).abs() < 0.15, "{real:?}, {simulated:?}");
}

#[test]
fn labels_on_a_boundary_give_the_key_away_but_not_within_the_budget() {
    let (model, inputs) = digits("mlp64.onnx");
    let inputs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
    let report = run_labels(&model, &inputs, &attack(8000, false)).unwrap();
    let last = report.progress.last().unwrap();
    assert!(last.work_log2 < reveal::REMAINING_SECURITY_BITS, "{last:?}");
    let stop = at_the_budget(&report);
    assert!(stop.work_log2 >= reveal::REMAINING_SECURITY_BITS, "{stop:?}");
    // About a bit each.
    assert!(stop.shown < 200, "{stop:?}");
}

#[test]
fn unrounded_outputs_give_the_answer_key_by_linear_algebra() {
    let (model, inputs) = digits("logreg.onnx");
    let inputs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
    let found = unrounded::run(&model, &inputs).unwrap();
    assert_eq!(found.wrong, 0, "{found:?}");
    assert!((1536..1600).contains(&found.shown), "{found:?}");
}
