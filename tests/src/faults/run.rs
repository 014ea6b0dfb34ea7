//! Runs one schedule from beginning to end.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use hermesh_mesh::{SigningKey, TokioClock, UnixMillis, actor, topology};
use tokio::time::sleep;

use super::{
    bus::FaultyBus,
    client,
    history::History,
    invariants,
    plan::{Plan, Sabotage},
    process::{Service, World, supervise},
    simulation::{Process, Simulation},
};
use crate::mesh::scenario;

/// How long after the last fault all jobs must have ended: the furthest deadline, plus a margin.
const SETTLED: Duration = Duration::from_secs(600);
/// For how long nothing may change at the end: longer than any delivery waits.
const QUIET: Duration = Duration::from_secs(40);

/// Runs the schedule of a seed, with the defect of `sabotage`.
pub fn run(seed: u64, sabotage: Sabotage) -> (Plan, History) {
    let plan = Plan::draw(seed);
    actor::block_in_place();
    let history = Rc::new(RefCell::new(History::default()));
    let (result, schedule) = (history.clone(), plan.clone());
    scenario(|| async move {
        *result.borrow_mut() = simulate(Rc::new(schedule), sabotage).await;
    });
    (plan, history.take())
}

async fn simulate(plan: Rc<Plan>, sabotage: Sabotage) -> History {
    let (faults, lag) = (plan.faults.clone(), plan.ack_lag);
    let simulation = Simulation::new(plan.seed, faults, lag, sabotage);
    let world = Rc::new(World {
        simulation: simulation.clone(),
        clock: Arc::new(TokioClock::starting_at(UnixMillis(1_700_000_000_000))),
        identity: SigningKey::from_bytes(&[7; 32]),
    });
    let operator = Process::new("operator", false);
    let bus = FaultyBus::new(simulation.clone(), operator);
    topology::declare(&bus).await.expect("declares");

    let driven = simulation.clone();
    let mut tasks = vec![tokio::task::spawn_local(async move { driven.drive().await })];
    for (service, replicas) in Service::ALL.into_iter().zip(plan.replicas) {
        for replica in 0..replicas {
            tasks.push(tokio::task::spawn_local(supervise(world.clone(), service, replica)));
        }
    }
    let told = Rc::new(RefCell::new(Vec::new()));
    for tenant in 0..plan.tenants.len() {
        let client = client::run(world.clone(), plan.clone(), tenant, told.clone());
        tasks.push(tokio::task::spawn_local(client));
    }

    let limit = plan.faults.until + SETTLED;
    while simulation.now() < limit {
        sleep(Duration::from_secs(1)).await;
        let settled = simulation.now() > plan.faults.until
            && told.borrow().len() == plan.jobs.len()
            && invariants::all_ended(&plan, &simulation.history())
            && invariants::left_behind(&simulation.bus).is_empty();
        if settled {
            break;
        }
    }
    sleep(QUIET).await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let mut history = std::mem::take(&mut *simulation.history());
    let told = told.take();
    invariants::check(&plan, &simulation.bus, &mut history, &told).await;
    history
}
