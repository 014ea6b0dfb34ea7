//! For any bytes, an import ends with an error or a valid network.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use hermesh_compiler::onnx;
use proptest::prelude::*;
use proptest::sample::Index;

/// The golden models' files.
static MODELS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths =
        paths.filter(|path| path.extension().is_some_and(|ext| ext == "onnx")).collect::<Vec<_>>();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
});

fn check(bytes: &[u8]) {
    match onnx::import(bytes) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(network) => {
            network.validate().unwrap();
            let outputs = network.evaluate(&vec![1.0; network.inputs]).unwrap();
            assert_eq!(outputs.len(), network.outputs());
            network.head.apply(&outputs);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        check(&bytes);
    }

    #[test]
    fn flipped_bits(model in any::<Index>(), flips in prop::collection::vec((any::<Index>(), 0..8u8), 1..6)) {
        let mut bytes = model.get(&MODELS).clone();
        for (position, bit) in flips {
            *position.get_mut(&mut bytes) ^= 1u8 << bit;
        }
        check(&bytes);
    }

    #[test]
    fn replaced_bytes(model in any::<Index>(), changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4)) {
        let mut bytes = model.get(&MODELS).clone();
        for (position, byte) in changes {
            *position.get_mut(&mut bytes) = byte;
        }
        check(&bytes);
    }

    #[test]
    fn truncated(model in any::<Index>(), length in any::<Index>()) {
        let bytes = model.get(&MODELS);
        check(&bytes[..length.index(bytes.len())]);
    }

    #[test]
    fn spliced(front in any::<Index>(), back in any::<Index>(), cut in any::<Index>(), from in any::<Index>()) {
        let (front, back) = (front.get(&MODELS), back.get(&MODELS));
        check(&[&front[..cut.index(front.len())], &back[from.index(back.len())..]].concat());
    }
}
