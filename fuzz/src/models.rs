//! Compiled models as seeds. They are compiled on each run, because stored ones would be invalid once the format
//! changes.

use std::{env, fs, path::Path};

use hermesh_compiler::{Options, Precision, compile, onnx};

/// Small networks of the compiler's tests, with suitable calibration rows.
const NETWORKS: [(&str, &[u8]); 3] = [
    ("regression", include_bytes!("../../compiler/tests/golden/mlp_regression.onnx")),
    ("classes", include_bytes!("../../compiler/tests/golden/logistic_text.onnx")),
    ("tree", include_bytes!("../../examples/trees/cancer-tree.onnx")),
];

/// Writes the seeds into the directory named by `HERMESH_FUZZ_SEEDS`, before libFuzzer reads it.
pub fn write_seeds() {
    let folder = env::var_os("HERMESH_FUZZ_SEEDS").filter(|folder| !folder.is_empty());
    let Some(folder) = folder else { return };
    for (name, bytes) in NETWORKS {
        let network = onnx::import(bytes).expect("imports");
        let rows: Vec<Vec<f64>> = (0..20)
            .map(|row| (0..network.inputs).map(|i| ((row * 7 + i * 3) % 11) as f64).collect())
            .collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let exact = (name == "tree").then_some(Precision::Exact);
        let options = Options { precision: exact, failure_log2: -64.0, ..Options::default() };
        let model = compile(&network, &rows, None, options, &mut |_| ()).expect("compiles");
        let path = Path::new(&folder).join(name);
        fs::write(path, model.encode().expect("encodes")).expect("writes");
    }
}
