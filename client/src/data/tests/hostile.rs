//! Malformed files: every reader refuses or accepts them within its limits, and none panics.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn sizes_are_bounded() {
    let bomb = gzip(&vec![b'1'; 10 << 20]);
    assert!(bomb.len() < 1 << 20);
    assert!(matches!(table(&bomb), Err(Error::TooLarge { limit }) if limit == ALL.bytes));

    // An endless reader ends too.
    let endless = std::io::repeat(b'1');
    assert!(matches!(table_from(endless, ALL), Err(Error::TooLarge { .. })));

    // One byte in the file is eight in memory.
    let limits = Limits { bytes: 100, rows: None };
    let bytes = idx(0x08, &[20, 2], &[1; 40]);
    assert!(matches!(
        table_from(bytes.as_slice(), limits),
        Err(Error::TableTooLarge { rows: 20, columns: 2, limit: 100 })
    ));
    let limits = Limits { rows: Some(6), ..limits };
    assert_eq!(table_from(bytes.as_slice(), limits).unwrap().rows, 6);
    let text = "1\n".repeat(20);
    let limits = Limits { bytes: 100, rows: None };
    assert!(matches!(table_from(text.as_bytes(), limits), Err(Error::TableTooLarge { .. })));
}

#[test]
fn headers_that_promise_more_than_there_is() {
    let huge = u32::MAX;
    for bytes in [
        idx(0x08, &[huge, huge, huge], &[1]),
        idx(0x0e, &[huge], &[1]),
        npy_with_header(
            "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999,)}",
            &[0; 8],
        ),
        npy_with_header(
            "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
            &[0; 8],
        ),
        npy_with_header(
            "{'descr': '<U18446744073709551615', 'fortran_order': False, 'shape': (2,)}",
            &[0; 8],
        ),
        // One byte too many, or too few.
        idx(0x08, &[2, 2], &[1; 5]),
        idx(0x08, &[2, 2], &[1; 3]),
    ] {
        assert!(matches!(table(&bytes), Err(Error::DataLength { .. })));
        assert!(matches!(labels(&bytes), Err(Error::DataLength { .. })));
    }
    assert!(matches!(table(&idx(0x08, &[0, 9], &[])), Err(Error::Empty { .. })));
    assert!(matches!(table(&idx(0x08, &[], &[1])), Err(Error::Empty { .. })));
}

#[test]
fn headers_that_break_the_rules() {
    for header in [
        "",
        "{",
        "{}",
        "{'descr': '<f8', 'fortran_order': False}",
        "{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': [1]}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)} + evil()",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<f8' 'fortran_order': False, 'shape': (1,)}",
    ] {
        let bytes = npy_with_header(header, &[0; 8]);
        assert!(matches!(table(&bytes), Err(Error::Malformed { .. })), "{header}");
    }
    for descr in ["'<f2'", "'<c16'", "'|O'", "'<M8[ns]'", "[('a', '<f8')]", "'é'", "''"] {
        let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,)}}");
        let bytes = npy_with_header(&header, &[0; 8]);
        assert!(matches!(table(&bytes), Err(Error::ElementType { .. })), "{descr}");
    }
    assert!(matches!(table(b"\x93NUMPY\x04\x00\x00\x00"), Err(Error::Malformed { .. })));
    assert!(matches!(table(&[0, 0, 7, 1, 0, 0, 0, 0]), Err(Error::Malformed { .. })));
}

#[test]
fn other_content_is_named() {
    for (bytes, start) in [
        (&b"PK\x03\x04...."[..], "zip"),
        (b"\xff\xfe1\0", "ff fe 31 00"),
        (b"\x7fELF\0", "7f 45 4c 46 00"),
    ] {
        match table(bytes) {
            Err(Error::UnknownFormat { start: found }) => assert!(found.contains(start)),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(table(&gzip(b"1\n")[..12]), Err(Error::Gzip(_))));
}

#[test]
fn numbers_that_no_encoding_has_are_refused() {
    let bytes = idx(0x0d, &[1, 2], &[1f32.to_be_bytes(), f32::NAN.to_be_bytes()].concat());
    assert!(matches!(table(&bytes), Err(Error::NotFinite { row: 1, column: 2, .. })));
}

/// Intact files of every format, small enough to damage everywhere.
fn intact() -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = ["cube-fortran.npy", "names.npy", "version-2.npy", "grid.npy.gz"]
        .iter()
        .map(|name| std::fs::read(golden(name)).unwrap())
        .collect();
    files.push(idx(0x0c, &[2, 2], &[1; 16]));
    files.push(b"a;b\n1;2\n3;4\n".to_vec());
    files
}

