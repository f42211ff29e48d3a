//! What the variants of a stage with a matrix came to, beside each other.

use std::collections::{BTreeMap, BTreeSet};

use super::table::{figure, table};
use crate::spec::variant_parts;

/// Metrics that are shown where nobody asks for others.
const METRICS_MAX: usize = 6;

/// Metrics by which people choose, which stand before all others.
const DECISIVE: [&str; 6] = [
    "error_km_median",
    "error_km_p90",
    "coverage_90",
    "nll",
    "validation_error_km_median",
    "validation_loss",
];

/// A stage of a run, as far as it is compared.
pub(super) struct Variant<'a> {
    pub(super) name: &'a str,
    pub(super) state: &'static str,
    pub(super) headline: &'a str,
    pub(super) metrics: &'a BTreeMap<String, f64>,
}

/// Returns a table for each stage with a matrix that has metrics or a headline, with a row for each
/// variant. The metrics are those asked for, or else some that differ between variants.
pub(super) fn comparison(stages: &[Variant<'_>], wanted: &[String]) -> String {
    let mut groups: Vec<(&str, Vec<&Variant<'_>>)> = Vec::new();
    for variant in stages {
        let Some((stage, _)) = variant_parts(variant.name) else { continue };
        match groups.iter_mut().find(|(known, _)| *known == stage) {
            Some((_, variants)) => variants.push(variant),
            None => groups.push((stage, vec![variant])),
        }
    }
    let has_something = |variant: &&Variant<'_>| match wanted {
        [] => !variant.metrics.is_empty() || !variant.headline.is_empty(),
        _ => wanted.iter().any(|metric| variant.metrics.contains_key(metric)),
    };
    groups.retain(|(_, variants)| variants.iter().any(has_something));
    groups.iter().map(|(stage, variants)| one(stage, variants, wanted)).collect()
}

fn one(stage: &str, variants: &[&Variant<'_>], wanted: &[String]) -> String {
    let differing = differing(variants);
    let metrics: Vec<&str> = match wanted {
        [] => differing.iter().take(METRICS_MAX).copied().collect(),
        _ => wanted.iter().map(String::as_str).collect(),
    };
    let axes = variants.iter().map(|variant| variant_parts(variant.name).unwrap_or_default().1);
    let axes: Vec<Vec<(&str, &str)>> = axes.collect();
    let mut header: Vec<&str> = axes[0].iter().map(|(axis, _)| *axis).collect();
    header.push("state");
    header.extend(&metrics);
    let mut rows = vec![header.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (variant, axes) in variants.iter().zip(axes) {
        let mut row: Vec<String> = axes.iter().map(|(_, value)| (*value).to_owned()).collect();
        row.push(variant.state.to_owned());
        row.extend(metrics.iter().map(|metric| {
            variant.metrics.get(*metric).map_or_else(|| "–".to_owned(), |value| figure(*value))
        }));
        rows.push(row);
    }
    if metrics.is_empty() {
        rows[0].push(String::new());
        rows[1..].iter_mut().zip(variants).for_each(|(row, v)| row.push(v.headline.to_owned()));
    }
    let mut text = format!("\n{stage}, {} variants\n{}", variants.len(), table(&rows));
    if wanted.is_empty() && differing.len() > METRICS_MAX {
        let more = differing.len() - METRICS_MAX;
        text += &format!("{more} more metrics differ: `show --metric NAME` shows one\n");
    }
    text
}

/// Returns the names of the metrics that are not the same in all variants: the decisive ones, then
/// those of the whole result, then those of its parts, whose names have points.
fn differing<'a>(variants: &[&Variant<'a>]) -> Vec<&'a str> {
    let names: BTreeSet<&str> =
        variants.iter().flat_map(|variant| variant.metrics.keys().map(String::as_str)).collect();
    let differs = |name: &&str| {
        let mut values = variants.iter().map(|variant| variant.metrics.get(*name));
        let first = values.next().flatten();
        values.any(|value| value != first)
    };
    let mut names: Vec<&str> = names.into_iter().filter(differs).collect();
    let rank = |name: &str| DECISIVE.iter().position(|known| *known == name);
    names.sort_by_key(|name| (rank(name).unwrap_or(DECISIVE.len()), name.contains('.')));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(values: &[(&str, f64)]) -> BTreeMap<String, f64> {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn variants_stand_beside_each_other() {
        let (one, two) = (
            metrics(&[("a.b", 1.0), ("error_km_median", 26.5), ("events", 40.0), ("b", 1.25)]),
            metrics(&[("a.b", 2.0), ("error_km_median", 25.5), ("events", 40.0)]),
        );
        let none = BTreeMap::new();
        let variant = |name, metrics| Variant { name, state: "ran", headline: "", metrics };
        let stages = [
            variant("features", &one),
            variant("train[rate=0.1,model.backbone=mlp]", &one),
            variant("train[rate=0.2,model.backbone=mlp]", &two),
            variant("copy[rate=0.1]", &none),
        ];

        assert_eq!(
            comparison(&stages, &[]),
            "\ntrain, 2 variants\n\
             rate  model.backbone  state  error_km_median  b       a.b\n\
             0.1   mlp             ran    26.500           1.2500  1\n\
             0.2   mlp             ran    25.500           –       2\n"
        );
        let asked = comparison(&stages, &["events".to_owned()]);
        assert!(asked.contains("state  events\n") && asked.contains("ran    40\n"), "{asked}");
    }
}
