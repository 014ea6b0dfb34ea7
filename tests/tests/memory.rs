//! Jobs take the memory that admission estimates, and as many as run at the same time fit the limits of the
//! containers. This is a single test, because it measures the peak of the process.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "the figures, with --nocapture")]

use std::{fs, thread};

use hermesh_aggregation::Join as _;
use hermesh_engine::artifact::append_digest;
use hermesh_engine::{
    ClientKey, Linear, Lookup, Matrix, ParameterSet, Precision, Program, Stage, encrypt,
};
use hermesh_mesh::wire::Step;
use hermesh_preprocessing::Prepare as _;

const MIB: u64 = 1 << 20;
/// Memory that the allocator keeps, and the threads of a pool.
const SLACK: u64 = 24 * MIB;

fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    let kibibytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    1024 * kibibytes.expect("a number")
}

/// The result, and the growth of memory at its peak.
fn peak<T>(work: impl FnOnce() -> T) -> (T, u64) {
    // Resets the peak to the current use.
    fs::write("/proc/self/clear_refs", "5").expect("Linux has it");
    let before = status("VmRSS");
    let result = work();
    (result, status("VmHWM").saturating_sub(before))
}

fn set(name: &str) -> &'static ParameterSet {
    ParameterSet::by_name(name).expect("a set of the catalogue")
}

/// One weight in each row.
fn linear(columns: u32, rows: u32) -> Linear {
    let matrix = Matrix::Sparse {
        columns,
        offsets: (0..=rows).collect(),
        indices: (0..rows)
            .map(|row| (u64::from(row) * u64::from(columns) / u64::from(rows)) as u32)
            .collect(),
        weights: vec![1; rows as usize],
    };
    Linear { matrix, bias: (0..u64::from(rows)).collect() }
}

fn program(set: &'static ParameterSet, stages: Vec<Stage>) -> Program {
    Program::new(set, Precision::Approximate, stages).expect("a program")
}

fn of_one_stage(columns: u32, rows: u32) -> Program {
    program(set("lwe-2048/1"), vec![Stage { linear: linear(columns, rows), lookup: None }])
}

fn encrypted(program: &Program, rows: usize) -> Vec<u8> {
    let (client, _) = ClientKey::generate(program.parameter_set());
    encrypt(&client, program, &vec![vec![0; program.inputs()]; rows]).expect("encrypts")
}

/// Preprocessing: `at_once` jobs at the same time.
fn begins(program: &Program, rows: usize, at_once: usize) {
    let engine = hermesh_preprocessing::Engine;
    let input = encrypted(program, rows);
    let weight = engine.weigh(program, &input).expect("weighs");
    let begin = || drop(engine.begin(program, &input, 16).expect("begins"));
    let ((), took) = peak(|| {
        thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(begin))));
    });
    let (weighed, columns, results) = (weight.memory, program.inputs(), program.outputs());
    println!(
        "begin {at_once} × {rows} × {columns} -> {results}: {} of {} MiB",
        took / MIB,
        at_once as u64 * weighed / MIB
    );
    assert!(took <= at_once as u64 * weighed + SLACK, "{took} bytes, weighed {weighed} each");
}

/// Aggregation: the partials of a first stage of zeros, the next Linear, and packing.
fn joins(width: u32, outputs: u32, rows: usize) {
    let set = set("tfhe-3x512-640/1");
    let lookup = Lookup { tables: vec![vec![0; 16]], table_of: vec![0; width as usize] };
    let first = Stage { linear: linear(1, width), lookup: Some(lookup) };
    let last = Stage { linear: linear(width, outputs), lookup: None };
    let program = program(set, vec![first, last]);
    let memory = program.cost(rows).memory;
    let (_, key) = ClientKey::generate(set);
    let engine = hermesh_aggregation::Engine;
    let (packing, _) = engine.key(key.encode()).expect("expands");

    let values = width * rows as u32;
    let mut partial = program.encode()[..10].to_vec();
    // The kind byte; after the header come names and position. See the engine's codec.
    partial[4] = 6;
    partial.extend(key.digest());
    partial.extend(program.digest());
    partial.extend([0, 0, values, values].into_iter().flat_map(u32::to_le_bytes));
    let header = partial.len();
    let ((), held) = peak(|| {
        partial.resize(header + values as usize * 4 * (set.output_dimension() + 1), 1);
        partial = append_digest(std::mem::take(&mut partial));
    });
    let (step, took) =
        peak(|| engine.advance(&program, 0, &[&partial], 16).expect("advances").value);
    println!(
        "advance {rows} × {width} -> {outputs}: {} of {} MiB",
        (took + partial.len() as u64) / MIB,
        memory / MIB
    );
    assert!(took + partial.len() as u64 <= memory + SLACK, "{took} and {held}, weighed {memory}");
    drop(partial);
    let Step::Outputs(outputs) = step else { panic!("more lookups") };
    let (_, took) = peak(|| drop(engine.pack(&program, &packing, &outputs).expect("packs")));
    println!("pack: {} of {} MiB", (took + outputs.len() as u64) / MIB, memory / MIB);
    assert!(took + outputs.len() as u64 <= memory + SLACK, "{took}, weighed {memory}");
}

/// The number after `key` in the part of a file that begins with `from`, in bytes.
fn limit(text: &str, from: &str, key: &str) -> u64 {
    let (_, part) = text.split_once(from).expect("the service");
    let (_, value) = part.split_once(key).expect("a limit");
    let digits: String = value.trim_start().chars().take_while(char::is_ascii_digit).collect();
    let unit = value.trim_start()[digits.len()..].chars().next();
    assert!(matches!(unit, Some('G' | 'g')), "a limit in gibibytes");
    digits.parse::<u64>().expect("a number") << 30
}

#[test]
fn jobs_take_what_they_were_weighed_at_and_fit_the_containers() {
    let options = hermesh_preprocessing::Options::default();
    let most = options.max_job_memory_bytes;

    // Long rows, whose ciphertexts are never all in memory; and many results, which are.
    begins(&of_one_stage(1 << 16, 4), 2, 1);
    begins(&of_one_stage(8, 1000), 2, 1);
    joins(2048, 64, 4);
    joins(256, 512, 4);

    // As many of the heaviest jobs as are begun at the same time.
    let heaviest = of_one_stage(1, 11_500);
    let weighed = heaviest.cost(2).memory;
    assert!(weighed <= most && weighed > most / 10 * 9, "{weighed} of {most}");
    begins(&heaviest, 2, options.in_flight);
    println!("peak of the process: {} MiB", status("VmHWM") / MIB);

    // Together with the caches, and the memory for decoding a model of the largest size.
    let compose = include_str!("../../compose.yaml");
    let kubernetes = include_str!("../../k8s/base/preprocessing.yaml");
    let together = options.in_flight as u64 * most + options.model_cache_bytes as u64;
    for limit in [
        limit(compose, "\n  preprocessing:\n", "mem_limit:"),
        limit(kubernetes, "name: service", "limits: { memory:"),
    ] {
        assert!(together + 512 * MIB <= limit, "preprocessing: {together} of {limit}");
    }
    let options = hermesh_aggregation::Options::default();
    let caches = (options.model_cache_bytes + options.key_cache_bytes) as u64;
    let together = options.in_flight as u64 * most + caches;
    let kubernetes = include_str!("../../k8s/base/aggregation.yaml");
    for limit in [
        limit(compose, "\n  aggregation:\n", "mem_limit:"),
        limit(kubernetes, "name: service", "limits: { memory:"),
    ] {
        assert!(together + 512 * MIB <= limit, "aggregation: {together} of {limit}");
    }
}
