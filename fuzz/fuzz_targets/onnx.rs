//! ONNX model files: import gives a valid network or a typed error.
#![no_main]

use hermesh_compiler::onnx;
use hermesh_fuzz::proto;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| {
    match onnx::import(data) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(network) => {
            network.validate().expect("an imported network is valid");
            let outputs =
                network.evaluate(&vec![1.0; network.inputs]).expect("a row of its length");
            assert_eq!(outputs.len(), network.outputs());
            network.head.apply(&outputs);
        }
    }
});

// Mutated bytes are mostly not valid protobuf, and most of the rest does not change the model. Every other mutation
// therefore changes a field of the message.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed.is_multiple_of(2)
        && let Some(changed) = proto::mutate(&data[..size], seed)
        && changed.len() <= max_size
    {
        data[..changed.len()].copy_from_slice(&changed);
        return changed.len();
    }
    fuzzer_mutate(data, size, max_size)
});
