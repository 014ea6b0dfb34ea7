use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
}

fn refused(line: &str) -> ErrorKind {
    parse(line).expect_err(line).kind()
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

/// Scripts rely on these.
#[test]
fn the_forms_of_the_contract_parse() {
    for line in [
        "hermesh demo",
        "hermesh compile m.onnx --calibration x.npy -o m.hmx",
        "hermesh compile m.onnx --calibration x.npy --labels y.npy --precision exact \
         --accuracy-budget 0.5 -o m.hmx",
        "hermesh compile m.onnx --calibration x.npy --accuracy-budget 0.5 --no-measure -o m.hmx",
        "hermesh inspect m.hmx",
        "hermesh inspect --model m.hmx job.ct --json",
        "hermesh keygen --model m.hmx --out keys",
        "hermesh encrypt --model m.hmx --keys keys --input x.csv -o job.ct",
        "hermesh evaluate --model m.hmx --evaluation-key keys/evaluation.key --input job.ct \
         -o answer.ct",
        "hermesh decrypt --model m.hmx --keys keys --input answer.ct",
        "hermesh decrypt --model m --keys k --input a.ct --job 000102030405060708090a0b0c0d0e0f",
        "hermesh decrypt --model m.hmx --keys keys --input answer.ct -o y.npy --json --scores",
        "hermesh decrypt --model m.hmx --keys keys --input answer.ct --scores --raw --private",
        "hermesh infer --model m.hmx --keys keys --input x.npy --scores --share-noise 10",
        "hermesh infer --model m.hmx --keys keys --input x.gz --json",
        "hermesh evaluate --model m --evaluation-key e --input job.ct --repetitions 5 -o answer.ct",
        "hermesh eval --model m.hmx --inputs x --labels y --limit 200 --json",
        "hermesh eval --model m.hmx --inputs x --simulate-only",
        "hermesh quote --model m.hmx",
        "hermesh bench",
        "hermesh bench --parameter-set tfhe-3x512-768/1 --parameter-set lwe-2048/1 --seconds 0.5 --json",
        "hermesh bench --model m.hmx --threads 2",
        "hermesh encrypt --model m --keys k --input x -o job.ct --sign --deadline 10m --priority low",
        "hermesh infer --model m --keys k --input x --mesh nats://127.0.0.1:4222",
        "hermesh tenant register --keys k --mesh nats://127.0.0.1:4222 --accept-new-keys",
        "hermesh tenant show --keys k --json",
        "hermesh key upload --keys k",
        "hermesh key rotate --keys k --overlap 2d",
        "hermesh key list --keys k --json",
        "hermesh key audit --keys k --limit 5",
        "hermesh policy default",
        "hermesh policy check",
        "hermesh policy check policy.toml --json",
        "hermesh policy explain --identity tenant/acme --verb publish hermesh.job.acme",
        "hermesh policy explain policy.toml --identity tenant/acme --verb read hermesh.answer.acme.0",
        "hermesh policy render --certificate c --key k --roots r --store s",
        "hermesh policy render policy.toml --listen 0.0.0.0:4222 --certificate c --key k --roots r \
         --store s --monitoring 8222 --log l --max-payload 4MiB --handshake-first --sync-always",
        "hermesh model register m.hmx --keys k",
        "hermesh model list --keys k",
        "hermesh submit --model m --keys k --input x --wait --json --scores",
        "hermesh submit --model m --keys k --job job.ct --deadline 1h --priority high",
        "hermesh submit --keys k --pending",
        "hermesh status --keys k",
        "hermesh status 000102030405060708090a0b0c0d0e0f --keys k",
        "hermesh watch --keys k",
        "hermesh result 000102030405060708090a0b0c0d0e0f --keys k --model m -o y.npy --answer a.ct",
        "hermesh result 000102030405060708090a0b0c0d0e0f --keys k --answer a.ct --wait",
        "hermesh cancel 000102030405060708090a0b0c0d0e0f --keys k",
        "hermesh up --workers 4 --port 0 --dir d --threads 8",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let command = parse(
        "hermesh compile m.onnx --calibration x --labels y --precision exact --accuracy-budget \
         0.5 --failure-probability 2^-64 --grid thresholds --domain -1..1 --guarantee bounded --limit 100 --max-data 2GiB --threads 3 -o \
         m.hmx --json",
    );
    let expected = Compile {
        model: "m.onnx".into(),
        calibration: "x".into(),
        labels: Some("y".into()),
        precision: Some(Precision::Exact),
        accuracy_budget: Some(0.5),
        failure_probability: FailureProbability::TwoToMinus64,
        grid: Grid::Thresholds,
        domain: Some("-1..1".into()),
        guarantee: Some(Guarantee::Bounded),
        output: "m.hmx".into(),
        no_measure: false,
        data: Data { limit: NonZeroUsize::new(100), max_data: 2 << 30 },
        compute: Compute { threads: NonZeroUsize::new(3) },
        report: Report { json: true },
    };
    assert_eq!(command.unwrap(), Command::Compile(expected));
}

#[test]
fn defaults_are_the_documented_ones() {
    let Ok(Command::Compile(compile)) = parse("hermesh compile m --calibration x -o p") else {
        panic!("does not parse");
    };
    assert_eq!(compile.precision, None);
    assert_eq!(compile.failure_probability, FailureProbability::TwoToMinus128);
    assert_eq!(compile.data.limits(), crate::data::Limits::default());
    assert_eq!(compile.compute.threads, None);
}

#[test]
fn values_out_of_range_are_refused() {
    for line in [
        "hermesh eval --model m --inputs x --labels y --limit 0",
        "hermesh quote --model m --threads 0",
        "hermesh bench --parameter-set fast",
        "hermesh bench --seconds -1",
        "hermesh bench --seconds nan",
        "hermesh evaluate --model m --evaluation-key e --input j -o a --repetitions 0",
        "hermesh eval --model m --inputs x --labels y --max-data 1parsec",
        "hermesh eval --model m --inputs x --labels y --max-data 99999999999GiB",
        "hermesh eval --model m --inputs x --labels y --max-data 0",
        "hermesh compile m --calibration x --labels y --accuracy-budget -1 -o p",
        "hermesh compile m --calibration x --labels y --accuracy-budget=-1 -o p",
        "hermesh compile m --calibration x --labels y --accuracy-budget nan -o p",
        "hermesh decrypt --model m --keys k --input a --scores --resolution 0",
        "hermesh decrypt --model m --keys k --input a --scores --resolution inf",
        "hermesh decrypt --model m --keys k --input a --scores --share-noise 0",
        "hermesh decrypt --model m --keys k --input a --scores --share-noise nan",
        "hermesh keygen --model m --out d --tenant Caf\u{e9}",
        "hermesh submit --model m --keys k --input x --deadline 25h",
        "hermesh submit --model m --keys k --input x --deadline 0s",
        "hermesh submit --model m --keys k --input x --deadline 10",
        "hermesh submit --model m --keys k --input x --priority urgent",
        "hermesh tenant register --keys k --mesh http://127.0.0.1:4222",
        "hermesh tenant register --keys k --mesh nats://me:secret@127.0.0.1",
        "hermesh tenant register --keys k --service-key 00ff",
        "hermesh key revoke 00ff --keys k",
        "hermesh cancel 7 --keys k",
        "hermesh up --workers 0",
        "hermesh up --port 99999",
    ] {
        let kind = refused(line);
        assert!(
            matches!(kind, ErrorKind::ValueValidation | ErrorKind::UnknownArgument),
            "{line}: {kind:?}"
        );
    }
}

#[test]
fn what_an_option_depends_on_is_demanded() {
    for line in [
        "hermesh decrypt --model m --keys k --input a --resolution 0.1",
        "hermesh decrypt --model m --keys k --input a --raw",
        "hermesh encrypt --model m --keys k --input x",
        "hermesh submit --model m --keys k",
        "hermesh submit --keys k --input x",
        "hermesh key upload --keys k --overlap 1h",
        "hermesh result 000102030405060708090a0b0c0d0e0f --keys k",
    ] {
        assert_eq!(refused(line), ErrorKind::MissingRequiredArgument, "{line}");
    }
}

#[test]
fn what_excludes_each_other_is_refused() {
    for line in [
        "hermesh submit --model m --keys k --input x --job j",
        "hermesh bench --model m --parameter-set lwe-2048/1",
        "hermesh decrypt --model m --keys k --input a --private --share-noise 10",
        "hermesh submit --keys k --pending --wait",
        "hermesh submit --keys k --pending --input x",
    ] {
        assert_eq!(refused(line), ErrorKind::ArgumentConflict, "{line}");
    }
}

#[test]
fn times_are_read() {
    let Ok(Command::Key(Key::Rotate(rotate))) = parse("hermesh key rotate --keys k --overlap 2d")
    else {
        panic!("does not parse");
    };
    assert_eq!(rotate.overlap, Duration::from_secs(2 * 86_400));
    let Ok(Command::Submit(submit)) = parse("hermesh submit --model m --keys k --input x") else {
        panic!("does not parse");
    };
    assert_eq!(submit.terms.deadline, Duration::from_secs(600));
}

#[test]
fn every_option_has_help() {
    fn check(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            let name = format!("{} {}", command.get_name(), argument.get_id());
            assert!(argument.get_help().is_some(), "{name}");
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}
