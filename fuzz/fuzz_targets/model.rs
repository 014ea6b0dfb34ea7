//! Compiled models: a decoded model encodes to the same bytes again, and can be evaluated in the
//! clear.
#![no_main]

use hermesh_compiler::{Model, mend_digests};
use hermesh_engine::Noise;
use libfuzzer_sys::fuzz_target;

// The input is tried unchanged and with corrected digests; otherwise every mutation would fail the
// digest check.
fuzz_target!(init: hermesh_fuzz::models::write_seeds(), |data: &[u8]| {
    read(data);
    read(&mend_digests(data.to_vec()));
});

fn read(data: &[u8]) {
    let model = match Model::decode(data) {
        Err(error) => return assert!(!error.to_string().is_empty()),
        Ok(model) => model,
    };
    let bytes = model.encode().expect("a decoded model encodes");
    let again = Model::decode(&bytes).expect("an encoded model decodes");
    assert_eq!(again.encode().expect("encodes again"), bytes);
    assert_eq!(again.program().digest(), model.program().digest());
    let row = vec![0.5; model.network().inputs];
    let plain = model.plain(&row).expect("a row of its length");
    assert_eq!(plain.label, model.plain(&row).expect("again").label);
    let Ok(row) = model.encode_row(&row) else { return };
    assert_eq!(row.len(), model.program().inputs());
    let outputs = model.program().simulate(&row, &mut Noise::Absent);
    let _ = model.interpret(&model.decode_outputs(&outputs));
}
