//! Shared by the compiler's tests: the examples' files.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn examples(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(folder)
}

/// The rows of a `.npy` file of little-endian numbers; labels are rows of one.
pub(crate) fn npy(path: &Path) -> Vec<Vec<f64>> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let (header, data) = bytes[10..].split_at(u16::from_le_bytes([bytes[8], bytes[9]]).into());
    let header = String::from_utf8_lossy(header);
    let values = if header.contains("'<f4'") {
        data.as_chunks()
            .0
            .iter()
            .map(|&value| f32::from_le_bytes(value).into())
            .collect::<Vec<f64>>()
    } else {
        assert!(header.contains("'<i8'"), "{header}");
        data.as_chunks().0.iter().map(|&value| i64::from_le_bytes(value) as f64).collect()
    };
    let shape = header.split(['(', ')']).nth(1).unwrap();
    let sizes =
        shape.split(',').filter_map(|size| size.trim().parse().ok()).collect::<Vec<usize>>();
    values.chunks(sizes[1..].iter().product()).map(<[f64]>::to_vec).collect()
}
