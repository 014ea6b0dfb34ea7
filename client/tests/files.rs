//! compile, keygen, encrypt, evaluate and decrypt on files, each as a separate process.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use hermesh_client::data::{self, Labels, Limits};
use serde_json::json;

#[test]
fn logistic_regression_answers_a_batch() {
    let fixture = regression();
    let (input, expected) = sure_rows(fixture, 50, "batch.csv");
    let job = fixture.encrypt(&input, "batch.ct");
    let answer = fixture.evaluate(&job, "batch-answer.ct");
    assert_eq!(ok(&fixture.decryption(&answer)), lines(&expected));

    let file = fixture.path("labels.npy");
    let mut arguments = fixture.decryption(&answer).to_vec();
    arguments.extend(["-o", &file, "--json"]);
    let mut document = json(&arguments);
    assert!(document["seconds"].take().as_f64().unwrap() > 0.0);
    assert!(document["revealed"].take()["labels"].as_u64().unwrap() >= 50);
    let expected_document =
        json!({"rows": 50, "labels": expected, "seconds": null, "revealed": null});
    assert_eq!(document, expected_document);
    let written = data::read_labels(Path::new(&file), Limits::default()).unwrap();
    assert_eq!(written, Labels::Integers(expected));
}

#[test]
fn a_perceptron_answers_one_row_and_a_batch() {
    let fixture = perceptron();
    for rows in [1, 3] {
        let (input, expected) = sure_rows(fixture, rows, &format!("{rows}.csv"));
        let job = fixture.encrypt(&input, &format!("{rows}.ct"));
        let answer = fixture.path(&format!("{rows}-answer.ct"));
        let mut arguments = fixture.evaluation(&job, &answer).to_vec();
        arguments.extend(["--threads", "2", "--repetitions", "2", "--json"]);
        let report = json(&arguments);
        let seconds = |value: &serde_json::Value| value.as_f64().unwrap();
        let [first, second] = &report["repetitions"].as_array().unwrap()[..] else {
            panic!("two repetitions in {report}");
        };
        let median = (seconds(first) + seconds(second)) / 2.0;
        assert!((seconds(&report["seconds"]) - median).abs() < 1e-9 && median > 0.0);
        if cfg!(target_os = "linux") {
            assert!(report["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
        }
        assert_eq!((&report["rows"], &report["threads"]), (&json!(rows), &json!(2)));
        let lookups = fixture.read_model().program().lookups_per_row();
        assert_eq!(report["bootstraps"], json!(rows * lookups));
        for operator in ["linear", "keyswitch", "bootstrap", "pack"] {
            let seconds = report["seconds_by_operator"][operator].as_f64().unwrap();
            assert!(seconds > 0.0, "{operator}");
        }
        assert_eq!(ok(&fixture.decryption(&answer)), lines(&expected));
    }
}

#[test]
fn scores_are_rounded_unless_raw_ones_are_asked_for() {
    let fixture = perceptron();
    let (input, _) = sure_rows(fixture, 2, "scored.csv");
    let job = fixture.encrypt(&input, "scored.ct");
    let answer = fixture.evaluate(&job, "scored-answer.ct");
    let file = fixture.path("scores.npy");
    let scores = |more: &[&str]| {
        let mut arguments = fixture.decryption(&answer).to_vec();
        arguments.extend(["--scores", "--json", "-o", &file]);
        arguments.extend(more);
        let document = json(&arguments);
        let table = data::read_table(Path::new(&file), Limits::default()).unwrap();
        assert_eq!((table.rows, table.columns), (2, 10));
        let printed = document["scores"][1].as_array().unwrap();
        // serde_json may read the last bit of a float differently.
        let same = |(a, &b): (&serde_json::Value, &f64)| (a.as_f64().unwrap() - b).abs() < 1e-12;
        assert!(printed.iter().zip(table.row(1).unwrap()).all(same), "{printed:?}");
        let steps = document["resolution"].as_array().unwrap();
        (table.values.clone(), steps.iter().map(|step| step.as_f64().unwrap()).collect::<Vec<_>>())
    };
    let multiple = |x: f64, of: f64| ((x / of).round() - x / of).abs() < 1e-9;
    let (stated, resolution) = scores(&[]);
    let model = fixture.read_model();
    let same = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
    assert_eq!(resolution.len(), model.resolution().len());
    assert!(resolution.iter().zip(model.resolution()).all(same));
    let steps = || resolution.iter().copied().cycle();
    assert!(stated.iter().zip(steps()).all(|(&x, step)| multiple(x, step)));
    let (halves, _) = scores(&["--resolution", "0.5", "--private"]);
    assert!(halves.iter().all(|&x| multiple(x, 0.5)));
    let (raw, zero) = scores(&["--raw", "--private"]);
    assert!(zero.iter().all(|&step| step == 0.0));
    assert!(!raw.iter().any(|&x| multiple(x, 0.5)));
    let near = |((raw, x), step): ((&f64, &f64), f64)| (raw - x).abs() <= step / 2.0 + 1e-9;
    assert!(raw.iter().zip(&stated).zip(steps()).all(near));
}

#[test]
fn a_key_shows_so_much_and_no_more_unless_only_its_owner_looks() {
    let fixture = regression();
    let keys = fixture.path("counted");
    assert_eq!(ok(&["keygen", "--model", &fixture.model, "--out", &keys]), "");
    let (input, labels) = sure_rows(fixture, 40, "counted.csv");
    let run_it = |more: &[&str]| {
        let infer = ["infer", "--model", &fixture.model, "--keys", &keys, "--input", &input];
        run(&[&infer[..], more].concat())
    };
    let counts = || -> serde_json::Value {
        let text = fs::read_to_string(Path::new(&keys).join("revealed.json")).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        document["keys"].as_object().unwrap().values().next().unwrap().clone()
    };

    // A few scores: counted before they are shown.
    let shown = run_it(&["--limit", "5", "--scores", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(counts()["scores"], json!(50));
    assert_eq!(document["revealed"]["scores"], json!(50));
    let bits = counts()["bits"].as_f64().unwrap();
    assert!((5.0..100.0).contains(&bits), "{bits}");

    // 400 scores are more than a key allows. The command fails before it computes, and counts nothing.
    let refused = run_it(&["--scores"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(1), &b""[..]));
    assert!(said.contains("--private") && said.contains("--share-noise"), "{said}");
    assert_eq!(counts()["scores"], json!(50));

    // With added noise they count for little; with --private the owner may see all of them, uncounted.
    assert!(run_it(&["--scores", "--share-noise", "10"]).status.success());
    let noisy = counts();
    assert_eq!(noisy["scores"], json!(450));
    assert!(noisy["bits"].as_f64().unwrap() < bits + 5.0, "{noisy}");
    assert!(run_it(&["--scores", "--raw", "--private"]).status.success());
    assert_eq!(counts(), noisy);

    // Labels far from a boundary reveal nothing.
    let shown = run_it(&[]);
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), lines(&labels));
    let labelled = counts();
    assert_eq!(labelled["labels"], json!(45));
    assert!(labelled["bits"].as_f64().unwrap() < noisy["bits"].as_f64().unwrap() + 0.1);

    // Unrounded scores cost several bits each: a few bring a warning, many are refused and not counted.
    let shown = run_it(&["--scores", "--raw", "--limit", "3"]);
    assert!(shown.status.success() && !shown.stdout.is_empty());
    let said = String::from_utf8(shown.stderr).unwrap();
    assert!(said.contains("warning: this key has revealed"), "{said}");
    let raw = counts();
    let refused = run_it(&["--scores", "--raw"]);
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(1), &b""[..]));
    assert_eq!(counts(), raw);
    assert!(run_it(&["--scores", "--raw", "--private"]).status.success());
}

