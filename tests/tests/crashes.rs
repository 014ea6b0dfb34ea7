//! Services that die at the worst moment, with a stub instead of the engine.

use std::sync::Arc;

use hermesh_mesh::bus::BusHandle;
use hermesh_tests::{
    bus::{DyingBus, Moment},
    mesh::{Mesh, PER_SHARD, scenario},
    stub::{Model, Stub},
};

fn dying(mesh: &Mesh, filter: &'static str, publishes: u32, moment: Moment) -> Arc<DyingBus> {
    Arc::new(DyingBus::new(mesh.handle(), filter, publishes, moment))
}

#[test]
fn a_worker_that_dies_costs_at_most_the_shards_in_its_hands() {
    for (moment, repeated) in [(Moment::Before, 1), (Moment::After, 0)] {
        for publishes in 0..6 {
            scenario(|| async {
                let (mesh, _keys) = Mesh::start().await;
                let _preprocessing = mesh.preprocessing(mesh.handle()).await;
                let _aggregation = mesh.aggregation(mesh.handle()).await;
                let stub = Arc::new(Stub::default());
                let bus = dying(&mesh, "hermesh.partial.>", publishes, moment);
                let worker = mesh.evaluation(bus.clone() as BusHandle, &stub).await;
                let model = Model::new(3, 8);
                let acme = mesh.tenant("acme", &model).await;
                let input = model.input(1);
                let pending = acme.submit(input.clone()).await;
                bus.died().await;
                worker.kill();
                let _another = mesh.evaluation(mesh.handle(), &stub).await;

                let answer = pending.outcome(|_| {}).await.expect("an answer");
                assert_eq!(answer.body, model.answer(&input));
                let (evaluated, most) = stub.evaluated();
                let shards = model.shards(PER_SHARD);
                // A worker has two shards in progress at a time; results that it had published stay stored.
                assert!(evaluated >= shards + repeated, "{evaluated} of {shards}");
                assert!(evaluated <= shards + 2, "{evaluated} of {shards}");
                assert!(most <= 2, "one shard was evaluated {most} times");
            });
        }
    }
}

#[test]
fn an_aggregation_that_dies_costs_nothing() {
    for filter in ["hermesh.task.>", "hermesh.answer.>"] {
        for moment in [Moment::Before, Moment::After] {
            for publishes in 0..if filter == "hermesh.task.>" { 4 } else { 1 } {
                scenario(|| async {
                    let (mesh, _keys) = Mesh::start().await;
                    let _preprocessing = mesh.preprocessing(mesh.handle()).await;
                    let stub = Arc::new(Stub::default());
                    let _evaluation = mesh.evaluation(mesh.handle(), &stub).await;
                    let bus = dying(&mesh, filter, publishes, moment);
                    let first = mesh.aggregation(bus.clone() as BusHandle).await;
                    let model = Model::new(3, 8);
                    let acme = mesh.tenant("acme", &model).await;
                    let input = model.input(1);
                    let pending = acme.submit(input.clone()).await;
                    bus.died().await;
                    first.kill();
                    let _second = mesh.aggregation(mesh.handle()).await;

                    let answer = pending.outcome(|_| {}).await.expect("an answer");
                    assert_eq!(answer.body, model.answer(&input));
                    assert_eq!(stub.evaluated(), (model.shards(PER_SHARD), 1));
                });
            }
        }
    }
}

#[test]
fn a_preprocessing_that_dies_costs_nothing() {
    for moment in [Moment::Before, Moment::After] {
        for publishes in 0..2 {
            scenario(|| async {
                let (mesh, _keys) = Mesh::start().await;
                let stub = Arc::new(Stub::default());
                let _evaluation = mesh.evaluation(mesh.handle(), &stub).await;
                let _aggregation = mesh.aggregation(mesh.handle()).await;
                let bus = dying(&mesh, "hermesh.task.>", publishes, moment);
                let first = mesh.preprocessing(bus.clone() as BusHandle).await;
                let model = Model::new(2, 8);
                let acme = mesh.tenant("acme", &model).await;
                let input = model.input(1);
                let pending = acme.submit(input.clone()).await;
                bus.died().await;
                first.kill();
                let _second = mesh.preprocessing(mesh.handle()).await;

                let answer = pending.outcome(|_| {}).await.expect("an answer");
                assert_eq!(answer.body, model.answer(&input));
                assert_eq!(stub.evaluated(), (model.shards(PER_SHARD), 1));
            });
        }
    }
}
