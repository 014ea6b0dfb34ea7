//! The NATS client protocol in both directions: bytes in, operations out, and back.
//!
//! What is accepted here, nats-server reads as the same operations, for frames are passed on as they came.
//! So this is as strict as nats-server 2.9, and stricter where that is lax: a line ends with CR LF and has
//! no other CR or LF, PING takes no arguments, a number has at most nine digits, a subject is of visible
//! ASCII without empty tokens, and only SUB takes wildcards, each a token by itself.
//!
//! The other direction is more patient, because a server delivers what anybody published: nats-server lets
//! subjects, places for answers and headers be nearly any bytes. A message whose names are not well-formed
//! is [`ServerOp::Malformed`], to be dropped; only what leaves the end of a frame in doubt is an error.

mod client;
mod error;
mod parser;
mod server;
mod text;
mod write;

pub use client::ClientOp;
pub use error::ProtocolError;
pub use parser::{ClientParser, Frame, Limits, Parser, ServerParser};
pub use server::ServerOp;
pub use text::{Str, is_pattern, is_subject};
pub use write::{
    ok, ping, pong, write_connect, write_err, write_info, write_msg, write_pub, write_pub_sealed,
    write_sub, write_unsub,
};
