//! Tests of aggregation's decisions.

use hermesh_aggregation::{Effect, Error, Input, Logic};
use hermesh_mesh::{
    Digest, JobId, SigningKey, UnixMillis,
    actor::Logic as _,
    handling::JobError as _,
    wire::{
        Answer, Context, FailureCode, Lane, Partial, Position, Priority, Shard, Status, Step, Task,
        Wire,
    },
};

const DEADLINE: UnixMillis = UnixMillis(1_000);

fn identity() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn context() -> Context {
    Context {
        job: JobId([1; 16]),
        tenant: "acme".parse().expect("a valid name"),
        model: Digest([2; 32]),
        key: Digest([3; 32]),
        input: Digest([4; 32]),
        deadline: DEADLINE,
        priority: Priority::default(),
        trace: None,
    }
}

/// The second stage of a job: 12 lookups in 3 shards, after 20 of 40.
fn position(shard: u32) -> Position {
    Position {
        lane: Lane::Bulk,
        stage: 1,
        shard,
        of: 3,
        lookups: 4,
        stage_lookups: 12,
        done_before: 20,
        total: 40,
    }
}

fn tell(input: Input, now: u64) -> Result<Vec<Effect>, Error> {
    Logic::new(identity()).handle(input, UnixMillis(now))
}

fn stored(shard: u32, stored: usize, ended: bool, now: u64) -> Result<Vec<Effect>, Error> {
    let (context, position) = (context(), position(shard));
    tell(Input::Stored { context, position, stored, ended, joined: false, revoked: false }, now)
}

fn progress(done: u64) -> Effect {
    Effect::Progress(Status::new(&context(), done, 40))
}

#[test]
fn a_stage_is_joined_when_it_is_complete_whichever_partial_comes_last() {
    assert_eq!(stored(2, 1, false, 0), Ok(vec![progress(24)]));
    assert_eq!(stored(0, 2, false, 0), Ok(vec![progress(28)]));
    for last in 0..3 {
        let join = Effect::Join(Box::new(context()), position(last));
        assert_eq!(stored(last, 3, false, 0), Ok(vec![progress(32), join]));
    }
    let gone_on = |stored| {
        let (context, position) = (context(), position(0));
        tell(
            Input::Stored { context, position, stored, ended: false, joined: true, revoked: false },
            0,
        )
    };
    assert_eq!(gone_on(0), Ok(vec![]));
    assert_eq!(gone_on(1), Ok(vec![Effect::CleanStage(Box::new(context()), position(0).stage)]));
    let clean = Effect::Clean(Box::new(context()));
    assert_eq!(stored(0, 3, true, 2_000), Ok(vec![clean]));
    let late = stored(0, 3, false, 1_000).expect_err("too late");
    assert_eq!(late.code(), Some(FailureCode::Expired));
    let (context, position) = (context(), position(0));
    let withdrawn =
        Input::Stored { context, position, stored: 3, ended: false, joined: false, revoked: true };
    let withdrawn = tell(withdrawn, 0).expect_err("not joined");
    assert_eq!(withdrawn.code(), Some(FailureCode::KeyRevoked));
}

fn published(input: Input) -> Vec<hermesh_mesh::Message> {
    let effects = tell(input, 0).expect("goes on");
    let message = |effect| match effect {
        Effect::Publish(message) => message,
        other => panic!("unexpected {other:?}"),
    };
    effects.into_iter().map(message).collect()
}

#[test]
fn two_replicas_publish_the_same_tasks_under_the_same_ids() {
    let joined = |shard| {
        published(Input::Joined {
            context: context(),
            position: position(shard),
            step: Step::Lookups {
                stage: 2,
                shards: [8, 0].map(|n| Shard { bytes: vec![n], lookups: 4 }).to_vec(),
            },
        })
    };
    assert_eq!(joined(0), joined(2));
    let tasks: Vec<Task> = joined(0).iter().map(|m| Task::decode(m).expect("a task")).collect();
    let places: Vec<_> = tasks.iter().map(|t| (t.position.stage, t.position.shard)).collect();
    assert_eq!(places, [(2, 0), (2, 1)]);
    assert!(tasks.iter().all(|t| t.position.done_before == 32 && t.position.stage_lookups == 8));
    assert_eq!(tasks[0].body, [8][..]);
    let ids: Vec<_> = tasks.iter().map(Wire::id).collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn outputs_become_the_only_partial_of_a_stage_of_their_own() {
    let messages = published(Input::Joined {
        context: context(),
        position: position(0),
        step: Step::Outputs(vec![1, 2]),
    });
    let partial = Partial::decode(&messages[0]).expect("a partial");
    assert_eq!((messages.len(), partial.position.stage, partial.position.of), (2, 2, 1));
    assert!(partial.outputs);
}

#[test]
fn no_shards_at_all_is_an_error() {
    let input = Input::Joined {
        context: context(),
        position: position(0),
        step: Step::Lookups { stage: 2, shards: Vec::new() },
    };
    assert!(tell(input, 0).is_err());
}

#[test]
fn the_answer_is_signed_and_a_job_ends_once() {
    let packed = |nonce| {
        published(Input::Packed { context: context(), answer: vec![9, 9], nonce: [nonce; 16] })
    };
    let answer = Answer::decode(&packed(1)[0]).expect("an answer");
    let service = identity().verifying_key();
    assert_eq!(answer.receipt.verify(&service, &context(), &answer.body), Ok(()));
    assert_eq!(packed(1)[0].id(), packed(2)[0].id());
}
