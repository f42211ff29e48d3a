//! A builder of ONNX graphs whose values know their element type.

use half::f16;

use crate::proto::{
    ATTRIBUTE_INT, ATTRIBUTE_INTS, AttributeProto, Dimension, DimensionProto, GraphProto,
    NodeProto, TYPE_BOOL, TYPE_DOUBLE, TYPE_FLOAT, TYPE_FLOAT16, TYPE_INT64, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Name of the first axis of every input and output.
pub(crate) const BATCH_AXIS: &str = "batch_size";

/// What the elements of a value are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    #[default]
    F32,
    F64,
    I64,
    Bool,
}

impl Element {
    fn proto(self) -> i32 {
        match self {
            Self::F16 => TYPE_FLOAT16,
            Self::F32 => TYPE_FLOAT,
            Self::F64 => TYPE_DOUBLE,
            Self::I64 => TYPE_INT64,
            Self::Bool => TYPE_BOOL,
        }
    }
}

/// A value of a graph: an input, a constant, or what a node makes.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    name: String,
    element: Element,
}

impl Value {
    /// Whether the elements have 16 bits.
    pub(crate) fn is_half(&self) -> bool {
        self.element == Element::F16
    }
}

/// An attribute of a node.
pub(crate) enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [usize]),
}

/// A graph under construction: nodes stand in the order in which they were added, which is one in
/// which they can be run.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    proto: GraphProto,
    scope: String,
    values: usize,
    /// What the layers compute in that have most of the weights.
    weights: Element,
}

impl Graph {
    pub(crate) fn new(name: &str, weights: Element) -> Self {
        Self {
            proto: GraphProto { name: Some(name.to_owned()), ..GraphProto::default() },
            weights,
            ..Self::default()
        }
    }

    /// Enters the layers that have most of the weights: what they take has the precision of those.
    pub(crate) fn narrowed(&mut self, a: &Value) -> Value {
        self.converted(a, self.weights)
    }

    /// Leaves them.
    pub(crate) fn widened(&mut self, a: &Value) -> Value {
        self.converted(a, Element::F32)
    }

    fn converted(&mut self, a: &Value, element: Element) -> Value {
        if a.element == element { a.clone() } else { self.cast(a, element) }
    }

    /// Names what follows after a part of the network: `layer1.0`.
    pub(crate) fn enter(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
    }

    /// Adds an input with a batch axis in front of `shape`.
    pub(crate) fn input(
        &mut self,
        name: &str,
        element: Element,
        shape: &[usize],
        description: &str,
    ) -> Value {
        self.proto.input.push(value_info(name, element, shape, description));
        Value { name: name.to_owned(), element }
    }

    /// Makes `value` an output under a name, with a batch axis in front of `shape`.
    pub(crate) fn output(&mut self, name: &str, value: &Value, shape: &[usize], description: &str) {
        self.proto.output.push(value_info(name, value.element, shape, description));
        self.proto.node.push(NodeProto {
            input: vec![value.name.clone()],
            output: vec![name.to_owned()],
            name: Some(format!("output/{name}")),
            op_type: Some("Identity".to_owned()),
            attribute: Vec::new(),
        });
    }

    /// Adds a constant of 32-bit floats.
    pub(crate) fn constant_f32(&mut self, what: &str, shape: &[usize], data: &[f32]) -> Value {
        let bytes = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(what, Element::F32, shape, data.len(), bytes)
    }

    /// Adds a constant of the precision of a value, with which it is to be computed.
    pub(crate) fn constant_like(
        &mut self,
        value: &Value,
        what: &str,
        shape: &[usize],
        data: &[f32],
    ) -> Value {
        if !value.is_half() {
            return self.constant_f32(what, shape, data);
        }
        let bytes = data.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        self.constant(what, Element::F16, shape, data.len(), bytes)
    }

    /// Adds a constant of 64-bit integers, a list.
    pub(crate) fn constant_i64(&mut self, what: &str, data: &[i64]) -> Value {
        let bytes = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(what, Element::I64, &[data.len()], data.len(), bytes)
    }

    /// Adds a 64-bit float that has no axes.
    pub(crate) fn scalar(&mut self, value: f64) -> Value {
        self.constant("constant", Element::F64, &[], 1, value.to_le_bytes().to_vec())
    }

    fn constant(
        &mut self,
        what: &str,
        element: Element,
        shape: &[usize],
        count: usize,
        bytes: Vec<u8>,
    ) -> Value {
        assert_eq!(shape.iter().product::<usize>(), count, "the data of a constant fill its shape");
        let value = self.value(what, element);
        self.proto.initializer.push(TensorProto {
            dims: shape.iter().map(|&length| axis(length)).collect(),
            data_type: Some(element.proto()),
            name: Some(value.name.clone()),
            raw_data: Some(bytes),
        });
        value
    }

