use hermesh_mesh::SigningKey;
use hermesh_mesh::wire::{Context, Priority, TraceParent};
use tempfile::TempDir;

use super::*;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn job(input: &[u8]) -> Job {
    let context = Context {
        job: JobId::random(),
        tenant: "acme".parse().unwrap(),
        model: Digest::of(b"model"),
        key: Digest::of(b"key"),
        input: Digest::of(input),
        deadline: NOW.plus(Duration::from_secs(600)),
        priority: Priority::Low,
        trace: Some(TraceParent::random()),
    };
    Job::new(context, input.to_vec().into(), &SigningKey::generate())
}

fn outbox() -> (TempDir, Outbox) {
    let directory = tempfile::tempdir().unwrap();
    let outbox = Outbox::new(&directory.path().join("outbox"));
    (directory, outbox)
}

/// Writes the entry directly, without the checks of `add`, which read all entries each time.
fn store(outbox: &Outbox, state: State, since: UnixMillis) {
    let entry = Entry { state, since, answers: Vec::new(), job: job(b"x") };
    fs::write(outbox.path(entry.id()), format::encode(&entry)).unwrap();
}

#[test]
fn what_is_sent_again_is_the_same_message() {
    let (_directory, outbox) = outbox();
    // A ciphertext may contain the bytes that end a head.
    let job = job(b"a\n\nb\xff");
    outbox.add(&job, State::Pending, NOW).unwrap();
    // As another process reads it.
    let again = Outbox::new(&outbox.0).to_send(job.context.job).unwrap();
    assert_eq!(message(&again), message(&job));
    assert_eq!(again, job);
    assert_eq!(outbox.list().unwrap()[0].state, State::Pending);
}

#[test]
fn only_what_is_pending_is_sent() {
    let (_directory, outbox) = outbox();
    for state in State::ALL {
        let job = job(state.as_str().as_bytes());
        let id = job.context.job;
        outbox.add(&job, State::Pending, NOW).unwrap();
        outbox.set(id, state, NOW).unwrap();
        assert_eq!(outbox.to_send(id).is_ok(), state == State::Pending, "{state:?}");
    }
    assert!(matches!(outbox.to_send(JobId::random()), Err(Error::NoSuchJob { .. })));
}

#[test]
fn what_did_not_decrypt_is_never_sent_again() {
    let (_directory, outbox) = outbox();
    let first = job(b"ciphertext");
    let id = first.context.job;
    outbox.add(&first, State::Pending, NOW).unwrap();
    let twin = job(b"ciphertext");
    outbox.add(&twin, State::Pending, NOW).unwrap();
    outbox.set(id, State::Undecryptable, NOW).unwrap();
    let input = first.context.input;
    let never = |result: Result<()>| {
        let refused = matches!(result, Err(Error::NeverAgain { input: of }) if of == input);
        assert!(refused, "{result:?}");
    };
    let ended = |result: Result<()>| {
        assert!(matches!(result, Err(Error::Undecryptable { job }) if job == id));
    };
    ended(outbox.to_send(id).map(drop));
    // Not under another job id either, nor if it was signed before.
    never(outbox.add(&job(b"ciphertext"), State::Pending, NOW));
    never(outbox.to_send(twin.context.job).map(drop));
    for state in State::ALL.into_iter().filter(|state| *state != State::Undecryptable) {
        ended(outbox.set(id, state, NOW));
    }
    // Neither time nor many other jobs change that.
    let later = NOW.plus(FORGOTTEN * 100);
    for _ in 0..=MAX_ENDED {
        store(&outbox, State::Decrypted, later);
    }
    outbox.add(&job(b"other"), State::Pending, later).unwrap();
    never(outbox.add(&job(b"ciphertext"), State::Pending, later));
}

#[test]
fn an_answer_in_a_file_is_known_by_its_digest() {
    let (_directory, outbox) = outbox();
    let (first, second) = (job(b"x"), job(b"y"));
    for job in [&first, &second] {
        outbox.add(job, State::Pending, NOW).unwrap();
    }
    let (id, answer) = (first.context.job, Digest::of(b"answer"));
    assert_eq!(outbox.of_answer(answer).unwrap(), None);
    // The mesh should give only one answer; if it gives more, each is recorded.
    for answer in [answer, Digest::of(b"another"), answer] {
        outbox.note_answer(id, answer).unwrap();
    }
    outbox.set(id, State::Failed, NOW).unwrap();
    let entry = outbox.of_answer(answer).unwrap().unwrap();
    assert_eq!((entry.id(), entry.answers.len()), (id, 2));
    assert_eq!(outbox.to_send(second.context.job).unwrap(), second);
}

#[test]
fn what_has_ended_loses_its_ciphertext() {
    let (_directory, outbox) = outbox();
    let job = job(&[7; 100_000]);
    outbox.add(&job, State::Pending, NOW).unwrap();
    let size = || outbox.path(job.context.job).metadata().unwrap().len();
    assert!(size() > 100_000);
    outbox.set(job.context.job, State::Submitted, NOW).unwrap();
    assert!(size() > 100_000);
    outbox.set(job.context.job, State::Decrypted, NOW).unwrap();
    assert!(size() < 4_000);
    let entry = outbox.get(job.context.job).unwrap();
    // Enough to fetch and verify the answer again.
    assert_eq!((&entry.job.context, entry.job.signature), (&job.context, job.signature));
}

