//! Formats the compiler's report.

use std::fmt::Write;

use hermesh_client::quote::Quote;
use hermesh_client::terminal::{TextTable, units};
use hermesh_compiler::{Candidate, GridReport, Guarantee, Report, Source, StageReport, Unbounded};

/// The full report.
pub(super) fn full(report: &Report, quote: Option<&Quote>) -> String {
    let mut text = brief(report, quote);
    let mut stages = TextTable::new([
        "stage",
        "inputs",
        "outputs",
        "weights",
        "lookups",
        "tables",
        "noise",
        "of tables",
        "from",
    ]);
    for (index, stage) in report.stages.iter().enumerate() {
        stages.push(stage_cells(index, stage));
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "\n{stages}");
    text.push_str("noise: predicted standard deviation, as a fraction of the torus\n");
    let mut frontier = TextTable::new([
        "considered",
        "relative cost",
        "evaluation key",
        "accuracy",
        "agreement",
        "bits",
    ]);
    for candidate in &report.frontier {
        frontier.push(candidate_cells(candidate));
    }
    let _ = write!(text, "\n{frontier}");
    text
}

/// The summary, without the tables.
pub(super) fn brief(report: &Report, quote: Option<&Quote>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12}  {value}");
    };
    line("model", format!("{}, {}", report.model, report.precision));
    line(
        "parameters",
        format!("{}, {} bits of security", report.parameter_set, report.security_bits),
    );
    line("", report.why.clone());
    let saved = match report.pruned_lookups {
        0 => String::new(),
        saved => format!(", {saved} pruned or shared"),
    };
    line("bootstraps", format!("{} per inference{saved}", report.lookups));
    line("accuracy", accuracy(report));
    if let Some(failure) = report.failure_log2 {
        line("failure", format!("with a probability of at most 2^{failure:.0} per inference"));
    }
    if let Some(report) = &report.grid {
        let (compared, cost) = grid(report);
        line("grid", compared);
        line("", cost);
    }
    let steps = || report.resolution.iter().copied();
    let (finest, coarsest) = (steps().fold(f64::INFINITY, f64::min), steps().fold(0.0, f64::max));
    if coarsest > 0.0 {
        let range = match finest == coarsest {
            true => short(finest),
            false => format!("{} to {}", short(finest), short(coarsest)),
        };
        line("resolution", format!("scores are rounded to multiples of {range}"));
    }
    let off = || report.deviation.iter().copied();
    if let Some(most) = off().max_by(f64::total_cmp) {
        let least = off().fold(f64::INFINITY, f64::min);
        let range = if least == most {
            short(least)
        } else {
            format!("{} to {}", short(least), short(most))
        };
        line(
            "deviation",
            format!("of scores from the plain model's, {range}; accepted rows stay within six"),
        );
    }
    line("guarantee", guarantee(report));
    for warning in &report.warnings {
        line("warning", warning.clone());
    }
    line(
        "key",
        format!("{} (evaluation key, sent once)", units::bytes(report.evaluation_key_bytes as u64)),
    );
    line(
        "messages",
        format!(
            "{} in, {} back, for one row",
            units::bytes(report.input_bytes as u64),
            units::bytes(report.answer_bytes as u64)
        ),
    );
    if let Some(quote) = quote {
        line("latency", latency(quote));
    }
    text
}

/// `about 1.2 s on 2 threads (160 bootstraps per second)`
pub(super) fn latency(quote: &Quote) -> String {
    let threads = super::count(quote.threads, "thread");
    let rate = quote
        .bootstraps_per_second
        .map_or_else(String::new, |rate| format!(" ({rate:.0} bootstraps per second)"));
    format!("about {} on {threads} of this machine{rate}", units::seconds(quote.latency_seconds))
}

fn accuracy(report: &Report) -> String {
    let rows = super::count(report.rows_measured, "row");
    let held_out = if report.held_out { " kept out of calibration" } else { "" };
    let agreement = units::percent(report.agreement);
    match (report.plain_accuracy, report.simulated_accuracy) {
        (Some(plain), Some(simulated)) => format!(
            "{} plain, {} encrypted (simulated), {agreement} agree, over {rows}{held_out}",
            units::percent(plain),
            units::percent(simulated)
        ),
        _ => {
            format!("{agreement} agreement with the plain model (simulated), over {rows}{held_out}")
        }
    }
}

fn guarantee(report: &Report) -> String {
    let domain = match report.domain {
        Source::Declared => "the declared domain",
        Source::Bytes => "the domain of bytes, 0 to 255",
        Source::Observed => "the span of the calibration rows",
    };
    if report.guarantee == Guarantee::Bounded {
        return format!("bounded: no sum overflows for any row in {domain}");
    }
    let price = match &report.unbounded {
        Some(Unbounded { cheapest: Some(set), times }) => format!(
            "; bounded would need {} and take {} as long",
            set.parameter_set,
            times.map_or_else(|| "about".into(), |times| format!("{times:.1} times"))
        ),
        Some(Unbounded { cheapest: None, .. }) => {
            "; bounded is not possible with this accuracy under any parameter set".into()
        }
        None => String::new(),
    };
    format!("checked: the client evaluates each row in the clear before it encrypts it{price}")
}

/// The points that features are compared with, and their effect.
fn grid(grid: &GridReport) -> (String, String) {
    let comparisons = super::count(grid.comparisons, "comparison");
    let cells = grid.most_cells;
    if grid.reveals_thresholds {
        return (
            format!("{comparisons} with the model's own thresholds, exact on every row"),
            "the client model reveals these thresholds to every client".to_owned(),
        );
    }
    let folded = match grid.folded {
        0 => String::new(),
        folded => format!(", {folded} lie beyond the grid"),
    };
    (
        format!(
            "{comparisons} with quantiles of the calibration rows, at most {cells} cells per feature"
        ),
        format!(
            "{} of {} thresholds are moved to the nearest point{folded}: {} agreement with the plain model before noise",
            grid.moved,
            grid.thresholds,
            units::percent(grid.agreement)
        ),
    )
}

fn short(x: f64) -> String {
    if x < 0.01 { format!("{x:.2e}") } else { format!("{x:.3}") }
}

fn stage_cells(index: usize, stage: &StageReport) -> [String; 9] {
    let power = |log2: f64| format!("2^{log2:.1}");
    [
        index.to_string(),
        stage.inputs.to_string(),
        stage.outputs.to_string(),
        format!("{} bits", stage.weight_bits),
        stage.lookups.to_string(),
        stage.tables.to_string(),
        power(stage.noise_log2),
        stage.table_noise_log2.map_or_else(String::new, power),
        stage.name.clone(),
    ]
}

fn candidate_cells(candidate: &Candidate) -> [String; 6] {
    [
        candidate.parameter_set.clone(),
        format!("{:.1}", candidate.relative_cost),
        units::bytes(candidate.evaluation_key_bytes as u64),
        candidate.simulated_accuracy.map_or_else(|| "-".to_owned(), units::percent),
        units::percent(candidate.agreement),
        candidate.accumulator_bits.map_or_else(String::new, |bits| bits.to_string()),
    ]
}
