//! The messages of the ONNX file format, as far as the graph builder writes them.
//!
//! Field numbers, types and presence follow `onnx.proto` of the ONNX project (proto2, repeated
//! fields unpacked), which is licensed under Apache-2.0; a message or field that is not written here
//! is left out. Names are those of the schema.
//!
//! # References
//!
//! ONNX, *Open Neural Network Exchange Intermediate Representation*, and `onnx/onnx.proto`,
//! IR version 10.

use prost::{Message, Oneof};

/// A graph, and what is needed to understand it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelProto {
    #[prost(int64, optional, tag = "1")]
    pub(crate) ir_version: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(crate) producer_name: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) producer_version: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub(crate) doc_string: Option<String>,
    #[prost(message, optional, tag = "7")]
    pub(crate) graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "14")]
    pub(crate) metadata_props: Vec<StringStringEntryProto>,
}

/// A set of operators at a version; the standard set has an empty domain.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperatorSetIdProto {
    #[prost(string, optional, tag = "1")]
    pub(crate) domain: Option<String>,
    #[prost(int64, optional, tag = "2")]
    pub(crate) version: Option<i64>,
}

/// An entry of the metadata.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringStringEntryProto {
    #[prost(string, optional, tag = "1")]
    pub(crate) key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) value: Option<String>,
}

/// Nodes in an order in which they can be run, with constants, inputs and outputs.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub(crate) node: Vec<NodeProto>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) output: Vec<ValueInfoProto>,
}

/// One application of an operator.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub(crate) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) output: Vec<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) name: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) op_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) attribute: Vec<AttributeProto>,
}

/// A named constant of a node: an integer or a list of integers.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AttributeProto {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(int64, optional, tag = "3")]
    pub(crate) i: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(crate) ints: Vec<i64>,
    /// One of the `ATTRIBUTE_` constants.
    #[prost(int32, optional, tag = "20")]
    pub(crate) r#type: Option<i32>,
}

/// [`AttributeProto::i`] is used.
pub(crate) const ATTRIBUTE_INT: i32 = 2;
/// [`AttributeProto::ints`] is used.
pub(crate) const ATTRIBUTE_INTS: i32 = 7;

/// A constant tensor, its elements as little-endian bytes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(crate) dims: Vec<i64>,
    /// One of the `TYPE_` constants.
    #[prost(int32, optional, tag = "2")]
    pub(crate) data_type: Option<i32>,
    #[prost(string, optional, tag = "8")]
    pub(crate) name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub(crate) raw_data: Option<Vec<u8>>,
}

/// Elements are 32-bit floats.
pub(crate) const TYPE_FLOAT: i32 = 1;
/// Elements are 64-bit integers.
pub(crate) const TYPE_INT64: i32 = 7;
/// Elements are Booleans.
pub(crate) const TYPE_BOOL: i32 = 9;
/// Elements are 16-bit floats.
pub(crate) const TYPE_FLOAT16: i32 = 10;
/// Elements are 64-bit floats.
pub(crate) const TYPE_DOUBLE: i32 = 11;

/// Name, type and meaning of an input or output.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfoProto {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub(crate) r#type: Option<TypeProto>,
    #[prost(string, optional, tag = "3")]
    pub(crate) doc_string: Option<String>,
}

/// The type of a value: here always a tensor.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub(crate) tensor_type: Option<TensorTypeProto>,
}

/// Element type and shape of a tensor: `TypeProto.Tensor` in the schema.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorTypeProto {
    #[prost(int32, optional, tag = "1")]
    pub(crate) elem_type: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub(crate) shape: Option<TensorShapeProto>,
}

/// The axes of a tensor.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub(crate) dim: Vec<DimensionProto>,
}

/// One axis: `TensorShapeProto.Dimension` in the schema.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DimensionProto {
    #[prost(oneof = "Dimension", tags = "1, 2")]
    pub(crate) value: Option<Dimension>,
}

/// The length of an axis.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Dimension {
    /// Known.
    #[prost(int64, tag = "1")]
    DimValue(i64),
    /// Known to the caller only, by this name.
    #[prost(string, tag = "2")]
    DimParam(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: field 8 as single varints (tag 0x40), not as one packed block (tag 0x42).
    #[test]
    fn repeated_integers_are_unpacked() {
        let attribute = AttributeProto {
            name: Some("pads".to_owned()),
            ints: vec![3, 300],
            r#type: Some(ATTRIBUTE_INTS),
            ..AttributeProto::default()
        };

        let bytes = attribute.encode_to_vec();

        let expected = b"\x0a\x04pads\x40\x03\x40\xac\x02\xa0\x01\x07";
        assert_eq!(bytes, expected);
    }

    /// A zero that is set is written, one that is not set is not: proto2.
    #[test]
    fn presence_is_kept() {
        let unset = AttributeProto::default();
        let zero = AttributeProto { i: Some(0), ..AttributeProto::default() };

        assert_eq!(unset.encode_to_vec(), b"");
        assert_eq!(zero.encode_to_vec(), b"\x18\x00");
        assert_eq!(AttributeProto::decode(zero.encode_to_vec().as_slice()).unwrap(), zero);
    }
}
