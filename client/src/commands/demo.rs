//! Everything at once, on a bundled model. Keys live in memory and end with the process.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use hermesh_client::cli::Demo;
use hermesh_client::data::{self, Limits, Table};
use hermesh_client::keys::default_tenant;
use hermesh_client::terminal::{Picture, Style, TextTable, progress, units};
use hermesh_client::{compute, model};
use hermesh_compiler::network::{Label, Prediction};
use hermesh_compiler::{Model, Options, OutOfRange, onnx};
use hermesh_engine::ClientKey;
use hermesh_mesh::{SigningKey, telemetry};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index;

use super::mesh::Session;
use super::{count, print, print_styled, report};

/// A multilayer perceptron for scikit-learn's 8×8 digits, with test rows that it was not trained on.
const MODEL: &[u8] = include_bytes!("../../../examples/digits/mlp.onnx");
const CALIBRATION_IMAGES: &[u8] = include_bytes!("../../../examples/digits/calibration-images.npy");
const CALIBRATION_LABELS: &[u8] = include_bytes!("../../../examples/digits/calibration-labels.npy");
const TEST_IMAGES: &[u8] = include_bytes!("../../../examples/digits/test-images.npy");
const TEST_LABELS: &[u8] = include_bytes!("../../../examples/digits/test-labels.npy");
const IMAGE_WIDTH: usize = 8;

/// Offset of the ciphertext in an encrypted input, after header and digests.
const PAYLOAD: usize = 98;

pub(crate) fn run(options: &Demo) -> Result<()> {
    let style = Style::of_stdout();
    let model = compile(options, style)?;

    heading(style, "Keys")?;
    let spinner = progress::spinner("making keys");
    let start = Instant::now();
    let set = model.program().parameter_set();
    let pool = compute::pool(options.compute.threads)?;
    let (client, evaluation) = pool.install(|| ClientKey::generate(set));
    let signing = SigningKey::generate();
    spinner.finish_and_clear();
    print(&format!(
        "made in {}: a secret client key, which stays in this process's memory (hermesh keygen writes\n\
         one to a file, encrypted with a passphrase), and a public evaluation key of {}\n",
        units::seconds(start.elapsed().as_secs_f64()),
        units::bytes(evaluation.encode().len() as u64),
    ))?;

    heading(style, "Mesh")?;
    let tenant = default_tenant(&signing)?;
    let session =
        Session::start(options.compute.threads, tenant, signing, &evaluation, model.program())?;
    print(
        "key-management, preprocessing, evaluation and aggregation run in this process, on a bus in\n\
         memory; they have the evaluation key and the compiled program, and receive encrypted inputs\n",
    )?;

    heading(style, "Digits")?;
    let digits = Digits::choose(options)?;
    let mut outcome = Outcome::default();
    for (number, row) in digits.rows.iter().enumerate() {
        let shown = outcome.infer(&model, &client, &session, digits.row(*row)?)?;
        let truth = digits.labels.get(*row).context("a digit without a label")?;
        outcome.compare(&shown, truth);
        print_styled(&shown.lines(style, number + 1, digits.rows.len(), truth))?;
    }
    heading(style, "Summary")?;
    print(&outcome.summary(&model, &session, evaluation.encode().len()))?;
    heading(style, "What the services saw")?;
    print(&outcome.seen(&session))
}

fn heading(style: Style, text: &str) -> Result<()> {
    print_styled(&match style {
        Style::Ascii => format!("\n== {text} ==\n"),
        Style::Palette | Style::TrueColor => format!("\n\x1b[1m{text}\x1b[0m\n"),
    })
}

fn compile(options: &Demo, style: Style) -> Result<Model> {
    print("hermesh demo: services recognise handwritten digits that they cannot see\n")?;
    heading(style, "Model")?;
    let spinner = progress::spinner("compiling");
    let mut network = onnx::import(MODEL)?;
    network.name = "digits, a multilayer perceptron for pictures of 8 × 8 pixels".to_owned();
    let table = data::table_from(CALIBRATION_IMAGES, Limits::default())?;
    let labels = data::labels_from(CALIBRATION_LABELS, Limits::default())?;
    let labels = model::labels(&network.head, &labels);
    let rows: Vec<&[f64]> = table.values.chunks_exact(table.columns).collect();
    let asked = Options::default();
    let start = Instant::now();
    let model = compute::pool(options.compute.threads)?.install(|| {
        hermesh_compiler::compile(&network, &rows, Some(&labels), asked, &mut |_| {})
    })?;
    spinner.finish_and_clear();
    let seconds = units::seconds(start.elapsed().as_secs_f64());
    print(&report::brief(model.report(), None))?;
    print(&format!("compiled in   {seconds}\n"))?;
    Ok(model)
}

/// The test digits and the rows that are run.
struct Digits {
    table: Table,
    labels: Vec<Label>,
    rows: Vec<usize>,
}

impl Digits {
    fn choose(options: &Demo) -> Result<Self> {
        let table = data::table_from(TEST_IMAGES, Limits::default())?;
        let labels = match data::labels_from(TEST_LABELS, Limits::default())? {
            data::Labels::Integers(labels) => labels.into_iter().map(Label::Int).collect(),
            data::Labels::Names(labels) => labels.into_iter().map(Label::String).collect(),
        };
        let mut rng = StdRng::seed_from_u64(options.seed);
        let samples = options.samples.get().min(table.rows);
        let rows = index::sample(&mut rng, table.rows, samples).into_vec();
        Ok(Self { table, labels, rows })
    }

    fn row(&self, index: usize) -> Result<&[f64]> {
        self.table.row(index).context("a digit out of range")
    }
}

