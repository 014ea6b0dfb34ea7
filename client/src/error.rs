use std::io;
use std::path::PathBuf;

use hermesh_mesh::{Digest, JobId};

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Any error of the client.
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
    /// The mesh refused, or its reply does not verify.
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

    /// More bytes than the reader accepts, such as a gzip bomb.
    #[error(
        "expected at most {limit} bytes after decompression, found more; use a smaller file or \
         raise the limit with --max-data"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The requested rows, as 64-bit floats, exceed the limit.
    #[error(
        "expected a table of at most {limit} bytes, found {rows} rows of {columns} values of \
         8 bytes; read fewer rows with --limit or raise the limit with \
         --max-data"
    )]
    TableTooLarge {
        /// Requested rows.
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
        /// What was there instead, shortened.
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
        /// The types that can be read.
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
        /// Bytes that the dimensions require; saturated if they overflow.
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

    /// More bytes than any file of this kind can have.
    #[error("expected a file of at most {limit} bytes, found more; is it the right one?")]
    FileTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Not one label per row.
    #[error("expected a label for each of the {rows} rows, found {labels}")]
    LabelCount {
        /// Rows.
        rows: usize,
        /// Labels.
        labels: usize,
    },
    /// Not one column of targets per output of the model.
    #[error(
        "expected numbers in {expected} columns, one for each output of the model, found {found}"
    )]
    TargetColumns {
        /// Outputs.
        expected: usize,
        /// Columns.
        found: usize,
    },
    /// More rows than one job holds.
    #[error(
        "expected at most {limit} rows in one job, found {found}; use only the first rows with \
         --limit, or split the file"
    )]
    TooManyRows {
        /// The most rows in one job.
        limit: usize,
        /// Rows found.
        found: usize,
    },
    /// A row that would get a wrong answer.
    #[error(
        "row {row} (counted from 0) is refused because its answer would be wrong: {reason}. Compile the model with \
         calibration rows like it or a wider --domain, or use --out-of-range clamp, which moves features into the \
         domain, or --out-of-range keep, which encrypts the row unchanged"
    )]
    RowRefused {
        /// The row.
        row: usize,
        /// Why.
        reason: hermesh_compiler::Refusal,
    },
    /// A secret file that decrypts but does not contain a client's keys.
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

    /// A mesh on another machine, without transport encryption.
    #[error(
        "{address} is not on this machine, and over plain NATS an attacker on the network can see \
         who sends which job, and can alter messages: connect through the sidecar, which uses TLS, or \
         through a tunnel to a loopback address; on a network that you trust, use --insecure-plaintext"
    )]
    Plaintext {
        /// The address.
        address: String,
    },
    /// No address of a mesh: no option, no environment variable, none stored.
    #[error(
        "expected the address of a mesh, found none: set it with --mesh nats://HOST:PORT or \
         HERMESH_MESH, or store it with hermesh tenant register"
    )]
    NoMesh,
    /// No receipt signing key to trust.
    #[error(
        "expected a receipt signing key to trust, found neither --service-key nor a mesh that these \
         keys are registered with: run hermesh tenant register first"
    )]
    NotRegistered,
    /// The mesh does not state a receipt signing key.
    #[error("the mesh states no receipt signing key: is hermesh-aggregation running there?")]
    NoServiceKey,
    /// The receipt signing keys of the mesh differ from the stored ones.
    #[error(
        "the mesh states that it signs receipts with {stated}, but {stored} was stored when these \
         keys were first registered: it may be another mesh or an impostor. If the operator \
         confirms the new keys, run hermesh tenant register --accept-new-keys, or pass the right key \
         with --service-key"
    )]
    ServiceKeysChanged {
        /// The trusted keys.
        stored: String,
        /// The keys that the mesh states now.
        stated: String,
    },
    /// The mesh states none of the pinned keys.
    #[error("the mesh signs receipts with {stated}, not with the key of --service-key")]
    PinnedKeyAbsent {
        /// The keys that the mesh states.
        stated: String,
    },
    /// A `mesh.json` that hermesh did not write.
    #[error(
        "expected a file that hermesh tenant register wrote, found {found}; run it again, or upgrade \
         hermesh"
    )]
    NotMembership {
        /// What was found.
        found: String,
    },
    /// A file in the outbox that hermesh did not write.
    #[error("expected a job of the outbox, found {found}; move the file away")]
    NotAnOutboxEntry {
        /// What was found.
        found: String,
    },
    /// A job that is not in the outbox.
    #[error(
        "job {job} is not in the outbox of these keys: use the directory of keys that signed it; \
         hermesh status lists the jobs of a directory"
    )]
    NoSuchJob {
        /// The job.
        job: JobId,
    },
    /// A job that must not be sent.
    #[error("job {job} is {found}; only pending jobs are sent")]
    NotPending {
        /// The job.
        job: JobId,
        /// Its state.
        found: &'static str,
    },
    /// A ciphertext whose answer did not decrypt.
    #[error(
        "the answer for ciphertext {input} did not decrypt, so the ciphertext is never sent again: \
         an attacker who altered the answer would learn about the client key from the retry. Encrypt \
         the input again only if you know why decryption failed"
    )]
    NeverAgain {
        /// The ciphertext's digest.
        input: Digest,
    },
    /// A job whose answer did not decrypt.
    #[error(
        "the answer of job {job} did not decrypt, so neither the job nor its ciphertext is ever sent \
         again: an attacker who altered the answer would learn about the client key from the retry. \
         Encrypt the input again only if you know why decryption failed"
    )]
    Undecryptable {
        /// The job.
        job: JobId,
    },
    /// Too many jobs that have not ended.
    #[error(
        "the outbox is full: {limit} jobs have not ended; fetch their answers with hermesh result, or \
         list them with hermesh status"
    )]
    OutboxFull {
        /// The most jobs that may be unfinished.
        limit: usize,
    },
    /// No client key that belongs to this evaluation key.
    #[error(
        "expected the client key that belongs to evaluation key {key}, but neither client.key nor an \
         older key in old/ does: use the directory in which it was made"
    )]
    NoSecretFor {
        /// The evaluation key's digest.
        key: Digest,
    },

    /// The file exists and the caller did not ask to overwrite it.
    #[error(
        "expected no file of that name, found one; choose another name, or overwrite it with \
         --force (answers that only the old client key decrypts are then lost)"
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
    /// A secret that needs more key-derivation work than the client accepts.
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
    /// The passphrase is right but the encrypted content was altered.
    #[error("the secret was altered or cut short after it was encrypted; use a backup")]
    SecretDamaged,
    /// A secret beyond the limit.
    #[error("expected a secret of at most {limit} bytes, found more")]
    SecretTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// No source of a passphrase.
    #[error(
        "expected a passphrase, found neither {variable} nor a terminal to prompt on; set {variable}"
    )]
    NoPassphrase {
        /// The environment variable that may carry it.
        variable: &'static str,
        /// Why the terminal could not be used.
        source: io::Error,
    },
    /// An empty passphrase protects nothing.
    #[error("expected a passphrase of at least one character, found an empty one")]
    EmptyPassphrase,
    /// A new passphrase that is too easy to guess.
    #[error(
        "the passphrase is too weak: it takes about 10^{found} guesses, but at least 10^{least} are required{why}; an \
         attacker with a copy of the key file needs about a second of one core for each guess. Use four or more \
         random words, or twelve or more random characters"
    )]
    WeakPassphrase {
        /// Estimated guesses, as log₁₀, rounded down.
        found: u32,
        /// The least that is accepted, as log₁₀.
        least: u32,
        /// Why it is weak, in parentheses, if known. Contains nothing of the passphrase itself.
        why: String,
    },
    /// The passphrase's bytes are not UTF-8.
    #[error("expected {variable} to be UTF-8 text")]
    PassphraseNotText {
        /// The environment variable.
        variable: &'static str,
    },
    /// The two entries of a new passphrase differ.
    #[error("expected the same passphrase twice, found two different ones; run it again")]
    PassphrasesDiffer,

    /// Showing this output would reveal too much about the client key.
    #[error(
        "this output would reveal {more:.0} bits about the client key, and {before:.0} of the {budget:.0} bits \
         that are safe to reveal are used up: if only you see the output, pass --private; to go on sharing \
         output, use a new key (hermesh key rotate, or keygen without a mesh), show fewer rows, or add noise \
         with --share-noise"
    )]
    KeyUsedUp {
        /// Bits revealed before.
        before: f64,
        /// Bits that the requested output reveals.
        more: f64,
        /// Bits that may be revealed in total.
        budget: f64,
    },
    /// A `revealed.json` that hermesh did not write.
    #[error(
        "expected the counts of shown scores and labels that hermesh writes, found {found}; restore the file \
         from a backup, or use a new key: how much the old key has revealed is unknown"
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