#[test]
fn it_does_not_grow_without_bound() {
    let (_directory, outbox) = outbox();
    outbox.add(&job(b"first"), State::Pending, NOW).unwrap();
    for at in 0..MAX_ENDED as u64 + 5 {
        store(&outbox, State::Failed, UnixMillis(NOW.0 + at));
    }
    outbox.add(&job(b"another"), State::Pending, NOW).unwrap();
    let ended = |entry: &Entry| entry.state.ended();
    let kept: Vec<Entry> = outbox.list().unwrap().into_iter().filter(ended).collect();
    // The newest are kept, one fewer than the limit, so that one more fits.
    assert_eq!(kept.len(), MAX_ENDED - 1);
    assert_eq!(kept[0].since, UnixMillis(NOW.0 + 6));
    // Jobs that the mesh has dropped long ago are removed as well.
    let lost = job(b"lost");
    outbox.add(&lost, State::Submitted, NOW).unwrap();
    let later = lost.context.deadline.plus(FORGOTTEN + Duration::from_millis(1));
    outbox.add(&job(b"new"), State::Pending, later).unwrap();
    assert!(matches!(outbox.get(lost.context.job), Err(Error::NoSuchJob { .. })));
}

#[test]
fn a_full_outbox_takes_no_more() {
    let (_directory, outbox) = outbox();
    let first = job(b"x");
    outbox.add(&first, State::Pending, NOW).unwrap();
    for _ in 1..MAX_OPEN {
        store(&outbox, State::Signed, NOW);
    }
    let refused = outbox.add(&job(b"x"), State::Pending, NOW);
    assert!(matches!(refused, Err(Error::OutboxFull { .. })));
    outbox.set(first.context.job, State::Failed, NOW).unwrap();
    outbox.add(&job(b"x"), State::Pending, NOW).unwrap();
}

#[cfg(unix)]
#[test]
fn others_cannot_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, outbox) = outbox();
    let job = job(b"x");
    outbox.add(&job, State::Pending, NOW).unwrap();
    let mode = || outbox.path(job.context.job).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    outbox.set(job.context.job, State::Answered, NOW).unwrap();
    assert_eq!(mode(), 0o600);
}

fn all(bytes: &[u8]) -> Result<Entry> {
    format::decode(bytes, format::Part::All)
}

fn is_damaged(result: &Result<Entry>) -> bool {
    use hermesh_engine::Error as Engine;
    matches!(result, Err(Error::Engine(Engine::Damaged { .. })))
}

/// An entry of version 1, without a digest of the head.
fn of_version_1(entry: &Entry) -> String {
    let text = String::from_utf8(format::encode(entry)).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    format!("{}\n{rest}", first.replace("Outbox: 2", "Outbox: 1"))
}

fn pending() -> Entry {
    let answers = vec![Digest::of(b"answer"), Digest::of(b"other")];
    Entry { state: State::Pending, since: NOW, answers, job: job(b"x") }
}

#[test]
fn what_is_damaged_is_refused() {
    let entry = pending();
    let good = format::encode(&entry);
    assert_eq!(all(&good).unwrap(), entry);
    let head = good.len() - entry.job.input.len();
    for bit in 0..8 * good.len() {
        let mut damaged = good.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(all(&damaged).is_err(), "bit {bit}");
        let read = format::decode(&damaged, format::Part::Head);
        assert_eq!(read.is_ok(), bit / 8 >= head, "bit {bit}");
    }
    for length in 0..good.len() {
        assert!(all(&good[..length]).is_err(), "{length}");
    }
    let text = String::from_utf8(good).unwrap();
    for bad in [
        text.replace("1700000000000", "1700000000001"),
        text.replace("pending", "submitted"),
        text.replace("Subject: hermesh.job.acme", "Subject: hermesh.job.evil"),
        text.replace("Hermesh-Priority: low", "Hermesh-Priority: high"),
        text.replace("Digest: ", "Digest: 0"),
        text.replace("\n\nx", "\n\ny"),
        text.replace("\n\nx", "\n\n"),
        of_version_1(&entry).replace("\n\nx", "\n\ny"),
    ] {
        assert!(is_damaged(&all(bad.as_bytes())), "{bad}");
    }
}

/// Otherwise, damage to a ciphertext that is no longer needed would allow the job to be sent again.
#[test]
fn what_did_not_decrypt_is_noted_though_its_ciphertext_is_damaged() {
    let (_directory, outbox) = outbox();
    let first = job(b"ciphertext");
    let id = first.context.job;
    outbox.add(&first, State::Submitted, NOW).unwrap();
    let path = outbox.path(id);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(outbox.set(id, State::Answered, NOW), Err(Error::File { .. })));
    outbox.set(id, State::Undecryptable, NOW).unwrap();
    let again = outbox.add(&job(b"ciphertext"), State::Pending, NOW);
    assert!(matches!(again, Err(Error::NeverAgain { .. })));
}

#[test]
fn other_versions_are_read_or_named() {
    let entry = pending();
    assert_eq!(all(of_version_1(&entry).as_bytes()).unwrap(), entry);
    let text = String::from_utf8(format::encode(&entry)).unwrap();
    let later = all(text.replace("Outbox: 2", "Outbox: 3").as_bytes()).unwrap_err().to_string();
    assert!(later.contains("a newer hermesh (format 3)"), "{later}");
}

#[test]
fn anything_else_is_an_error() {
    let good = of_version_1(&pending());
    for bad in [
        good.replace("pending", "sending"),
        good.replace(&Digest::of(b"answer").to_string(), "answer"),
        good.replace("Subject: hermesh.job.acme", "Subject: hermesh.job.evil"),
        good.replace("Hermesh-Job: ", "Hermesh-Job: x"),
        good.replace("Hermesh-Signature: ", "Hermesh-Signature "),
        good.replace("\n\n", "\n"),
        good.replace("Outbox: 1 ", "Outbox: 1\n"),
        good.replace("Outbox: 1 ", "Outbox: "),
        String::new(),
    ] {
        let refused = all(bad.as_bytes());
        assert!(refused.is_err() && !is_damaged(&refused), "{bad}");
    }
}