#[test]
fn keys_that_are_no_pair_are_refused_before_they_travel() {
    let (fixture, other) = (regression(), perceptron());
    let keys = Path::new(&fixture.path("mixed")).to_owned();
    fs::create_dir(&keys).unwrap();
    fs::copy(Path::new(&fixture.keys).join("client.key"), keys.join("client.key")).unwrap();
    fs::copy(&other.evaluation_key, keys.join("evaluation.key")).unwrap();
    let (input, _) = sure_rows(fixture, 1, "unpaired.csv");
    let keys = keys.to_str().unwrap();
    let said = fails(&["infer", "--model", &fixture.model, "--keys", keys, "--input", &input]);
    assert!(said.contains("not a pair"), "{said}");
}

#[test]
fn what_belongs_to_others_is_refused() {
    let (fixture, other) = (regression(), perceptron());
    let (input, _) = sure_rows(fixture, 1, "one.csv");
    let job = fixture.encrypt(&input, "one.ct");
    let answer = fixture.evaluate(&job, "one-answer.ct");
    let unused = fixture.path("unused");

    // Another model, then another parameter set, then another key for the right model.
    let mut wrong = fixture.evaluation(&job, &unused);
    wrong[2] = &other.model;
    assert!(fails(&wrong).contains("parameter set"));
    let mut wrong = fixture.evaluation(&job, &unused);
    wrong[4] = &other.evaluation_key;
    assert!(fails(&wrong).contains("belongs to another key"));
    let mut wrong = fixture.decryption(&answer);
    wrong[4] = &other.keys;
    assert!(fails(&wrong).contains("belongs to another key"));
    let mut wrong = fixture.decryption(&answer);
    wrong[2] = &other.model;
    assert!(fails(&wrong).contains("parameter set"));
    // A job is not an answer.
    assert!(fails(&fixture.decryption(&job)).contains("expected an encrypted answer"));
    assert!(!Path::new(&unused).exists(), "a failed command leaves nothing behind");
}

