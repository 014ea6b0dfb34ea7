//! The commands `status`, `watch`, `result` and `cancel`.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, Result, bail};
use hermesh_client::Error;
use hermesh_client::cli::{Cancel, Fetch, Status, Watch};
use hermesh_client::files::{self, Audience, Existing};
use hermesh_client::keys::KeyDirectory;
use hermesh_client::model;
use hermesh_client::outbox::{Entry, State};
use hermesh_client::passphrase::{self, Purpose};
use hermesh_client::terminal::{TextTable, plain_line, progress};
use hermesh_mesh::client::State as Told;
use hermesh_mesh::wire::{Answer, Failure, Status as Progress};
use hermesh_mesh::{Clock as _, Digest, Error as MeshError, JobId, SystemClock};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::jobs::{check_model, decrypt, explain};
use super::remote::{Remote, when};
use super::{note, print, print_json};

/// Capacity of the queue of events of watched jobs.
const EVENTS: usize = 64;

pub(crate) fn status(options: &Status) -> Result<()> {
    let Some(id) = options.job else {
        return list(options);
    };
    let remote = Remote::open(&options.member)?;
    let entry = remote.keys.outbox().get(id)?;
    let pending = remote.connection.attach(&entry.job, &remote.services)?;
    let told = remote.connection.run(pending.look()).map_err(explain)?;
    let (mut document, line) = match &told {
        Told::Unknown => (json!({"state": "waiting"}), "waiting to be admitted".to_owned()),
        Told::Running(Progress { done, total, .. }) => (
            json!({"state": "running", "done": done, "total": total}),
            format!("running, {done} of {total} bootstraps done"),
        ),
        Told::Answered(_) => (json!({"state": "answered"}), "answered".to_owned()),
        Told::Failed(failure) => failed(failure),
    };
    let deadline = entry.job.context.deadline;
    document["job"] = json!(id.to_string());
    document["outbox"] = json!(entry.state.as_str());
    document["deadline"] = json!(deadline);
    match told {
        Told::Answered(_) => remote.note_end(id, State::Answered)?,
        Told::Failed(_) => remote.note_end(id, State::Failed)?,
        _ => {}
    }
    match options.member.report.json {
        true => print_json(&document),
        false => print(&format!(
            "{id}  {line}  (here: {}, deadline {})\n",
            entry.state.as_str(),
            when(deadline, remote.now())
        )),
    }
}

fn failed(failure: &Failure) -> (Value, String) {
    let Failure { code, message, retry_after, .. } = failure;
    let document = json!({
        "state": "failed",
        "code": code.as_str(),
        "message": message,
        "retryable": failure.retryable(),
        "retry_after_seconds": retry_after.map(|after| after.as_secs()),
    });
    (document, format!("failed: {}: {}", code.as_str(), plain_line(message)))
}

fn list(options: &Status) -> Result<()> {
    let entries = KeyDirectory::new(&options.member.keys).outbox().list()?;
    if options.member.report.json {
        let document = |entry: &Entry| {
            json!({
                "job": entry.id().to_string(),
                "state": entry.state.as_str(),
                "since": entry.since,
                "deadline": entry.job.context.deadline,
            })
        };
        return print_json(&entries.iter().map(document).collect::<Vec<_>>());
    }
    let now = SystemClock.now();
    let mut table = TextTable::new(["job", "state", "since", "deadline"]);
    for entry in &entries {
        table.push([
            entry.id().to_string(),
            entry.state.as_str().to_owned(),
            when(entry.since, now),
            when(entry.job.context.deadline, now),
        ]);
    }
    print(&table.to_string())
}

/// Event of a watched job.
enum Event {
    Progress(Progress),
    Ended(JobId, Box<Result<Answer, MeshError>>),
}

pub(crate) fn watch(options: &Watch) -> Result<()> {
    let remote = Remote::open(&options.member)?;
    let outbox = remote.keys.outbox();
    let entries = match options.job {
        Some(id) => vec![outbox.get(id)?],
        None => {
            let open = |entry: &Entry| matches!(entry.state, State::Signed | State::Submitted);
            outbox.list()?.into_iter().filter(open).collect()
        }
    };
    if entries.is_empty() {
        note("no job in the outbox is in progress");
        return Ok(());
    }
    let (sender, mut events) = mpsc::channel(EVENTS);
    let mut watching = Vec::new();
    for entry in &entries {
        watching.push(remote.connection.attach(&entry.job, &remote.services)?);
    }
    let mut tasks = JoinSet::new();
    let mut view = View::new(options.member.report.json);
    remote.connection.wait(async {
        for pending in watching {
            let (id, sender) = (pending.context().job, sender.clone());
            tasks.spawn(async move {
                // If the queue is full, this progress would be out of date when shown.
                let show = |status: &Progress| {
                    drop(sender.try_send(Event::Progress(status.clone())));
                };
                let outcome = pending.outcome(show).await;
                let _ = sender.send(Event::Ended(id, Box::new(outcome))).await;
            });
        }
        drop(sender);
        while let Some(event) = events.recv().await {
            if let Event::Ended(id, outcome) = &event {
                match &**outcome {
                    Ok(_) => remote.note_end(*id, State::Answered)?,
                    Err(MeshError::Failed(_)) => remote.note_end(*id, State::Failed)?,
                    Err(_) => {}
                }
            }
            view.show(&event)?;
        }
        Ok::<_, anyhow::Error>(())
    })
}