/// Neither reader may panic; what they accept must be consistent and within the limits.
fn check(bytes: &[u8], limits: Limits) {
    if let Ok(table) = table_from(bytes, limits) {
        assert!(table.rows > 0 && table.columns > 0);
        assert_eq!(table.values.len(), table.rows * table.columns);
        assert_eq!(table.columns, table.shape.iter().product::<usize>());
        assert!(table.values.iter().all(|value| value.is_finite()));
        assert!(table.values.len() as u64 * 8 <= limits.bytes);
        assert!(limits.rows.is_none_or(|limit| table.rows <= limit));
    }
    if let Ok(labels) = labels_from(bytes, limits) {
        assert!(!labels.is_empty());
        assert!(limits.rows.is_none_or(|limit| labels.len() <= limit));
    }
}

/// The length must match the header, so no prefix of a binary file is valid.
#[test]
fn truncated_files_are_refused() {
    for file in intact().iter().filter(|file| !file.is_ascii()) {
        for length in 0..file.len() {
            assert!(table(&file[..length]).is_err(), "{length} of {file:?}");
            assert!(labels(&file[..length]).is_err(), "{length} of {file:?}");
        }
    }
}

#[test]
fn any_single_bit_may_flip() {
    for file in intact() {
        for bit in 0..file.len() * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            check(&damaged, ALL);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes(
        magic in prop::sample::select(vec![&b""[..], npy::MAGIC, b"\x93NUMPY\x01\x00", b"\0\0\x08", b"\x1f\x8b\x08"]),
        rest in vec(any::<u8>(), 0..200),
        rows in prop::option::of(0usize..4),
        bytes in 0u64..300,
    ) {
        let data = [magic, &rest].concat();
        check(&data, Limits { bytes, rows });
        check(&gzip(&data), Limits { bytes, rows });
    }

    #[test]
    fn any_npy_header(header in "\\{?('(descr|fortran_order|shape)': ?('[<>|=][a-zA-Z][0-9]{1,3}'|True|False|\\([0-9, ]{0,9}\\)),? ?){0,4}\\}?", data in vec(any::<u8>(), 0..64)) {
        check(&npy_with_header(&header, &data), ALL);
    }

    #[test]
    fn any_text(text in "[-0-9.eanif,;\t\"\r\n x]{0,80}", rows in prop::option::of(0usize..4)) {
        check(text.as_bytes(), Limits { rows, ..ALL });
    }

    #[test]
    fn any_table_survives_the_way_through_npy_and_gzip(
        columns in 1usize..6,
        cells in vec(vec(-1e300..1e300f64, 6), 1..6),
    ) {
        let values: Vec<f64> = cells.iter().flat_map(|row| row[..columns].to_vec()).collect();
        let mut bytes = Vec::new();
        write_floats(&mut bytes, columns, &values).unwrap();
        for bytes in [gzip(&bytes), bytes] {
            let read = table(&bytes).unwrap();
            prop_assert_eq!((read.rows, read.columns), (cells.len(), columns));
            prop_assert_eq!(&read.values, &values);
        }
    }

    /// Text and binary agree to the last bit: Rust prints floats so that parsing returns the same value.
    #[test]
    fn any_table_survives_the_way_through_text(row in vec(any::<f64>(), 1..6)) {
        prop_assume!(row.iter().all(|value| value.is_finite()));
        for delimiter in [",", ";", "\t"] {
            let text: Vec<String> = row.iter().map(f64::to_string).collect();
            let read = table(text.join(delimiter).as_bytes()).unwrap();
            prop_assert_eq!(&read.values, &row);
        }
    }
}