#[test]
fn damaged_files_are_refused() {
    let fixture = regression();
    let (input, _) = sure_rows(fixture, 1, "whole.csv");
    let job = fixture.encrypt(&input, "whole.ct");
    let answer = fixture.evaluate(&job, "whole-answer.ct");
    let unused = fixture.path("nothing");
    let altered = |path: &str, alter: fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).unwrap();
        alter(&mut bytes);
        let altered = format!("{path}.altered");
        fs::write(&altered, bytes).unwrap();
        altered
    };
    let cut: fn(&mut Vec<u8>) = |bytes| bytes.truncate(bytes.len() - 1);
    // Damage in the middle: weights, bodies of ciphertexts, bits of keys.
    let flip: fn(&mut Vec<u8>) = |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    for alter in [cut, flip] {
        let path = altered(&job, alter);
        let message = fails(&fixture.evaluation(&path, &unused));
        assert!(message.contains("is damaged") && message.contains("hermesh encrypt"), "{message}");
        let path = altered(&answer, alter);
        let message = fails(&fixture.decryption(&path));
        assert!(message.contains("is damaged") && message.contains("fetch it again"), "{message}");
        assert!(message.contains(&path) && !message.contains("--job"), "{message}");
        let path = altered(&fixture.evaluation_key, alter);
        let mut arguments = fixture.evaluation(&job, &unused);
        arguments[4] = &path;
        assert!(fails(&arguments).contains("is damaged"));
        let path = altered(&fixture.model, alter);
        let message = fails(&["inspect", &path]);
        assert!(message.contains(&path) && message.contains("is damaged"), "{message}");
    }
    let missing = fixture.path("missing.hmx");
    assert!(fails(&["inspect", &missing]).contains("No such file"));
    assert!(fails(&["inspect", &input]).contains("found something else"));
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let fixture = regression();
    let job = fixture.path("none.ct");
    let encrypt = |input: &str| {
        fails(&[
            "encrypt",
            "--model",
            &fixture.model,
            "--keys",
            &fixture.keys,
            "--input",
            input,
            "-o",
            &job,
        ])
    };
    let short = fixture.path("short.csv");
    fs::write(&short, "1,2,3\n").unwrap();
    let message = encrypt(&short);
    assert!(message.contains("3 features") && message.contains("64"), "{message}");
    let long = fixture.path("long.csv");
    fs::write(&long, (["0"; 64].join(",") + "\n").repeat(1025)).unwrap();
    let message = encrypt(&long);
    assert!(message.contains("1024") && message.contains("--limit"), "{message}");
    let limited = json(&[
        "encrypt",
        "--model",
        &fixture.model,
        "--keys",
        &fixture.keys,
        "--input",
        &long,
        "-o",
        &job,
        "--limit",
        "1000",
        "--json",
    ]);
    assert_eq!(limited["rows"], json!(1000));
}

#[test]
fn an_exact_program_equals_its_reference() {
    let directory = scratch("exact");
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let (model, images) = (path("exact.hmx"), digits("calibration-images.npy"));
    let source = digits("logreg.onnx");
    let report = json(&[
        "compile",
        &source,
        "--calibration",
        &images,
        "--precision",
        "exact",
        "--failure-probability",
        "2^-64",
        "--accuracy-budget",
        "5",
        "--no-measure",
        "--json",
        "-o",
        &model,
    ]);
    assert_eq!(report["precision"], json!("exact"));
    assert!(report["failure_log2"].as_f64().unwrap() <= -64.0);
    // Without labels the report has agreement but no accuracy.
    assert!(report["agreement"].as_f64().unwrap() >= 0.95);
    assert_eq!(report["plain_accuracy"], json!(null));
    let (x, y) = (digits("test-images.npy"), digits("test-labels.npy"));
    let found = json(&[
        "eval", "--model", &model, "--inputs", &x, "--labels", &y, "--limit", "40", "--json",
    ]);
    assert_eq!(found["agreement"], json!(1.0));
}
