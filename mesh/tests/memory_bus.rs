//! The in-memory bus passes the conformance suite.

use std::sync::Arc;

use hermesh_mesh::{
    Message,
    bus::{
        Bus, conformance,
        memory::{MemoryBus, MemoryBusOptions, Traffic},
    },
};

#[tokio::test(start_paused = true)]
async fn conforms() {
    let options = MemoryBusOptions { max_message: 1 << 20, ..MemoryBusOptions::default() };
    let bus = Arc::new(MemoryBus::new(options));
    conformance::all(bus, 1 << 20).await;
}

#[tokio::test]
async fn counts_traffic_by_class() {
    let bus = MemoryBus::default();
    let message = Message::new("hermesh.status.acme.1", "12345");
    let bytes = message.size() as u64;
    bus.emit(message.clone()).await.expect("emits");
    bus.emit(message).await.expect("emits");
    let expected = Traffic { messages: 2, bytes: 2 * bytes };
    assert_eq!(bus.traffic(), [("hermesh.status".to_owned(), expected)]);
}
