//! The results, as a table or as JSON.

use std::fmt;
use std::num::NonZeroUsize;

use hermesh_client::terminal::TextTable;
use hermesh_client::terminal::units::{bytes, seconds};
use hermesh_compiler::Candidate;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::remote::Kind;
use crate::statistics::Summary;

/// The result of a comparison. The first pipeline is hermesh.
pub(crate) struct Report {
    pub(crate) model: String,
    pub(crate) processor: Option<String>,
    pub(crate) threads: NonZeroUsize,
    pub(crate) repetitions: usize,
    /// hermesh's parameter set.
    pub(crate) parameter_set: String,
    /// Reason for the compiler's choice, and the alternatives.
    pub(crate) why: String,
    pub(crate) frontier: Vec<Candidate>,
    pub(crate) classifies: bool,
    /// Number of inputs that the plain model labels right; `None` without labels.
    pub(crate) plain_right: Option<usize>,
    pub(crate) pipelines: Vec<Measured>,
}

/// Measurements of a pipeline.
#[derive(Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) pipeline: Kind,
    pub(crate) bootstraps: usize,
    pub(crate) seconds: Vec<f64>,
    /// Peak memory of the server while it loaded the key.
    pub(crate) loading_memory_bytes: u64,
    /// Peak memory of the server while it answered.
    pub(crate) answering_memory_bytes: u64,
    pub(crate) evaluation_key_bytes: u64,
    pub(crate) input_bytes: u64,
    pub(crate) answer_bytes: u64,
    /// Number of right labels.
    pub(crate) right: usize,
    /// Number of labels equal to those of the plain model.
    pub(crate) as_plain: usize,
}

impl Measured {
    pub(crate) fn new(pipeline: Kind, bootstraps: usize, evaluation_key_bytes: usize) -> Self {
        Self {
            pipeline,
            bootstraps,
            seconds: Vec::new(),
            loading_memory_bytes: 0,
            answering_memory_bytes: 0,
            evaluation_key_bytes: evaluation_key_bytes as u64,
            input_bytes: 0,
            answer_bytes: 0,
            right: 0,
            as_plain: 0,
        }
    }

    /// Bytes that one inference transfers, without the evaluation key.
    fn exchanged(&self) -> u64 {
        self.input_bytes + self.answer_bytes
    }
}

/// Ratios of another pipeline to hermesh.
#[derive(Serialize)]
struct Ratios {
    pipeline: Kind,
    latency: Option<Summary>,
    loading_memory: f64,
    answering_memory: f64,
    evaluation_key: f64,
    input: f64,
    answer: f64,
    input_and_answer: f64,
}

impl Ratios {
    fn new(other: &Measured, hermesh: &Measured) -> Self {
        let ratio = |of: fn(&Measured) -> u64| of(other) as f64 / of(hermesh) as f64;
        Self {
            pipeline: other.pipeline,
            latency: Summary::of_ratios(&other.seconds, &hermesh.seconds),
            loading_memory: ratio(|m| m.loading_memory_bytes),
            answering_memory: ratio(|m| m.answering_memory_bytes),
            evaluation_key: ratio(|m| m.evaluation_key_bytes),
            input: ratio(|m| m.input_bytes),
            answer: ratio(|m| m.answer_bytes),
            input_and_answer: ratio(Measured::exchanged),
        }
    }
}

