//! The model card: what a model is for, how good it is, and what it is not for, in plain words.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::port::Port;
use crate::{Benchmark, OnnxModel, Parity, WeightPrecision};

/// Methods that an evaluation compares with, under their names there and for people.
const METHODS: [(&str, &str); 8] = [
    ("", "**the network**"),
    ("region_center.", "region center"),
    ("training_mean.", "training mean"),
    ("strongest.", "strongest receiver"),
    ("centroid.", "weighted centroid"),
    ("level_grid.", "level grid with silence"),
    ("fingerprints.", "nearest fingerprints"),
    ("tdoa.", "time differences"),
];

/// Returns the card of a model, in Markdown.
pub(crate) fn model_card(
    model: &OnnxModel,
    parity: &Parity,
    benchmark: Option<&Benchmark>,
) -> String {
    let metrics = metrics(model.metadata());
    [
        introduction(model),
        evaluation(&metrics),
        uncertainty(&metrics),
        limits(model),
        ports(model),
        file(model, parity, benchmark),
    ]
    .join("\n")
}

/// The figures of the evaluation; none if the model was not evaluated.
fn metrics(metadata: &BTreeMap<String, String>) -> BTreeMap<String, f64> {
    let text = metadata.get("heimdall.metrics").map_or("{}", String::as_str);
    serde_json::from_str(text).unwrap_or_default()
}

/// The names of the receivers, where the metadata have them.
fn receivers(model: &OnnxModel) -> Vec<String> {
    let text = model.metadata().get("heimdall.receivers").map_or("[]", String::as_str);
    let listed: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    listed.iter().filter_map(|receiver| Some(receiver.get("name")?.as_str()?.to_owned())).collect()
}

fn introduction(model: &OnnxModel) -> String {
    let receivers = receivers(model);
    let of_these = if receivers.is_empty() {
        format!("{} receivers", model.shape().receivers)
    } else {
        format!("{} receivers: {}", receivers.len(), receivers.join(", "))
    };
    let origin = &model.frame().origin;
    let members = match model.metadata().get("heimdall.members").map(String::as_str) {
        None | Some("1") => String::new(),
        Some(count) => format!(" It is an ensemble of {count} networks."),
    };
    format!(
        "# Model card\n\n## What it does\n\nSays where a radio transmitter is, and how sure that is, \
         from what several fixed receivers\nmeasured of one transmission. It was trained for \
         {of_these}.\nThe origin of its plane is {:.5}, {:.5}.{members}\n\n## What it is for\n\n\
         Transmitters on the ground in the area of these receivers, of the kinds and with the \
         waveforms of\nthe training data. A person should look at every position before anything \
         depends on it.\n",
        origin.latitude_deg(),
        origin.longitude_deg()
    )
}

fn evaluation(metrics: &BTreeMap<String, f64>) -> String {
    let mut text = "## How good it is\n\n".to_owned();
    if metrics.is_empty() {
        return text + "It was not evaluated: nothing is known about that.\n";
    }
    let events = metrics.get("events").map_or_else(String::new, |n| format!(" {n:.0}"));
    text += &format!(
        "Errors on{events} test events that neither trained nor calibrated it, beside other methods \
         on\nthe same events:\n\n| method | median, km | 68 %, km | 90 %, km |\n|---|---|---|---|\n"
    );
    for (prefix, name) in METHODS {
        let figures = ["median", "p68", "p90"]
            .map(|figure| metrics.get(&format!("{prefix}error_km_{figure}")).copied());
        if let [Some(median), Some(p68), Some(p90)] = figures {
            text += &format!("| {name} | {median:.2} | {p68:.2} | {p90:.2} |\n");
        }
    }
    if let Some(share) = metrics.get("abstention_share") {
        text += &format!(
            "\nOf these events, {:.1} % have no fix: nobody hears them, or the region is too large.\n",
            100.0 * share
        );
    }
    text
}