    /// Adds a node with one output.
    pub(crate) fn node(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: &[Attribute<'_>],
        element: Element,
    ) -> Value {
        let output = self.value(operator, element);
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|value| value.name.clone()).collect(),
            output: vec![output.name.clone()],
            name: Some(output.name.clone()),
            op_type: Some(operator.to_owned()),
            attribute: attributes.iter().map(attribute_proto).collect(),
        });
        output
    }

    pub(crate) fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.element_wise("Add", &[a, b])
    }

    pub(crate) fn subtract(&mut self, a: &Value, b: &Value) -> Value {
        self.element_wise("Sub", &[a, b])
    }

    pub(crate) fn multiply(&mut self, a: &Value, b: &Value) -> Value {
        self.element_wise("Mul", &[a, b])
    }

    pub(crate) fn divide(&mut self, a: &Value, b: &Value) -> Value {
        self.element_wise("Div", &[a, b])
    }

    pub(crate) fn square(&mut self, a: &Value) -> Value {
        self.element_wise("Mul", &[a, a])
    }

    pub(crate) fn square_root(&mut self, a: &Value) -> Value {
        self.element_wise("Sqrt", &[a])
    }

    /// `a + shift`, in 64 bits.
    pub(crate) fn shifted(&mut self, a: &Value, shift: f64) -> Value {
        let shift = self.scalar(shift);
        self.add(a, &shift)
    }

    /// `a · factor`, in 64 bits.
    pub(crate) fn scaled(&mut self, a: &Value, factor: f64) -> Value {
        let factor = self.scalar(factor);
        self.multiply(a, &factor)
    }

    /// Adds a node with attributes whose inputs and output have the same elements.
    pub(crate) fn layer(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: &[Attribute<'_>],
    ) -> Value {
        self.node(operator, inputs, attributes, inputs[0].element)
    }

    /// Adds a node whose inputs and output have the same elements.
    pub(crate) fn element_wise(&mut self, operator: &str, inputs: &[&Value]) -> Value {
        let element = inputs[0].element;
        assert!(
            inputs.iter().all(|value| value.element == element),
            "the inputs of {operator} have the same elements"
        );
        self.node(operator, inputs, &[], element)
    }

    /// Converts the elements of a value.
    pub(crate) fn cast(&mut self, a: &Value, element: Element) -> Value {
        let to = Attribute::Int("to", i64::from(element.proto()));
        self.node("Cast", &[a], &[to], element)
    }

    /// Compares two values; the result is 1.0 where the comparison holds, else 0.0.
    pub(crate) fn indicator(&mut self, comparison: &str, a: &Value, b: &Value) -> Value {
        assert_eq!(a.element, b.element, "the inputs of {comparison} have the same elements");
        let holds = self.node(comparison, &[a, b], &[], Element::Bool);
        self.cast(&holds, Element::F64)
    }

    /// Takes a column of a matrix: `[batch, columns]` to `[batch, 1]`.
    pub(crate) fn column(&mut self, a: &Value, index: i64) -> Value {
        self.slice(a, 1, index, index + 1)
    }

    /// Takes what lies from `start` up to `end` along an axis.
    pub(crate) fn slice(&mut self, a: &Value, axis: i64, start: i64, end: i64) -> Value {
        let starts = self.constant_i64("starts", &[start]);
        let ends = self.constant_i64("ends", &[end]);
        let axes = self.constant_i64("axes", &[axis]);
        self.node("Slice", &[a, &starts, &ends, &axes], &[], a.element)
    }

    /// Gives each event of a value another shape of as many elements.
    pub(crate) fn reshape(&mut self, a: &Value, shape: &[usize]) -> Value {
        // A zero keeps the length of the axis, which is the batch.
        self.reshape_from(a, 0, shape)
    }

    /// Gives a value another shape, in which the first axis has the length that is left.
    pub(crate) fn regroup(&mut self, a: &Value, shape: &[usize]) -> Value {
        self.reshape_from(a, -1, shape)
    }

    fn reshape_from(&mut self, a: &Value, first: i64, shape: &[usize]) -> Value {
        let axes: Vec<i64> =
            std::iter::once(first).chain(shape.iter().map(|&length| axis(length))).collect();
        let axes = self.constant_i64("shape", &axes);
        self.node("Reshape", &[a, &axes], &[], a.element)
    }

    /// Joins columns to a matrix.
    pub(crate) fn columns(&mut self, columns: &[&Value]) -> Value {
        self.join(columns, 1)
    }

    /// Joins values along an axis.
    pub(crate) fn join(&mut self, values: &[&Value], axis: i64) -> Value {
        self.node("Concat", values, &[Attribute::Int("axis", axis)], values[0].element)
    }

    /// Finishes the graph.
    pub(crate) fn finish(self) -> GraphProto {
        self.proto
    }

    fn value(&mut self, what: &str, element: Element) -> Value {
        self.values += 1;
        Value { name: format!("{}/{what}_{}", self.scope, self.values), element }
    }
}

fn attribute_proto(attribute: &Attribute<'_>) -> AttributeProto {
    match *attribute {
        Attribute::Int(name, value) => AttributeProto {
            name: Some(name.to_owned()),
            i: Some(value),
            r#type: Some(ATTRIBUTE_INT),
            ..AttributeProto::default()
        },
        Attribute::Ints(name, values) => AttributeProto {
            name: Some(name.to_owned()),
            ints: values.iter().map(|&value| axis(value)).collect(),
            r#type: Some(ATTRIBUTE_INTS),
            ..AttributeProto::default()
        },
    }
}

fn value_info(name: &str, element: Element, shape: &[usize], description: &str) -> ValueInfoProto {
    let batch = Dimension::DimParam(BATCH_AXIS.to_owned());
    let rest = shape.iter().map(|&length| Dimension::DimValue(axis(length)));
    let dim = std::iter::once(batch)
        .chain(rest)
        .map(|value| DimensionProto { value: Some(value) })
        .collect();
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: Some(element.proto()),
                shape: Some(TensorShapeProto { dim }),
            }),
        }),
        doc_string: Some(description.to_owned()),
    }
}

/// The length of an axis as the file format has it.
fn axis(length: usize) -> i64 {
    i64::try_from(length).expect("an axis in memory is shorter than 2⁶³")
}
