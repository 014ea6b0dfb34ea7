use std::fmt::Write;

use anyhow::Result;
use hermesh_client::cli::Bench;
use hermesh_client::model;
use hermesh_client::quote::Costs;
use hermesh_client::speed::{self, Pools, Speed};
use hermesh_client::terminal::{TextTable, progress, units};
use hermesh_compiler::{Model, StageReport};
use hermesh_engine::ParameterSet;
use hermesh_engine::parameters::CATALOGUE;
use serde::Serialize;

use super::{count, print, print_json};

const EXPLANATION: &str = "\
Bootstraps, one per value that is looked up, take nearly all the time of an inference. A model's latency
is about its number of bootstraps (`hermesh inspect`) divided by the rate. In the first layer bootstraps
need no keyswitch, and are faster by its share. The evaluation key is sent once. Memory is what a server
needs for the expanded key, whatever the number of threads.
";

#[derive(Serialize)]
struct Document<'a> {
    threads: usize,
    sets: &'a [Speed],
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<ModelCosts<'a>>,
}

/// Costs of a model.
#[derive(Serialize)]
struct ModelCosts<'a> {
    name: &'a str,
    parameter_set: &'static str,
    bootstraps: usize,
    one_thread: &'a Costs,
    all_threads: &'a Costs,
    /// Largest part of the latency on all threads.
    largest: Share,
}

/// A part of the latency.
#[derive(Serialize)]
struct Share {
    what: String,
    /// From 0 to 1.
    share: f64,
}

pub(crate) fn run(options: &Bench) -> Result<()> {
    let model = options.model.as_deref().map(model::read_whole).transpose()?;
    let program = model.as_ref().map(Model::program);
    let sets: Vec<&'static ParameterSet> = match (program, options.parameter_set.as_slice()) {
        (Some(program), _) => vec![program.parameter_set()],
        (None, []) => CATALOGUE.iter().collect(),
        (None, named) => named.to_vec(),
    };
    let pools = Pools::new(options.compute.threads)?;
    let spinner = progress::spinner("measuring");
    let (mut speeds, mut costs) = (Vec::new(), None);
    for (index, set) in sets.iter().enumerate() {
        spinner.set_message(format!("measuring {}, {} of {}", set.name, index + 1, sets.len()));
        let speed;
        (speed, costs) = speed::measure(set, program, &pools, options.seconds)?;
        speeds.push(speed);
    }
    spinner.finish_and_clear();
    let model = model.as_ref().zip(costs.as_ref()).map(|(model, [one, all])| ModelCosts {
        name: &model.report().model,
        parameter_set: model.program().parameter_set().name,
        bootstraps: model.program().lookups_per_row(),
        one_thread: one,
        all_threads: all,
        largest: largest(all, &model.report().stages),
    });
    let document = Document { threads: pools.threads(), sets: &speeds, model };
    match options.report.json {
        true => print_json(&document),
        false => print(&text(&document)),
    }
}

fn largest(costs: &Costs, names: &[StageReport]) -> Share {
    let name = |stage: usize| names.get(stage).map_or("", |report| report.name.as_str());
    let stages = costs.stages.iter().enumerate().flat_map(|(index, stage)| {
        let of = format!("of stage {index} ({})", name(index));
        [
            (format!("the {} {of}", count(stage.bootstraps, "bootstrap")), stage.bootstrap_seconds),
            (format!("the Linear {of}"), stage.linear_seconds),
        ]
    });
    let pack = ("packing the answer".to_owned(), costs.pack_seconds);
    let largest = stages.chain([pack]).max_by(|a, b| a.1.total_cmp(&b.1));
    let (what, seconds) = largest.unwrap_or_default();
    Share { what, share: seconds / costs.latency_seconds.max(f64::MIN_POSITIVE) }
}

fn text(document: &Document<'_>) -> String {
    let threads = count(document.threads, "thread");
    let mut table = TextTable::new([
        "parameter set",
        "bootstraps/s, 1 thread",
        &format!("on {threads}"),
        "keyswitch",
        "evaluation key",
        "memory",
        "expanded in",
    ]);
    for speed in document.sets {
        let on_all = |of: fn(&speed::Throughput) -> String| {
            speed.all_threads.as_ref().map_or_else(|| "–".to_owned(), of)
        };
        let rate = |t: &speed::Throughput| format!("{:.1}", t.bootstraps_per_second);
        table.push([
            speed.parameter_set.to_owned(),
            speed.one_thread.as_ref().map_or_else(|| "–".to_owned(), rate),
            on_all(rate),
            on_all(|t| units::percent(t.keyswitch_share)),
            units::bytes(speed.evaluation_key_bytes as u64),
            units::bytes(speed.memory_bytes as u64),
            units::seconds(speed.key_expansion_seconds),
        ]);
    }
    let mut text = format!("{table}\n{EXPLANATION}");
    if let Some(model) = &document.model {
        model.write(&mut text);
    }
    text
}

impl ModelCosts<'_> {
    fn write(&self, text: &mut String) {
        let (one, all) = (self.one_thread, self.all_threads);
        let threads = count(all.threads, "thread");
        let mut table =
            TextTable::new(["stage", "bootstraps", "Linear", "bootstraps take", "share"]);
        let share = |seconds: f64| units::percent(seconds / all.latency_seconds);
        for (index, stage) in all.stages.iter().enumerate() {
            table.push([
                index.to_string(),
                stage.bootstraps.to_string(),
                units::seconds(stage.linear_seconds),
                units::seconds(stage.bootstrap_seconds),
                share(stage.seconds()),
            ]);
        }
        let pack = units::seconds(all.pack_seconds);
        table.push(["pack", "", &pack, "", &share(all.pack_seconds)]);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n{}: about {} for one row on {threads}, {} on 1; {}\n\n{table}\nThe largest part, {}, is {}.\n",
            self.name,
            units::seconds(all.latency_seconds),
            units::seconds(one.latency_seconds),
            count(self.bootstraps, "bootstrap"),
            units::percent(self.largest.share),
            self.largest.what,
        );
    }
}