/// Draws bars on a terminal and prints lines elsewhere.
struct View {
    json: bool,
    bars: Option<Vec<(JobId, progress::ProgressBar)>>,
    several: progress::Bars,
}

impl View {
    fn new(json: bool) -> Self {
        let bars = (!json && io::stderr().is_terminal()).then(Vec::new);
        Self { json, bars, several: progress::Bars::default() }
    }

    fn show(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Progress(Progress { job, done, total, .. }) => {
                if let Some(bars) = &mut self.bars {
                    let known = bars.iter().position(|(known, _)| known == job);
                    let at = known.unwrap_or_else(|| {
                        bars.push((*job, self.several.add(*total, &job.to_string(), "bootstraps")));
                        bars.len() - 1
                    });
                    bars[at].1.set_position(*done);
                    return Ok(());
                }
                let id = job.to_string();
                match self.json {
                    true => line(&json!({
                        "job": id, "state": "running", "done": done, "total": total
                    })),
                    false => print(&format!("{id}  {done} of {total} bootstraps\n")),
                }
            }
            Event::Ended(id, outcome) => {
                if let Some((_, bar)) = self.bars.iter().flatten().find(|(known, _)| known == id) {
                    bar.finish_and_clear();
                }
                let (mut document, text) = match &**outcome {
                    Ok(_) => (json!({"state": "answered"}), "answered".to_owned()),
                    Err(MeshError::Failed(failure)) => failed(failure),
                    Err(error) => {
                        let message = error.to_string();
                        let text = format!("unknown: {}", plain_line(&message));
                        (json!({"state": "unknown", "message": message}), text)
                    }
                };
                document["job"] = json!(id.to_string());
                match self.json {
                    true => line(&document),
                    false => print(&format!("{id}  {text}\n")),
                }
            }
        }
    }
}

fn line(document: &Value) -> Result<()> {
    print(&format!("{document}\n"))
}

pub(crate) fn result(options: &Fetch) -> Result<()> {
    let model = options.model.as_deref().map(model::read).transpose()?;
    let remote = Remote::open(&options.member)?;
    let entry = remote.keys.outbox().get(options.job)?;
    if entry.state == State::Undecryptable {
        return Err(Error::Undecryptable { job: options.job }.into());
    }
    if let Some(model) = &model {
        check_model(&entry.job.context, model.client())?;
    }
    let answer = fetch(&remote, &entry, options.wait)?;
    if let Some(path) = &options.answer {
        // Before the file is written, so that `decrypt` can always find the job of the file.
        remote.keys.outbox().note_answer(options.job, Digest::of(&answer.body))?;
        files::write(path, &answer.body, Audience::Public, Existing::Replace)?;
    }
    let Some(model) = model else {
        return Ok(());
    };
    let passphrase = passphrase::obtain(Purpose::Open)?;
    let (job, output) = (&entry.job.context, &options.output);
    let answers = decrypt(&remote.keys, job, model.client(), &passphrase, &answer.body, output)?;
    let mut more = Map::new();
    more.insert("job".into(), json!(options.job.to_string()));
    more.insert("answer_bytes".into(), json!(answer.body.len()));
    answers.report(&remote.keys, options.member.report.json, more)
}

/// Fetches the answer and verifies its receipt.
fn fetch(remote: &Remote, entry: &Entry, wait: bool) -> Result<Answer> {
    let id = entry.id();
    let pending = remote.connection.attach(&entry.job, &remote.services)?;
    if wait {
        let bar = progress::spinner("waiting");
        let answer = remote.outcome(pending, |status| {
            bar.set_message(format!("{} of {} bootstraps", status.done, status.total));
        });
        bar.finish_and_clear();
        return answer.map_err(explain);
    }
    match remote.connection.run(pending.look()).map_err(explain)? {
        Told::Answered(answer) => {
            remote.note_end(id, State::Answered)?;
            Ok(*answer)
        }
        Told::Failed(failure) => {
            remote.note_end(id, State::Failed)?;
            Err(explain(MeshError::Failed(Box::new(failure)).into()))
        }
        Told::Running(Progress { done, total, .. }) => bail!(
            "job {id} has no answer yet, {done} of {total} bootstraps are done: wait with --wait"
        ),
        Told::Unknown => bail!(
            "job {id} has no answer yet, and the mesh has not begun it (here it is {}): wait with \
             --wait{}",
            entry.state.as_str(),
            if entry.state == State::Pending {
                ", or send it with hermesh submit --pending"
            } else {
                ""
            }
        ),
    }
}

pub(crate) fn cancel(options: &Cancel) -> Result<()> {
    let remote = Remote::connect(&options.member)?;
    let (secret, _) = remote.unlock()?;
    remote
        .connection
        .run(remote.client(&secret).cancel(options.job))
        .with_context(|| format!("cannot cancel job {}", options.job))?;
    match remote.note_end(options.job, State::Failed) {
        // A job may be cancelled from a machine other than the one that signed it.
        Ok(()) | Err(Error::NoSuchJob { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if options.member.report.json {
        return print_json(&json!({"cancelled": options.job.to_string()}));
    }
    note(&format!("job {} is cancelled", options.job));
    Ok(())
}
