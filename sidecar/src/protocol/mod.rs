//! The NATS client protocol in both directions: parses bytes into operations, and writes operations.
//!
//! Client operations are forwarded byte for byte, so nats-server must read them as this parser does.
//! Therefore the parser is as strict as nats-server 2.9, and stricter where nats-server is lax: a line ends
//! with CR LF and has no other CR or LF, PING takes no arguments, a number has at most nine digits, a
//! subject is visible ASCII without empty tokens, and only SUB takes wildcards, each a token by itself.
//!
//! Server operations are parsed leniently, because a server delivers what any client published: nats-server
//! accepts almost any bytes in subjects, reply subjects and headers. A message with malformed names is
//! [`ServerOp::Malformed`] and is dropped. Only bytes that leave the end of a frame in doubt are an error.

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
