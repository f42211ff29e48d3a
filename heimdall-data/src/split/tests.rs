//! Laws of splits: no group is cut, and only names and seed matter.

use proptest::prelude::*;

use super::*;
use crate::testing::label;

fn ratio(train: f64, validation: f64, calibration: f64, test: f64) -> SplitRatio {
    SplitRatio { train, validation, calibration, test }
}

/// Labels of events whose sources have these numbers of events.
fn labels_of(events_per_source: &[usize]) -> Vec<EventLabel> {
    let mut labels = Vec::new();
    for (source, &events) in events_per_source.iter().enumerate() {
        for _ in 0..events {
            let mut label = label(labels.len());
            label.source = format!("source {source}");
            labels.push(label);
        }
    }
    labels
}

#[test]
fn ratios_are_shares_of_groups() {
    let labels = labels_of(&[3; 40]);
    let config = SplitConfig { ratio: ratio(0.5, 0.25, 0.125, 0.05), ..SplitConfig::default() };

    let parts = split(&labels, &config).unwrap();

    let count = |part| parts.iter().filter(|&&actual| actual == part).count();
    assert_eq!(Part::DEALT.map(count), [60, 30, 15, 6]);
    assert_eq!(count(Part::Unused), 9);
}

#[test]
fn other_seed_is_another_split() {
    let labels = labels_of(&[1; 40]);
    let with = |seed| split(&labels, &SplitConfig { seed, ..SplitConfig::default() }).unwrap();

    assert_ne!(with(1), with(2));
}

#[test]
fn event_without_position_is_unused() {
    let mut labels = labels_of(&[2; 20]);
    labels[5].position_km = None;

    let parts = split(&labels, &SplitConfig::default()).unwrap();

    assert_eq!(parts[5], Part::Unused);
    assert_eq!(parts.iter().filter(|&&part| part == Part::Unused).count(), 1);
}

#[test]
fn part_without_a_group_is_refused_by_name() {
    let error = split(&labels_of(&[50; 4]), &SplitConfig::default()).unwrap_err();

    let expected = "the part `validation` is empty: 4 groups by source are too few for a \
                    ratio of 0.1";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn part_of_ratio_zero_may_be_empty() {
    let config = SplitConfig { ratio: ratio(0.8, 0.2, 0.0, 0.0), ..SplitConfig::default() };

    let parts = split(&labels_of(&[2; 5]), &config).unwrap();

    assert!(parts.iter().all(|part| matches!(part, Part::Train | Part::Validation)));
}

#[test]
fn ratios_beyond_their_rules_are_refused() {
    let cases = [
        (ratio(0.8, 0.2, 0.1, 0.0), "sum"),
        (ratio(-0.1, 0.2, 0.1, 0.0), "train"),
        (ratio(0.5, f64::NAN, 0.1, 0.0), "validation"),
    ];
    for (ratio, field) in cases {
        let config = SplitConfig { ratio, ..SplitConfig::default() };

        let error = split(&labels_of(&[2; 20]), &config).unwrap_err();

        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn misspelt_group_is_refused() {
    let error = serde_json::from_str::<SplitConfig>(r#"{"by": "sources"}"#).unwrap_err();

    assert!(error.to_string().contains("sources"), "{error}");
}

/// Blocks of 2 km: the labels lie on a line through 0, 1, 2 … km to the east, half as far south.
#[test]
fn block_is_a_square_of_the_map() {
    let config = SplitConfig { by: SplitBy::Block, block_km: 2.0, ..SplitConfig::default() };

    let group = |event| config.group(&label(event)).unwrap().unwrap();

    assert_eq!(["0,0", "0,-1", "1,-1", "1,-1", "2,-1"], [0, 1, 2, 3, 4].map(group).as_slice());
}

/// 48 events, one an hour, are two days: the first trains, the second tests.
#[test]
fn what_is_tested_is_later_than_what_was_learned() {
    let labels: Vec<EventLabel> = (0..48).map(label).collect();
    let config = SplitConfig {
        by: SplitBy::Time,
        ratio: ratio(0.5, 0.0, 0.0, 0.5),
        ..SplitConfig::default()
    };

    let parts = split(&labels, &config).unwrap();

    assert!(parts[..24].iter().all(|part| *part == Part::Train));
    assert!(parts[24..].iter().all(|part| *part == Part::Test));
    let mut labels = labels;
    labels[3].time = None;
    let error = split(&labels, &config).unwrap_err().to_string();
    assert!(error.contains("event-0003"), "{error}");
}

#[test]
fn listed_groups_go_where_the_list_says() {
    let labels = labels_of(&[3; 20]);
    let lists = SplitLists {
        train: vec!["source 7".to_owned()],
        test: vec!["source 2".to_owned(), "source 9".to_owned()],
        ..SplitLists::default()
    };
    let all_train = ratio(1.0, 0.0, 0.0, 0.0);
    let config = SplitConfig { lists: lists.clone(), ratio: all_train, ..SplitConfig::default() };

    let parts = split(&labels, &config).unwrap();

    for (label, part) in labels.iter().zip(parts) {
        let expected = if ["source 2", "source 9"].contains(&label.source.as_str()) {
            Part::Test
        } else {
            Part::Train
        };
        assert_eq!(part, expected, "{}", label.source);
    }
    let unknown = SplitLists { validation: vec!["source 99".to_owned()], ..lists.clone() };
    let error = split(&labels, &SplitConfig { lists: unknown, ..config.clone() }).unwrap_err();
    assert!(error.to_string().contains("source 99"), "{error}");
    let twice = SplitLists { validation: vec!["source 7".to_owned()], ..lists };
    let error = split(&labels, &SplitConfig { lists: twice, ..config }).unwrap_err();
    assert!(error.to_string().contains("source 7"), "{error}");
}

proptest! {
    /// No group is cut, every event gets a part, and only names and seed matter.
    #[test]
    fn groups_stay_whole_in_any_order(
        events_per_source in prop::collection::vec(1_usize..5, 12..40),
        seed in any::<u64>(),
        by in prop::sample::select(vec![
            SplitBy::Source,
            SplitBy::Session,
            SplitBy::Block,
            SplitBy::Time,
            SplitBy::Event,
        ]),
        rotation in 0_usize..100,
    ) {
        let mut labels = labels_of(&events_per_source);
        let config =
            SplitConfig { by, seed, block_km: 1.0, period_hours: 1.5, ..SplitConfig::default() };

        let parts = split(&labels, &config).unwrap();

        let mut part_of_group = HashMap::new();
        for (label, &part) in labels.iter().zip(&parts) {
            let group = config.group(label).unwrap().unwrap();
            prop_assert_eq!(*part_of_group.entry(group).or_insert(part), part);
        }
        for part in Part::DEALT {
            prop_assert!(parts.contains(&part));
        }
        let rotation = rotation % labels.len();
        labels.rotate_left(rotation);
        let mut rotated = split(&labels, &config).unwrap();
        rotated.rotate_right(rotation);
        prop_assert_eq!(rotated, parts);
    }
}
