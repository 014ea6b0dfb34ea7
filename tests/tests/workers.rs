//! Workers that hold keys, that stop, and that find the bus full, with a stub instead of the engine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use hermesh_mesh::{
    Error, Message,
    bus::{Bus, BusHandle, Delivery, Published, QueueOptions, Requests, Subscription},
    topology,
};
use hermesh_tests::{
    mesh::{Mesh, PER_SHARD, scenario},
    stub::{Model, Stub},
};

/// A bus that reports a full queue for partials while the flag is set.
struct FullBus(BusHandle, AtomicBool);

#[async_trait]
impl Bus for FullBus {
    async fn declare(&self, queue: &QueueOptions) -> Result<(), Error> {
        self.0.declare(queue).await
    }
    async fn publish(&self, message: Message) -> Result<Published, Error> {
        if self.1.load(Ordering::SeqCst) && message.class() == "hermesh.partial" {
            return Err(Error::Full { what: "queue partials".into() });
        }
        self.0.publish(message).await
    }
    async fn emit(&self, message: Message) -> Result<(), Error> {
        self.0.emit(message).await
    }
    async fn pull(&self, queues: &[&str]) -> Result<Delivery, Error> {
        self.0.pull(queues).await
    }
    async fn adopt(&self, handle: &str, message: Message) -> Result<Delivery, Error> {
        self.0.adopt(handle, message).await
    }
    async fn last(&self, subject: &str) -> Result<Option<Message>, Error> {
        self.0.last(subject).await
    }
    async fn exists(&self, subject: &str) -> Result<bool, Error> {
        self.0.exists(subject).await
    }
    async fn subjects(&self, filter: &str) -> Result<Vec<String>, Error> {
        self.0.subjects(filter).await
    }
    async fn purge(&self, filter: &str) -> Result<(), Error> {
        self.0.purge(filter).await
    }
    async fn subscribe(&self, filter: &str) -> Result<Subscription, Error> {
        self.0.subscribe(filter).await
    }
    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, Error> {
        self.0.request(message, timeout).await
    }
    async fn serve(&self, filter: &str) -> Result<Requests, Error> {
        self.0.serve(filter).await
    }
}

#[test]
fn a_bus_that_is_full_for_long_delays_a_job_and_does_not_lose_it() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let _services =
            (mesh.preprocessing(mesh.handle()).await, mesh.aggregation(mesh.handle()).await);
        let stub = Arc::new(Stub::default());
        let full = Arc::new(FullBus(mesh.handle(), AtomicBool::new(true)));
        let _evaluation = mesh.evaluation(full.clone(), &stub).await;
        let model = Model::new(2, 8);
        let acme = mesh.tenant("acme", &model).await;
        let pending = acme.submit(model.input(1)).await;
        // Longer than all deliveries of a message take with their delays.
        tokio::time::sleep(Duration::from_secs(200)).await;
        full.1.store(false, Ordering::SeqCst);
        let answer = pending.outcome(|_| {}).await.expect("an answer");
        assert_eq!(answer.body, model.answer(&model.input(1)));
        assert_eq!(stub.evaluated(), (model.shards(PER_SHARD), 1));
    });
}

#[test]
fn a_worker_that_ends_finishes_one_shard_and_hands_back_the_other_at_once() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let _services =
            (mesh.preprocessing(mesh.handle()).await, mesh.aggregation(mesh.handle()).await);
        let model = Model::new(1, 2 * PER_SHARD);
        let acme = mesh.tenant("acme", &model).await;
        let (stub, open) = Stub::gated();
        let stub = Arc::new(stub);
        let ending = mesh.evaluation(mesh.handle(), &stub).await;
        let pending = acme.submit(model.input(1)).await;
        // One shard is being computed; the other waits for the only thread.
        while stub.started() == 0 {
            tokio::task::yield_now().await;
        }
        // All tasks are on this thread, so yielding is enough.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let other = Arc::new(Stub::default());
        let go_on = async {
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            let evaluation = mesh.evaluation(mesh.handle(), &other).await;
            while other.evaluated().0 == 0 {
                tokio::task::yield_now().await;
            }
            drop(open);
            evaluation
        };
        let ((), _evaluation) = tokio::join!(ending.stop(Duration::from_secs(3600)), go_on);
        let answer = pending.outcome(|_| {}).await.expect("an answer");
        assert_eq!(answer.body, model.answer(&model.input(1)));
        assert_eq!((stub.evaluated(), other.evaluated()), ((1, 1), (1, 1)));
    });
}

#[test]
fn tasks_go_to_the_worker_that_holds_their_key_unless_it_is_busy() {
    scenario(|| async {
        let (mesh, _keys) = Mesh::start().await;
        let _services =
            (mesh.preprocessing(mesh.handle()).await, mesh.aggregation(mesh.handle()).await);
        let model = Model::new(1, PER_SHARD);
        let acme = mesh.tenant("acme", &model).await;
        let (holder, open) = Stub::gated();
        let (holder, other) = (Arc::new(holder), Arc::new(Stub::default()));
        let _first = mesh.evaluation_of(mesh.handle(), &holder, 1).await;
        open.send(()).expect("the stub listens");
        acme.submit(model.input(0)).await.outcome(|_| {}).await.expect("an answer");
        let _second = mesh.evaluation_of(mesh.handle(), &other, 1).await;
        for seed in 1..20 {
            open.send(()).expect("the stub listens");
            let answer = acme.submit(model.input(seed)).await.outcome(|_| {}).await;
            assert_eq!(answer.expect("an answer").body, model.answer(&model.input(seed)));
        }
        assert_eq!((holder.loads(), other.loads()), (1, 0));
        assert_eq!((holder.evaluated().0, other.evaluated().0), (20, 0));
        let traffic = mesh.bus.traffic();
        assert!(traffic.iter().any(|(class, _)| class == "hermesh.hold"), "no worker asked");

        // A busy worker: the other one does not wait for it.
        let one = acme.submit(model.input(100)).await;
        let two = acme.submit(model.input(101)).await;
        while other.evaluated().0 == 0 {
            tokio::task::yield_now().await;
        }
        drop(open);
        one.outcome(|_| {}).await.expect("an answer");
        two.outcome(|_| {}).await.expect("an answer");
        assert_eq!((holder.loads(), other.loads()), (1, 1));
        assert_eq!((holder.evaluated().0, other.evaluated().0), (21, 1));
        for queue in topology::TASKS {
            assert_eq!(mesh.bus.depth(queue), 0, "{queue}");
        }
    });
}
