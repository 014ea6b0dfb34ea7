//! Bounds the memory that decoding allocates, before it does.
//!
//! An empty message takes two bytes on the wire and a few hundred decoded, so a limit on the file's size does not bound
//! memory. This pass over the encoding adds up what the decoder would allocate.

use prost::encoding::{WireType, decode_key, decode_varint};

use crate::Error;

/// Maximum size of a model file, in bytes: about 32 million weights, far more than can be evaluated on encrypted
/// inputs.
pub(super) const MAX_FILE_BYTES: u64 = 128 << 20;

/// Maximum allocation of the decoder, in units of 16 bytes: 512 MiB.
const MAX_UNITS: u64 = 32 << 20;

/// A message counts as this many units, about its size in memory.
const MESSAGE_UNITS: u64 = 16;

/// The messages of `proto.rs`, by nesting.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Leaf,
}

impl Kind {
    /// The message in field `tag`, if the decoder descends into it.
    fn child(self, tag: u32) -> Option<Kind> {
        Some(match (self, tag) {
            (Kind::Model, 7) => Kind::Graph,
            (Kind::Model, 8 | 14) | (Kind::Shape, 1) => Kind::Leaf,
            (Kind::Graph, 1) => Kind::Node,
            (Kind::Graph, 5) | (Kind::Attribute, 5) => Kind::Tensor,
            (Kind::Graph, 11 | 12) => Kind::ValueInfo,
            (Kind::Node, 5) => Kind::Attribute,
            (Kind::ValueInfo, 2) => Kind::Type,
            (Kind::Type, 1) => Kind::TensorType,
            (Kind::TensorType, 2) => Kind::Shape,
            _ => return None,
        })
    }

    /// Whether field `tag` holds integers of variable length, one byte or more each.
    fn packs_integers(self, tag: u32) -> bool {
        matches!((self, tag), (Kind::Attribute, 8) | (Kind::Tensor, 1 | 5 | 7))
    }
}

/// Checks that `file` is small enough to decode and made of whole protobuf fields.
pub(super) fn check(file: &[u8]) -> Result<(), Error> {
    if file.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::TooLarge { what: "bytes in the model file are", limit: MAX_FILE_BYTES });
    }
    walk(file, Kind::Model, &mut MAX_UNITS.clone())
}

fn walk(mut message: &[u8], kind: Kind, units: &mut u64) -> Result<(), Error> {
    let malformed = |reason: &str| Error::Malformed { reason: reason.into() };
    while !message.is_empty() {
        let (tag, wire_type) =
            decode_key(&mut message).map_err(|error| malformed(&error.to_string()))?;
        let mut cost = 1;
        let skipped = match wire_type {
            WireType::Varint => {
                decode_varint(&mut message).map_err(|error| malformed(&error.to_string()))?;
                0
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => {
                cost = MESSAGE_UNITS;
                decode_varint(&mut message).map_err(|error| malformed(&error.to_string()))?
            }
            WireType::StartGroup | WireType::EndGroup => {
                return Err(malformed("it uses protobuf groups"));
            }
        };
        let skipped = usize::try_from(skipped).ok().filter(|&length| length <= message.len());
        let (field, rest) =
            message.split_at(skipped.ok_or_else(|| malformed("it ends in the middle of a field"))?);
        message = rest;
        if kind.packs_integers(tag) {
            cost += field.len() as u64 / 2;
        }
        *units = units.checked_sub(cost).ok_or(Error::TooLarge {
            what: "fields in the model file are",
            limit: MAX_UNITS / MESSAGE_UNITS,
        })?;
        if let (WireType::LengthDelimited, Some(child)) = (wire_type, kind.child(tag)) {
            walk(field, child, units)?;
        }
    }
    Ok(())
}
