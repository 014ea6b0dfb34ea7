//! Tests of evaluation's decisions.

use std::time::Duration;

use hermesh_evaluation::{Effect, Error, Input, Logic};
use hermesh_mesh::{
    Digest, JobId, UnixMillis,
    actor::Logic as _,
    handling::JobError as _,
    wire::{Context, FailureCode, Lane, Position, Priority, Task},
};

const DEADLINE: UnixMillis = UnixMillis(1_000);

fn task() -> Box<Task> {
    Box::new(Task {
        context: Context {
            job: JobId([1; 16]),
            tenant: "acme".parse().expect("a valid name"),
            model: Digest([2; 32]),
            key: Digest([3; 32]),
            input: Digest([4; 32]),
            deadline: DEADLINE,
            priority: Priority::default(),
            trace: None,
        },
        position: Position {
            lane: Lane::Normal,
            stage: 0,
            shard: 0,
            of: 1,
            lookups: 1,
            stage_lookups: 1,
            done_before: 0,
            total: 1,
        },
        body: "shard".into(),
    })
}

fn tell(done: bool, ended: bool, now: u64) -> Result<Vec<Effect>, Error> {
    let input = Input::Task { task: task(), done, ended, revoked: false };
    Logic.handle(input, UnixMillis(now))
}

#[test]
fn a_task_is_computed_once_and_while_it_is_of_use() {
    assert_eq!(tell(false, false, 999), Ok(vec![Effect::Compute(task())]));
    assert_eq!(tell(true, false, 999), Ok(vec![Effect::Announce(task())]));
    assert_eq!(tell(false, true, 999), Ok(vec![]));
    // A result stored too late is purged.
    assert_eq!(tell(true, true, 999), Ok(vec![Effect::Forget(task())]));
    let late = Error::Expired(Duration::from_millis(5));
    assert_eq!(tell(false, false, 1_005), Err(late.clone()));
    assert_eq!(late.code(), Some(FailureCode::Expired));
    // A job that has ended is not failed a second time.
    assert_eq!(tell(false, true, 1_005), Ok(vec![]));
}

#[test]
fn a_withdrawn_key_is_not_used() {
    let tell = |done, ended| {
        let input = Input::Task { task: task(), done, ended, revoked: true };
        Logic.handle(input, UnixMillis(999))
    };
    let revoked = Error::KeyRevoked(Digest([3; 32]));
    assert_eq!(tell(false, false), Err(revoked.clone()));
    assert_eq!(revoked.code(), Some(FailureCode::KeyRevoked));
    assert_eq!(tell(false, true), Ok(vec![]));
}
