//! The backbone that treats receivers as a set, as part of the graph.

use burn::nn::{LayerNorm, Linear};
use heimdall_features::FeatureShape;
use heimdall_model::{
    ABSENT_SCORE, ATTENTION_HEADS, AttentionLayer, LAYER_NORM_EPSILON, ReceiverSet,
    SideInputConfig, Standardization, TOKEN_LENGTH,
};

use super::{GraphInputs, linear, relu, residual_block, side, values};
use crate::graph::{Attribute, Element, Graph, Value};
use crate::port::Input;

/// Adds the backbone: standardized levels and side inputs to `[batch, 96]`.
pub(crate) fn embedding(
    graph: &mut Graph,
    set: &ReceiverSet,
    (levels, shape): (&Value, FeatureShape),
    (config, standardization): (&SideInputConfig, &Standardization),
    inputs: &GraphInputs,
) -> Value {
    let receivers = shape.receivers;
    let images = images(graph, set, levels, shape);
    let known = side::per_receiver(graph, config, standardization, inputs);
    let x = graph.join(&[&images, &known], 2);
    graph.enter("set.receiver");
    let tokens = set.receiver.layers.iter().fold(x, |x, layer| {
        let x = dense(graph, layer, &x);
        relu(graph, &x)
    });
    let query = side::fix_features(graph, standardization, inputs);
    let query = linear(graph, &set.query, &query);
    let query = graph.reshape(&query, &[1, TOKEN_LENGTH]);
    let tokens = graph.join(&[&query, &tokens], 1);

    let scores = scores(graph, inputs, receivers);
    let layers = set.layers.iter().enumerate();
    let tokens = layers.fold(tokens, |tokens, (index, layer)| {
        graph.enter(&format!("set.attention.{index}"));
        attention(graph, layer, &tokens, &scores, receivers + 1)
    });
    let answer = graph.slice(&tokens, 1, 0, 1);
    let answer = layer_norm(graph, &set.norm, &answer);
    graph.reshape(&answer, &[TOKEN_LENGTH])
}

/// What the shared blocks make of the levels of each receiver, `[batch, receivers, channels]`.
fn images(graph: &mut Graph, set: &ReceiverSet, levels: &Value, shape: FeatureShape) -> Value {
    graph.enter("set.image");
    let images = graph.regroup(levels, &[1, shape.bands, shape.frames]);
    let images = graph.narrowed(&images);
    let images = set.image.iter().fold(images, |x, block| residual_block(graph, block, &x));
    let pooled = graph.element_wise("GlobalAveragePool", &[&images]);
    let last = set.image.last().expect("there are blocks that look at the levels");
    let [channels, ..] = last.conv2.weight.dims();
    let pooled = graph.widened(&pooled);
    graph.regroup(&pooled, &[shape.receivers, channels])
}

/// What is added to the scores of each token, `[batch, 1, 1, 1 + receivers]`.
fn scores(graph: &mut Graph, inputs: &GraphInputs, receivers: usize) -> Value {
    graph.enter("set.scores");
    let one = graph.constant_f32("one", &[1, 1], &[1.0]);
    let absent_score = graph.constant_f32("absent_score", &[1, 1], &[ABSENT_SCORE as f32]);
    let absent = graph.subtract(&one, inputs.get(Input::Mask));
    let scores = graph.multiply(&absent, &absent_score);
    let first = graph.column(&scores, 0);
    let query = graph.subtract(&first, &first);
    let scores = graph.columns(&[&query, &scores]);
    graph.reshape(&scores, &[1, 1, receivers + 1])
}

fn attention(
    graph: &mut Graph,
    layer: &AttentionLayer,
    tokens: &Value,
    scores: &Value,
    count: usize,
) -> Value {
    let length = TOKEN_LENGTH / ATTENTION_HEADS;
    let x = layer_norm(graph, &layer.norm1, tokens);
    let parts = dense(graph, &layer.query_key_value, &x);
    // The queries and what is told are read as `[batch, heads, tokens, length]`, the keys with their
    // last two axes exchanged.
    let [query, key, told] = [(0, [0, 2, 1, 3]), (1, [0, 2, 3, 1]), (2, [0, 2, 1, 3])].map(
        |(part, order): (i64, [usize; 4])| {
            let width = i64::try_from(TOKEN_LENGTH).expect("a token is short");
            let part = graph.slice(&parts, 2, part * width, (part + 1) * width);
            let part = graph.reshape(&part, &[count, ATTENTION_HEADS, length]);
            transpose(graph, &part, &order)
        },
    );
    let scale = graph.constant_f32("scale", &[1, 1, 1, 1], &[(length as f32).sqrt()]);
    let products = graph.element_wise("MatMul", &[&query, &key]);
    let products = graph.divide(&products, &scale);
    let products = graph.add(&products, scores);
    let shares = graph.node("Softmax", &[&products], &[Attribute::Int("axis", 3)], Element::F32);
    let told = graph.element_wise("MatMul", &[&shares, &told]);
    let told = transpose(graph, &told, &[0, 2, 1, 3]);
    let told = graph.reshape(&told, &[count, TOKEN_LENGTH]);
    let told = dense(graph, &layer.output, &told);
    let tokens = graph.add(tokens, &told);

    let x = layer_norm(graph, &layer.norm2, &tokens);
    let x = dense(graph, &layer.hidden, &x);
    let x = relu(graph, &x);
    let x = dense(graph, &layer.residual, &x);
    graph.add(&tokens, &x)
}

fn transpose(graph: &mut Graph, x: &Value, order: &[usize]) -> Value {
    graph.node("Transpose", &[x], &[Attribute::Ints("perm", order)], Element::F32)
}

/// Adds a fully connected layer on the last of three axes.
fn dense(graph: &mut Graph, layer: &Linear, x: &Value) -> Value {
    let [inputs, outputs] = layer.weight.dims();
    let bias = layer.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| values(bias.val()));
    let weight = graph.constant_f32("weight", &[inputs, outputs], &values(layer.weight.val()));
    let bias = graph.constant_f32("bias", &[1, 1, outputs], &bias);
    let x = graph.element_wise("MatMul", &[x, &weight]);
    graph.add(&x, &bias)
}

/// Adds a layer normalization over the last of three axes, from operators that all versions have.
fn layer_norm(graph: &mut Graph, norm: &LayerNorm, x: &Value) -> Value {
    let length = norm.gamma.dims()[0];
    let average = graph.constant_f32("average", &[length, 1], &vec![1.0 / length as f32; length]);
    let gamma = graph.constant_f32("gamma", &[1, 1, length], &values(norm.gamma.val()));
    let beta = norm.beta.as_ref().map_or_else(|| vec![0.0; length], |beta| values(beta.val()));
    let beta = graph.constant_f32("beta", &[1, 1, length], &beta);
    let epsilon = graph.constant_f32("epsilon", &[1, 1, 1], &[LAYER_NORM_EPSILON as f32]);

    let mean = graph.element_wise("MatMul", &[x, &average]);
    let centered = graph.subtract(x, &mean);
    let squares = graph.square(&centered);
    let variance = graph.element_wise("MatMul", &[&squares, &average]);
    let variance = graph.add(&variance, &epsilon);
    let deviation = graph.square_root(&variance);
    let x = graph.divide(&centered, &deviation);
    let x = graph.multiply(&x, &gamma);
    graph.add(&x, &beta)
}