/// One digit, from picture to prediction.
struct Shown<'a> {
    pixels: &'a [f64],
    encrypted: Prediction,
    plain: Prediction,
    encrypt_seconds: f64,
    mesh_seconds: f64,
    decrypt_seconds: f64,
}

impl Shown<'_> {
    fn lines(&self, style: Style, number: usize, of: usize, truth: &Label) -> String {
        let picture = Picture::new(IMAGE_WIDTH, self.pixels).map(|picture| picture.lines(style));
        let label = |label: &Option<Label>| label.as_ref().map_or("?".into(), Label::to_string);
        let verdict = if self.encrypted.label.as_ref() == Some(truth) { "right" } else { "wrong" };
        let text = [
            String::new(),
            format!("digit {number} of {of}"),
            format!("predicted  {}", label(&self.encrypted.label)),
            format!("true       {truth}   {verdict}"),
            format!("latency    {}", units::seconds(self.mesh_seconds)),
            format!(
                "           encrypted in {}, decrypted in {}",
                units::seconds(self.encrypt_seconds),
                units::seconds(self.decrypt_seconds)
            ),
        ];
        let picture = picture.unwrap_or_default();
        let mut lines = String::new();
        for (index, line) in picture.iter().enumerate() {
            let text = text.get(index).map_or("", String::as_str);
            // Blanks of the picture are kept; blanks at the end of a line without text are not.
            let line = format!("  {line}   {text}");
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{}", line.trim_end());
        }
        lines
    }
}

/// Totals over the digits.
#[derive(Default)]
struct Outcome {
    samples: usize,
    encrypted_right: usize,
    plain_right: usize,
    agree: usize,
    encrypt_seconds: f64,
    mesh_seconds: f64,
    decrypt_seconds: f64,
    input: Vec<u8>,
    answer_bytes: usize,
}

impl Outcome {
    fn infer<'a>(
        &mut self,
        model: &Model,
        client: &ClientKey,
        session: &Session,
        row: &'a [f64],
    ) -> Result<Shown<'a>> {
        let one = Table::of_row(row);
        let bar =
            progress::bar(model.program().lookups_per_row() as u64, "computing", "bootstraps");
        let start = Instant::now();
        let input = model::encrypt(model, client, &one, OutOfRange::Refuse)?.bytes;
        let encrypt_seconds = start.elapsed().as_secs_f64();
        self.input.clone_from(&input);
        let start = Instant::now();
        let answer = session.infer(input, |status| bar.set_position(status.done))?;
        let mesh_seconds = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let mut predictions = model::decrypt(model, client, &answer, model.resolution())?;
        let decrypt_seconds = start.elapsed().as_secs_f64();
        bar.finish_and_clear();
        self.answer_bytes = answer.len();
        let encrypted = predictions.pop().context("an answer without a row")?;
        let plain = model.plain(row)?;
        Ok(Shown { pixels: row, encrypted, plain, encrypt_seconds, mesh_seconds, decrypt_seconds })
    }

    fn compare(&mut self, shown: &Shown<'_>, truth: &Label) {
        let right = |prediction: &Prediction| usize::from(prediction.label.as_ref() == Some(truth));
        self.samples += 1;
        self.encrypted_right += right(&shown.encrypted);
        self.plain_right += right(&shown.plain);
        self.agree += usize::from(shown.encrypted.label == shown.plain.label);
        self.encrypt_seconds += shown.encrypt_seconds;
        self.mesh_seconds += shown.mesh_seconds;
        self.decrypt_seconds += shown.decrypt_seconds;
    }

    fn summary(&self, model: &Model, session: &Session, key_bytes: usize) -> String {
        let share = |right: usize| {
            format!(
                "{right} of {} ({})",
                self.samples,
                units::percent(right as f64 / self.samples as f64)
            )
        };
        let mean = self.mesh_seconds / self.samples as f64;
        let mut operators = TextTable::new(["operator", "where", "values", "seconds", "each"]);
        let mut push = |name: &str, place: &str, values: u64, seconds: f64| {
            let each = units::seconds(seconds / values.max(1) as f64);
            operators.push([name, place, &values.to_string(), &format!("{seconds:.3}"), &each]);
        };
        push("encrypt", "client", self.samples as u64, self.encrypt_seconds);
        let times = telemetry::operator_times(session.embedded().registry());
        for (operator, place) in [
            ("linear", "preprocessing, aggregation"),
            ("keyswitch", "evaluation"),
            ("bootstrap", "evaluation"),
            ("pack", "aggregation"),
        ] {
            let (seconds, values) = times.get(operator).copied().unwrap_or_default();
            push(operator, place, values, seconds);
        }
        push("decrypt", "client", self.samples as u64, self.decrypt_seconds);
        format!(
            "encrypted     {} right\n\
             plain         {} right, and {} the same as encrypted\n\
             latency       {} on average, {} each\n\
             sizes         evaluation key {}, input {}, answer {}\n\n{operators}\
             seconds: summed over threads and digits\n",
            share(self.encrypted_right),
            share(self.plain_right),
            self.agree,
            units::seconds(mean),
            count(model.program().lookups_per_row(), "bootstrap"),
            units::bytes(key_bytes as u64),
            units::bytes(self.input.len() as u64),
            units::bytes(self.answer_bytes as u64),
        )
    }

    fn seen(&self, session: &Session) -> String {
        let mut table = TextTable::new(["subject", "messages", "bytes"]);
        for (class, traffic) in session.embedded().bus().traffic() {
            table.push([class, traffic.messages.to_string(), units::bytes(traffic.bytes)]);
        }
        let payload = self.input.get(PAYLOAD..PAYLOAD + 24).unwrap_or_default();
        let bytes: Vec<String> = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "{table}\nthe last picture, as it arrived:\n  {} …\n\
              all of it is public or encrypted; the client key stayed with the client\n",
            bytes.join(" ")
        )
    }
}