fn uncertainty(metrics: &BTreeMap<String, f64>) -> String {
    let mut rows = String::new();
    for percent in [50, 68, 90, 95] {
        let figure = |suffix: &str| metrics.get(&format!("coverage_{percent}{suffix}")).copied();
        if let [Some(covers), Some(low), Some(high)] = ["", "_low", "_high"].map(figure) {
            rows += &format!(
                "| {percent} % | {:.1} % | {:.1} % to {:.1} % |\n",
                100.0 * covers,
                100.0 * low,
                100.0 * high
            );
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "## Whether it knows how sure it is\n\n| region of | holds the transmitter in | 95 % interval \
         of that |\n|---|---|---|\n{rows}"
    )
}

fn limits(model: &OnnxModel) -> String {
    let mut limits = vec![
        "It knows these receivers where they stand. One that is moved, gets another antenna or another \
         gain is another receiver; a model for it has to be trained.",
        "Far outside of the area of the training data its positions mean nothing, and it may not say \
         so: the stated region is right on average over events like those of training.",
        "The figures above hold for data like the test data. In another season, of other transmitters \
         or waveforms, they are worse by an unknown amount until somebody measures it.",
        "Several transmitters at once on one frequency are taken for one.",
        "It says where a transmission comes from, not who made it.",
    ];
    if model.network().side_inputs.is_some() {
        limits.push(
            "Where it is given a classical fix, it relies on it: receivers whose clocks are wrong and \
             do not say so lead it astray.",
        );
    }
    let rows: String = limits.iter().map(|limit| format!("- {limit}\n")).collect();
    format!("## What it is not for, and its limits\n\n{rows}")
}

fn ports(model: &OnnxModel) -> String {
    let row = |kind: &str, port: &Port| {
        let meaning = model.metadata().get(&format!("heimdall.meaning.{}", port.name));
        let axes = port.shape[1..].iter().map(ToString::to_string);
        let axes = std::iter::once("batch_size".to_owned()).chain(axes).collect::<Vec<_>>();
        format!(
            "| {kind} | `{}` | {} | `[{}]` | {} |\n",
            port.name,
            port.dtype,
            axes.join(", "),
            meaning.map_or("", String::as_str)
        )
    };
    let inputs: String = model.inputs().iter().map(|port| row("input", port)).collect();
    let outputs: String = model.outputs().iter().map(|port| row("output", port)).collect();
    format!(
        "## Inputs and outputs\n\n| | name | elements | shape | meaning |\n|---|---|---|---|---|\n\
         {inputs}{outputs}"
    )
}

fn file(model: &OnnxModel, parity: &Parity, benchmark: Option<&Benchmark>) -> String {
    let precision = match model.precision() {
        WeightPrecision::F32 => "single",
        WeightPrecision::F16 => "half",
    };
    let mut text = format!(
        "## The file\n\nONNX, opset {}, IR version {}, {:.1} MB, weights in {precision} precision. On \
         {} samples, run by {},\nits positions are within {:.3} m of the network that it was made \
         from.\n",
        model.opset(),
        model.ir_version(),
        model.bytes().len() as f64 / 1e6,
        parity.samples,
        parity.runtime,
        parity.position_difference_m_max
    );
    if let Some(benchmark) = benchmark {
        text += &format!(
            "\nBy {} on one processor ({}) where it was exported:\n\n| events at a time | median, ms | \
             95 %, ms |\n|---|---|---|\n",
            benchmark.runtime, benchmark.machine
        );
        for batch in &benchmark.batches {
            text += &format!(
                "| {} | {:.2} | {:.2} |\n",
                batch.batch_size, batch.latency_ms_median, batch.latency_ms_p95
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use heimdall_model::Backbone;

    use super::*;
    use crate::sample::{features, frame, network_with_side_inputs, shape};
    use crate::{BatchLatency, ExportConfig, export, verify};

    fn card(metrics: &str) -> String {
        let network = network_with_side_inputs(Backbone::Mlp, 3);
        let metadata = BTreeMap::from([
            ("metrics".to_owned(), metrics.to_owned()),
            ("receivers".to_owned(), r#"[{"name":"Alba"},{"name":"Boves"}]"#.to_owned()),
        ]);
        let config = ExportConfig::default();
        let model = export(&network, &frame(), shape(), 1.5, &metadata, &config).unwrap();
        let parity = verify(model.bytes(), &network, &frame(), 1.5, &features(2), &config).unwrap();
        let batch = BatchLatency {
            batch_size: 32,
            runs: 9,
            latency_ms_median: 12.345,
            latency_ms_p95: 20.0,
        };
        let benchmark = Benchmark {
            runtime: "tract-onnx".to_owned(),
            machine: "x".to_owned(),
            processors: 2,
            batches: vec![batch],
        };
        model_card(&model, &parity, Some(&benchmark))
    }

    #[test]
    fn card_has_the_figures_of_the_evaluation() {
        let metrics = r#"{"events": 120, "error_km_median": 12.345, "error_km_p68": 20, "error_km_p90": 40,
            "centroid.error_km_median": 30, "centroid.error_km_p68": 33, "centroid.error_km_p90": 60,
            "coverage_90": 0.885, "coverage_90_low": 0.8, "coverage_90_high": 0.95}"#;

        let card = card(metrics);

        for told in [
            "Errors on 120 test events",
            "| **the network** | 12.35 | 20.00 | 40.00 |",
            "| weighted centroid | 30.00 | 33.00 | 60.00 |",
            "| 90 % | 88.5 % | 80.0 % to 95.0 % |",
            "2 receivers: Alba, Boves",
            "| input | `mask` | float32 | `[batch_size, 3]` | 1 for each receiver",
            "| output | `covariance_m2` | float64 | `[batch_size, 2, 2]` |",
            "| 32 | 12.35 | 20.00 |",
            "## What it is not for",
            "classical fix",
        ] {
            assert!(card.contains(told), "no {told:?} in\n{card}");
        }
        assert!(!card.contains("fingerprints") && !card.contains("| 50 % |"), "{card}");
    }

    #[test]
    fn model_that_was_not_evaluated_says_so() {
        let card = card("{}");

        assert!(card.contains("It was not evaluated") && !card.contains("| method |"), "{card}");
    }
}
