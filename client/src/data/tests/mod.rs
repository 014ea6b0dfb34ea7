//! Golden files come from NumPy (`testdata/make.py`); the rest is built here byte by byte.

use std::io::{Read, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

mod hostile;

const ALL: Limits = Limits { bytes: 1 << 20, rows: None };

fn first(rows: usize) -> Limits {
    Limits { rows: Some(rows), ..ALL }
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata")).join(name)
}

fn table(bytes: &[u8]) -> Result<Table> {
    table_from(bytes, ALL)
}

fn labels(bytes: &[u8]) -> Result<Labels> {
    labels_from(bytes, ALL)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn npy_with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

fn idx(code: u8, shape: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, code, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|d| d.to_be_bytes()));
    bytes.extend(data);
    bytes
}

#[test]
fn every_number_type_of_numpy_in_both_byte_orders() {
    for order in ["little", "big"] {
        for (names, values) in [
            (&["i1", "i2", "i4", "i8", "f4", "f8"][..], [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]),
            (&["u1", "u2", "u4", "u8"], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        ] {
            for name in names {
                let file = format!("{name}-{order}.npy");
                let table = read_table(&golden(&file), ALL).expect(&file);
                assert_eq!((table.rows, table.columns), (2, 3), "{file}");
                assert_eq!(table.values, values, "{file}");
            }
        }
    }
    let table = read_table(&golden("bool.npy"), ALL).unwrap();
    assert_eq!(table.values, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
}

#[test]
fn every_npy_version_and_gzip_give_the_same() {
    let expected = read_table(&golden("f8-little.npy"), ALL).unwrap();
    for file in ["version-2.npy", "version-3.npy", "grid-fortran.npy", "grid.npy.gz"] {
        assert_eq!(read_table(&golden(file), ALL).unwrap(), expected, "{file}");
    }
}

#[test]
fn trailing_dimensions_are_flattened_in_c_order_whatever_the_file_has() {
    for file in ["cube.npy", "cube-fortran.npy"] {
        let cube = read_table(&golden(file), ALL).unwrap();
        assert_eq!((cube.rows, cube.columns), (2, 12), "{file}");
        assert_eq!(cube.shape, [3, 4], "{file}");
        let counted: Vec<f64> = (0..24).map(f64::from).collect();
        assert_eq!(cube.values, counted, "{file}");
        assert_eq!(cube.row(1), Some(&counted[12..]));
        assert_eq!(cube.row(2), None);

        let start = read_table(&golden(file), first(1)).unwrap();
        assert_eq!(start.rows, 1, "{file}");
        assert_eq!(start.values, counted[..12], "{file}");
    }
}

#[test]
fn one_dimension_is_one_row() {
    let row = read_table(&golden("row.npy"), ALL).unwrap();
    assert_eq!((row.rows, row.columns), (1, 2));
    assert_eq!(row.values, [0.5, 1.5]);
}

#[test]
fn targets_are_a_column_for_each_output() {
    let row = idx(8, &[3], &[1, 2, 3]);
    let table = targets_from(&row[..], 1, first(2)).unwrap();
    assert_eq!((table.rows, table.columns, &*table.values), (2, 1, &[1.0, 2.0][..]));
    let table = targets_from(&b"1,2\n3,4\n"[..], 2, ALL).unwrap();
    assert_eq!((table.rows, table.columns, &*table.shape), (2, 2, &[2][..]));
    let error = targets_from(&b"1,2\n3,4\n"[..], 1, ALL).unwrap_err();
    assert!(matches!(error, Error::TargetColumns { expected: 1, found: 2 }), "{error}");
}

#[test]
fn labels_from_numpy() {
    let integers = read_labels(&golden("labels.npy"), ALL).unwrap();
    assert_eq!(integers, Labels::Integers(vec![7, 2, 1]));
    let names = read_labels(&golden("names.npy"), first(2)).unwrap();
    assert_eq!(names, Labels::Names(vec!["cat".into(), "døg".into()]));
    let names = read_labels(&golden("names-bytes.npy"), ALL).unwrap();
    assert_eq!(names, Labels::Names(vec!["cat".into(), "dog!".into()]));

    assert!(matches!(
        read_labels(&golden("cube.npy"), ALL).map_err(inner),
        Err(Error::LabelShape { .. })
    ));
    assert!(matches!(
        read_labels(&golden("row.npy"), ALL).map_err(inner),
        Err(Error::Label { row: 1, .. })
    ));
    assert!(matches!(
        read_table(&golden("names.npy"), ALL).map_err(inner),
        Err(Error::ElementType { .. })
    ));
}

/// The error in the file.
fn inner(error: Error) -> Error {
    match error {
        Error::File { source, .. } => *source,
        other => other,
    }
}

#[test]
fn every_idx_type() {
    let shape = [2, 1];
    for (bytes, expected) in [
        (idx(0x08, &shape, &[0, 255]), [0.0, 255.0]),
        (idx(0x09, &shape, &[0, 255]), [0.0, -1.0]),
        (idx(0x0b, &shape, &[1, 0, 0xff, 0xfe]), [256.0, -2.0]),
        (idx(0x0c, &shape, &[0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff]), [65536.0, -1.0]),
        (
            idx(0x0d, &shape, &[1.5f32.to_be_bytes(), (-0.25f32).to_be_bytes()].concat()),
            [1.5, -0.25],
        ),
        (
            idx(0x0e, &shape, &[1e300f64.to_be_bytes(), (-1.0f64).to_be_bytes()].concat()),
            [1e300, -1.0],
        ),
    ] {
        assert_eq!(table(&bytes).unwrap().values, expected);
        assert_eq!(table(&gzip(&bytes)).unwrap().values, expected);
    }
    assert_eq!(labels(&idx(0x08, &[3], &[7, 2, 1])).unwrap(), Labels::Integers(vec![7, 2, 1]));
    assert_eq!(table(&idx(0x08, &[1, 2, 2], &[1, 2, 3, 4])).unwrap().shape, [2, 2]);
}

#[test]
fn delimited_text() {
    let expected = [1.0, -2.5, 3.0, 4e-3];
    for text in [
        "1,-2.5\n3,4e-3\n",
        "1;-2.5\r\n3;4e-3",
        "1\t-2.5\n3\t4e-3",
        "\u{feff}a,b\n1,-2.5\n3,4e-3\n",
        "\"height, in m\",\"b\"\n\"1\", -2.5\n\n3,4e-3\n",
    ] {
        let table = table(text.as_bytes()).expect(text);
        assert_eq!((table.rows, table.columns), (2, 2), "{text}");
        assert_eq!(table.shape, [2], "{text}");
        assert_eq!(table.values, expected, "{text}");
    }
    assert_eq!(table_from("a\n1\n2\n3".as_bytes(), first(2)).unwrap().values, [1.0, 2.0]);
}

#[test]
fn text_that_is_not_a_table() {
    assert!(matches!(table(b"1,2\n3\n"), Err(Error::RowLength { line: 2, expected: 2, found: 1 })));
    assert!(matches!(table(b"1,x\n"), Err(Error::NotANumber { line: 1, column: 2, .. })));
    assert!(matches!(table(b"a,b\n1,\n"), Err(Error::NotANumber { line: 2, column: 2, .. })));
    // A decimal comma is not mistaken for a delimiter.
    assert!(matches!(table(b"1,5;2\n"), Err(Error::NotANumber { line: 1, column: 1, .. })));
    assert!(matches!(table(b"1,nan\n"), Err(Error::NotFinite { row: 1, column: 2, .. })));
    assert!(matches!(table(b""), Err(Error::Empty { .. })));
    assert!(matches!(table(b"a,b\n"), Err(Error::Empty { .. })));
    // Rows beyond the limit are not kept, but they are checked.
    assert!(matches!(
        table_from("1\nx\n".as_bytes(), first(1)),
        Err(Error::NotANumber { line: 2, .. })
    ));
}

#[test]
fn labels_in_text() {
    let integers = |list: &[i64]| Labels::Integers(list.to_vec());
    let names = |list: &[&str]| Labels::Names(list.iter().map(|&s| s.to_owned()).collect());
    for (text, expected) in [
        ("7\n2\n", integers(&[7, 2])),
        ("digit\n7\n2\n", integers(&[7, 2])),
        ("7.0\n-2\n", integers(&[7, -2])),
        ("9223372036854775807\n", integers(&[i64::MAX])),
        ("cat\ndog\n", names(&["cat", "dog"])),
        ("Label\ncat\ndog\n", names(&["cat", "dog"])),
        ("1\ncat\n", names(&["1", "cat"])),
        ("cat\n", names(&["cat"])),
        ("cat\n1\ndog\n", names(&["cat", "1", "dog"])),
    ] {
        assert_eq!(labels(text.as_bytes()).unwrap(), expected, "{text}");
    }
    let start = |text: &str| labels_from(text.as_bytes(), first(1)).unwrap();
    assert_eq!(start("digit\n7\n2\n"), integers(&[7]));
    assert_eq!(start("cat\ndog\n"), names(&["cat"]));
    assert_eq!(start("7\n2\n3\n"), integers(&[7]));
    // The type is that of the whole file, even if only a part is kept.
    assert_eq!(start("7\n2\ncat\n"), names(&["7"]));

    assert!(matches!(labels(b"1,2\n"), Err(Error::LabelShape { .. })));
    assert!(matches!(labels(b"1\n1.5\n"), Err(Error::Label { row: 2, .. })));
    assert!(matches!(labels(b"1\nnan\n"), Err(Error::Label { row: 2, .. })));
    assert!(matches!(labels(b"label\n"), Err(Error::Empty { .. })));
}

#[test]
fn what_python_may_write_differently_is_read() {
    for header in [
        "{\"shape\":(1L,),\"fortran_order\":False,\"descr\":\"<f8\"}\n",
        "{ 'fortran_order' : True , 'descr' : '=f8' , 'shape' : ( 1 , 1 ) , }",
    ] {
        let bytes = npy_with_header(header, &1.5f64.to_ne_bytes());
        assert_eq!(table(&bytes).expect(header).values, [1.5]);
    }
}

#[test]
fn errors_name_the_file() {
    let error = read_table(&golden("missing.npy"), ALL).unwrap_err();
    assert!(error.to_string().contains("missing.npy"));
    assert!(matches!(inner(error), Error::Io { .. }));
}

#[test]
fn what_is_written_is_read_back() {
    let mut bytes = Vec::new();
    write_floats(&mut bytes, 2, &[1.0, 2.5, -3.0, 1e300]).unwrap();
    assert_eq!(bytes.len() % 64, 32, "the data starts at a multiple of 64 bytes");
    let read = table(&bytes).unwrap();
    assert_eq!((read.rows, read.columns), (2, 2));
    assert_eq!(read.values, [1.0, 2.5, -3.0, 1e300]);

    let mut bytes = Vec::new();
    write_integers(&mut bytes, &[3, -4]).unwrap();
    assert_eq!(labels(&bytes).unwrap(), Labels::Integers(vec![3, -4]));

    assert!(write_floats(Vec::new(), 2, &[1.0]).is_err());
    assert!(write_floats(Vec::new(), 0, &[]).is_err());
}

/// A reader that gives one byte at a time, as a slow pipe may.
struct Dribble<'a>(&'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn gzip_is_recognised_in_the_smallest_pieces() {
    let bytes = gzip(b"1,2\n");
    assert_eq!(table_from(Dribble(&bytes), ALL).unwrap().values, [1.0, 2.0]);
}
