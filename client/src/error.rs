use std::io;
use std::path::PathBuf;

use hermesh_mesh::{Digest, JobId};

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the client could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Names the file in which the source error was found.
    #[error("cannot use {path}")]
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// What was wrong with it.
        #[source]
        source: Box<Error>,
    },
    /// The mesh refused, or its answer does not hold.
    #[error(transparent)]
    Mesh(#[from] hermesh_mesh::Error),

    /// The operating system refused.
    #[error("cannot {action}")]
    Io {
        /// What was attempted: "read", "create".
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },

    /// More bytes than the reader accepts; a gzip bomb ends here.
    #[error(
        "expected at most {limit} bytes after decompression, found more; use a smaller file or \
         raise the limit with --max-data"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The rows asked for do not fit the limit once they are 64-bit floats.
    #[error(
        "expected a table of at most {limit} bytes, found {rows} rows of {columns} values of \
         8 bytes; read fewer rows with --limit or raise the limit with \
         --max-data"
    )]
    TableTooLarge {
        /// Rows asked for.
        rows: usize,
        /// Values in one row.
        columns: usize,
        /// The limit in bytes.
        limit: u64,
    },
    /// A gzip stream that does not decompress.
    #[error("expected an intact gzip stream; copy or compress the file again")]
    Gzip(#[source] io::Error),
    /// Neither `.npy`, IDX nor text.
    #[error("expected .npy, IDX or CSV content (gzip allowed), found data starting with {start}")]
    UnknownFormat {
        /// The first bytes in hexadecimal, or a format's name if it is known but not read.
        start: String,
    },
    /// A header or a line that breaks its format's rules.
    #[error("{format}: expected {expected}, found {found}")]
    Malformed {
        /// The format that the data claims to be.
        format: &'static str,
        /// What the format requires.
        expected: &'static str,
        /// What came instead, shortened.
        found: String,
    },
    /// An element type that cannot become a number (or a label).
    #[error(
        "{format}: expected elements that are {expected}, found type {found}; convert the array, \
         for instance with .astype(\"float64\")"
    )]
    ElementType {
        /// The format that the data claims to be.
        format: &'static str,
        /// The types that are read.
        expected: &'static str,
        /// The type in the header, shortened.
        found: String,
    },
    /// Header and data disagree.
    #[error(
        "{format}: expected {expected} bytes of data for shape {shape:?}, found {found}; the file \
         is truncated or has something appended"
    )]
    DataLength {
        /// The format that the data claims to be.
        format: &'static str,
        /// The dimensions in the header.
        shape: Vec<usize>,
        /// Bytes that the dimensions ask for; saturated if they overflow.
        expected: usize,
        /// Bytes after the header.
        found: usize,
    },
    /// No rows or no columns.
    #[error("expected at least one row and one column, found shape {shape:?}")]
    Empty {
        /// The dimensions found.
        shape: Vec<usize>,
    },
    /// A text field that is not a number.
    #[error(
        "line {line}, column {column}: expected a number with a decimal point, found {found:?}"
    )]
    NotANumber {
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: usize,
        /// The field, shortened.
        found: String,
    },
    /// NaN or an infinity, which no encoding can represent.
    #[error(
        "row {row}, value {column} (from 1): expected a finite number, found {found}; fill or \
         drop missing values first"
    )]
    NotFinite {
        /// Row, from 1.
        row: usize,
        /// Value within the row, from 1.
        column: usize,
        /// The value.
        found: f64,
    },
    /// Lines of different lengths.
    #[error("line {line}: expected {expected} fields as in the lines before, found {found}")]
    RowLength {
        /// Line, from 1.
        line: u64,
        /// Fields in the first line.
        expected: u64,
        /// Fields in this line.
        found: u64,
    },
    /// More than one value per label.
    #[error("expected one label per row, found shape {shape:?}")]
    LabelShape {
        /// The dimensions found.
        shape: Vec<usize>,
    },
    /// A label that is neither an integer nor a string.
    #[error("label {row} (from 1): expected an integer or a string, found {found}")]
    Label {
        /// Row, from 1.
        row: usize,
        /// The value.
        found: f64,
    },

    /// More bytes than any file of this kind has.
    #[error("expected a file of at most {limit} bytes, found more; is it the right one?")]
    FileTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Labels that do not go with the rows.
    #[error("expected a label for each of the {rows} rows, found {labels}")]
    LabelCount {
        /// Rows.
        rows: usize,
        /// Labels.
        labels: usize,
    },
    /// Targets that do not go with the model's outputs.
    #[error(
        "expected numbers in {expected} columns, one for each output of the model, found {found}"
    )]
    TargetColumns {
        /// Outputs.
        expected: usize,
        /// Columns.
        found: usize,
    },
    /// More rows than one input holds.
    #[error(
        "expected at most {limit} rows in one job, found {found}; take the first with --limit, or \
         split the file"
    )]
    TooManyRows {
        /// Rows that one input holds.
        limit: usize,
        /// Rows found.
        found: usize,
    },
    /// A row that would not be answered rightly.
    #[error(
        "row {row} (counted from 0) is refused, for its answer would be wrong: {reason}. Compile the model with \
         calibration rows like it or a wider --domain, or use --out-of-range clamp, which moves features into the \
         domain, or --out-of-range keep, which encrypts it all the same"
    )]
    RowRefused {
        /// The row.
        row: usize,
        /// Why.
        reason: hermesh_compiler::Refusal,
    },
    /// A secret that opens, but holds something else than a client's keys.
    #[error("expected the keys of a client, found {found}; make new ones with hermesh keygen")]
    NotClientKeys {
        /// What was found.
        found: String,
    },
    /// The compute threads could not be started.
    #[error("cannot start the compute threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] hermesh_engine::Error),
    /// The compiler, or a compiled model, refused.
    #[error(transparent)]
    Compiler(#[from] hermesh_compiler::Error),

    /// A mesh on another machine, without encryption in between.
    #[error(
        "{address} is not on this machine, and plain NATS would show everyone on the way who asks \
         what, and let them cut in: run it through the sidecar, which speaks TLS, or through a tunnel \
         to a loopback address; on a network that you trust, use --insecure-plaintext"
    )]
    Plaintext {
        /// The address.
        address: String,
    },
    /// No mesh was named, now or before.
    #[error(
        "expected the address of a mesh, found none: name it with --mesh nats://HOST:PORT or \
         HERMESH_MESH, or once for all with hermesh tenant register"
    )]
    NoMesh,
    /// Whose receipts to trust is not known.
    #[error(
        "expected to know whose receipts to trust, found neither --service-key nor a mesh that these \
         keys are registered with: run hermesh tenant register first"
    )]
    NotRegistered,
    /// The mesh does not say with which key it signs receipts.
    #[error(
        "the mesh states no key that it signs receipts with: is hermesh-aggregation running there?"
    )]
    NoServiceKey,
    /// The mesh signs receipts with other keys than it did.
    #[error(
        "the mesh states that it signs receipts with {stated}, and {stored} was stored when these \
         keys were first registered: it may be another mesh, or somebody in its place. If its \
         operator confirms the new keys, run hermesh tenant register --accept-new-keys, or name \
         the right one with --service-key"
    )]
    ServiceKeysChanged {
        /// Those that are trusted.
        stored: String,
        /// Those that the mesh states now.
        stated: String,
    },
    /// None of the pinned keys is one of the mesh.
    #[error("the mesh signs receipts with {stated}, and not with the key of --service-key")]
    PinnedKeyAbsent {
        /// Those that the mesh states.
        stated: String,
    },
    /// `mesh.json` is not one of ours.
    #[error(
        "expected what hermesh tenant register writes, found {found}; run it again, or upgrade hermesh"
    )]
    NotMembership {
        /// What was found.
        found: String,
    },
    /// A file of the outbox that is not one of ours.
    #[error("expected a job of the outbox, found {found}; move the file away")]
    NotAnOutboxEntry {
        /// What was found.
        found: String,
    },
    /// A job that the outbox does not hold.
    #[error(
        "job {job} is not in the outbox of these keys: jobs are known where they were signed; \
         hermesh status lists them"
    )]
    NoSuchJob {
        /// The job.
        job: JobId,
    },
    /// A job that is not to be sent.
    #[error("job {job} is {found}, and only what is pending is sent")]
    NotPending {
        /// The job.
        job: JobId,
        /// Its state.
        found: &'static str,
    },
    /// A ciphertext that had an answer that did not decrypt.
    #[error(
        "the ciphertext {input} had an answer that does not decrypt, so it is never sent again: \
         whoever altered the answer would learn about the secret key. Encrypt the input anew, and \
         only if you know why it failed"
    )]
    NeverAgain {
        /// The ciphertext's digest.
        input: Digest,
    },
    /// A job whose answer did not decrypt.
    #[error(
        "job {job} had an answer that does not decrypt, so neither it nor its ciphertext is ever sent \
         again: whoever altered the answer would learn about the secret key. Encrypt the input anew, \
         and only if you know why it failed"
    )]
    Undecryptable {
        /// The job.
        job: JobId,
    },
    /// Too many jobs that have not ended.
    #[error(
        "{limit} jobs in the outbox have not ended: fetch their answers with hermesh result, or see \
         hermesh status"
    )]
    OutboxFull {
        /// The most there may be.
        limit: usize,
    },
    /// No secret key for what was encrypted under this one.
    #[error(
        "expected the secret key that goes with evaluation key {key}, found neither client.key nor \
         an older one in old/ to be that: use the directory in which it was made"
    )]
    NoSecretFor {
        /// The evaluation key's digest.
        key: Digest,
    },

    /// A file is in the way and overwriting was not asked for.
    #[error(
        "expected no file of that name, found one; choose another name, or overwrite it on \
         purpose with --force (what only the old key decrypts is lost then)"
    )]
    AlreadyExists,
    /// A secret that other users of the machine may read.
    #[error(
        "expected a secret only its owner can read (mode 600), found mode {mode:03o}; run \
         chmod 600 on it, and replace the key if others may have copied it"
    )]
    SecretExposed {
        /// The permission bits found.
        mode: u32,
    },
    /// Not a passphrase-protected `age` file.
    #[error("expected a secret protected by a passphrase, found {found}")]
    NotASecret {
        /// What the file looks like instead.
        found: &'static str,
    },
    /// A secret that asks for more key-derivation work than is reasonable.
    #[error(
        "expected a secret of scrypt work factor at most {accepted}, found {found}; it was not \
         made by hermesh"
    )]
    ExcessiveWork {
        /// The largest accepted, as log2.
        accepted: u8,
        /// The one in the file, as log2.
        found: u8,
    },
    /// The passphrase does not open the secret.
    #[error("the passphrase does not open this secret, or its header was altered; try again")]
    WrongPassphrase,
    /// The passphrase is right and the content is not what was sealed.
    #[error("expected the secret as it was sealed, found it altered or cut short; use a backup")]
    SecretDamaged,
    /// A secret beyond the limit.
    #[error("expected a secret of at most {limit} bytes, found more")]
    SecretTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// No way to learn the passphrase.
    #[error("expected a passphrase, found neither {variable} nor a terminal to ask at; set it")]
    NoPassphrase {
        /// The environment variable that may carry it.
        variable: &'static str,
        /// Why the terminal could not be used.
        source: io::Error,
    },
    /// An empty passphrase protects nothing.
    #[error("expected a passphrase of at least one character, found an empty one")]
    EmptyPassphrase,
    /// A new passphrase that would be guessed.
    #[error(
        "the passphrase is too weak: it takes about 10^{found} guesses, and 10^{least} are asked for{why}; a thief \
         with a copy of the key file needs about a second of one core for each guess. Use four or more random \
         words, or twelve or more random characters"
    )]
    WeakPassphrase {
        /// Estimated guesses, as log₁₀, rounded down.
        found: u32,
        /// The least that is accepted, as log₁₀.
        least: u32,
        /// What makes it weak, in parentheses, if that is known; nothing of the passphrase itself.
        why: String,
    },
    /// The passphrase's bytes are not UTF-8.
    #[error("expected {variable} to be UTF-8 text")]
    PassphraseNotText {
        /// The environment variable.
        variable: &'static str,
    },
    /// Two different answers when a new passphrase was asked for twice.
    #[error("expected the same passphrase twice, found two different ones; run it again")]
    PassphrasesDiffer,

    /// Showing more would tell too much about the key.
    #[error(
        "showing this would tell {more:.0} bits about the key, which has given away {before:.0} of the \
         {budget:.0} that it can bear: if only you see the output, say so with --private; to go on \
         sharing, use a new key (hermesh key rotate, or keygen without a mesh), or show fewer rows, or add \
         noise with --share-noise"
    )]
    KeyUsedUp {
        /// Bits given away before.
        before: f64,
        /// Bits in what was asked for.
        more: f64,
        /// Bits that may be given away.
        budget: f64,
    },
    /// `revealed.json` is not one of ours.
    #[error(
        "expected the counts of shown scores and labels as hermesh keeps them, found {found}; restore the \
         file from a backup, or use a new key: what the old one has given away is not known"
    )]
    NotACount {
        /// What was found.
        found: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    pub(crate) fn in_file(path: &std::path::Path) -> impl FnOnce(Self) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source: Box::new(source) }
    }
}