impl Report {
    fn ratios(&self) -> Vec<Ratios> {
        let Some((hermesh, others)) = self.pipelines.split_first() else { return Vec::new() };
        others.iter().map(|other| Ratios::new(other, hermesh)).collect()
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Report", 10)?;
        object.serialize_field("model", &self.model)?;
        object.serialize_field("processor", &self.processor)?;
        object.serialize_field("threads", &self.threads)?;
        object.serialize_field("repetitions", &self.repetitions)?;
        object.serialize_field("parameter_set", &self.parameter_set)?;
        object.serialize_field("why", &self.why)?;
        object.serialize_field("frontier", &self.frontier)?;
        object.serialize_field("plain_right", &self.plain_right)?;
        object.serialize_field("pipelines", &self.pipelines)?;
        object.serialize_field("ratios", &self.ratios())?;
        object.end()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processor = self.processor.as_deref().unwrap_or("unknown processor");
        let (n, threads) = (self.repetitions, self.threads);
        let inputs = if n == 1 { "input" } else { "inputs" };
        let threads =
            if threads.get() == 1 { "1 thread".into() } else { format!("{threads} threads") };
        writeln!(f, "{}: {n} {inputs}, {threads}, {processor}", self.model)?;
        writeln!(f, "hermesh's parameters: {}, {}\n", self.parameter_set, self.why)?;
        let ratios = self.ratios();
        let mut table = TextTable::new(
            std::iter::once(String::new())
                .chain(self.pipelines.iter().map(|m| m.pipeline.name().into()))
                .chain(ratios.iter().map(|r| format!("{} ÷ hermesh", r.pipeline.name()))),
        );
        let mut row =
            |name: &str, cell: &dyn Fn(&Measured) -> String, ratio: &dyn Fn(&Ratios) -> String| {
                table.push(
                    std::iter::once(name.to_owned())
                        .chain(self.pipelines.iter().map(cell))
                        .chain(ratios.iter().map(ratio)),
                );
            };
        row("latency, median", &|m| latency(m, |s| s.median), &|r| {
            r.latency.map_or_else(String::new, |s| times(s.median))
        });
        row("latency, spread", &|m| spread(Summary::of(&m.seconds), seconds), &|r| {
            spread(r.latency, times)
        });
        row("bootstraps", &|m| m.bootstraps.to_string(), &|_| String::new());
        row("peak memory, loading the key", &|m| size(m.loading_memory_bytes), &|r| {
            saving(r.loading_memory)
        });
        row("peak memory, answering", &|m| size(m.answering_memory_bytes), &|r| {
            saving(r.answering_memory)
        });
        row("evaluation key, once", &|m| size(m.evaluation_key_bytes), &|r| {
            saving(r.evaluation_key)
        });
        row("input", &|m| size(m.input_bytes), &|r| saving(r.input));
        row("answer", &|m| size(m.answer_bytes), &|r| saving(r.answer));
        row("input and answer", &|m| size(m.exchanged()), &|r| saving(r.input_and_answer));
        if self.plain_right.is_some() {
            row("labels right", &|m| format!("{}/{n}", m.right), &|_| String::new());
        }
        if self.classifies {
            row("labels as in plain", &|m| format!("{}/{n}", m.as_plain), &|_| String::new());
        }
        write!(f, "{table}")?;
        match self.plain_right {
            Some(right) => {
                writeln!(f, "\nThe model in floating point has {right}/{n} labels right.")
            }
            None => Ok(()),
        }
    }
}

fn latency(measured: &Measured, of: fn(Summary) -> f64) -> String {
    Summary::of(&measured.seconds).map_or_else(String::new, |summary| seconds(of(summary)))
}

fn spread(summary: Option<Summary>, unit: fn(f64) -> String) -> String {
    summary.map_or_else(String::new, |s| format!("{} … {}", unit(s.min), unit(s.max)))
}

fn times(ratio: f64) -> String {
    if ratio < 99.5 { format!("{ratio:.1}×") } else { format!("{ratio:.0}×") }
}

/// `5.0× (80 % less)` for a ratio of another pipeline to hermesh, with the saving of hermesh.
fn saving(ratio: f64) -> String {
    if !ratio.is_finite() {
        return "unknown".into();
    }
    let difference = 100.0 * (1.0 / ratio - 1.0);
    let word = if difference > 0.0 { "more" } else { "less" };
    let percent = match difference.abs() {
        almost_all if (99.0..100.0).contains(&almost_all) && difference < 0.0 => {
            // Rounded down, so that it never prints 100.
            format!("{}", (almost_all * 100.0).floor() / 100.0)
        }
        percent => format!("{percent:.0}"),
    };
    format!("{} ({percent} % {word})", times(ratio))
}

fn size(count: u64) -> String {
    if count == 0 { "unknown".into() } else { bytes(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let measured = |pipeline, scale: u64| Measured {
            seconds: vec![scale as f64, 2.0 * scale as f64, 1.5 * scale as f64],
            loading_memory_bytes: 90_000_000 * scale,
            answering_memory_bytes: 50_000_000 * scale,
            input_bytes: 5_000 * scale,
            answer_bytes: 5_000 * scale,
            right: 2,
            as_plain: 3,
            ..Measured::new(pipeline, 10, 1_000_000 * scale as usize)
        };
        Report {
            model: "mlp".into(),
            processor: None,
            threads: NonZeroUsize::MIN,
            repetitions: 3,
            parameter_set: "set".into(),
            why: "the only one".into(),
            frontier: Vec::new(),
            classifies: true,
            plain_right: Some(2),
            pipelines: vec![measured(Kind::Hermesh, 1), measured(Kind::Conventional, 5)],
        }
    }

    #[test]
    fn ratios_are_to_hermesh() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["ratios"][0]["pipeline"], "conventional");
        assert_eq!(json["ratios"][0]["latency"]["median"], 5.0);
        assert_eq!(json["ratios"][0]["answering_memory"], 5.0);
        assert_eq!(json["pipelines"][0]["seconds"][1], 2.0);
    }

    #[test]
    fn the_table_says_how_much_is_saved() {
        let text = report().to_string();
        let line =
            |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("peak memory, answering").ends_with("5.0× (80 % less)"), "{text}");
        assert!(line("labels right").contains("2/3"), "{text}");
        assert!(line("latency, median").contains("7.50 s"), "{text}");
    }

    #[test]
    fn savings_never_flatter() {
        assert_eq!(saving(0.5), "0.5× (100 % more)");
        assert_eq!(saving(4000.0), "4000× (99.97 % less)");
        assert_eq!(saving(f64::NAN), "unknown");
    }
}
