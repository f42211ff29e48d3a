//! Laws of tables as features: what is told arrives, silence is not absence, scales are not mixed.

use tempfile::tempdir;

use super::*;
use crate::{HeimdallDataset, read_measurement_tables};

const RECEIVERS: &str = "receiver,latitude,longitude\na,45,7\nb,45.1,7.2\nc,45.2,7.1\n";

/// Reads tables of a folder of their own.
fn tables(receivers: &str, events: &str, measurements: &str) -> MeasurementTables {
    let folder = tempdir().unwrap();
    for (name, text) in
        [("receivers.csv", receivers), ("events.csv", events), ("measurements.csv", measurements)]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    read_measurement_tables(folder.path()).unwrap()
}

/// Writes tables as features of their own network, and reads them back.
fn written(tables: &MeasurementTables, config: &TableConfig) -> Vec<(EventLabel, FeatureMap)> {
    let network = MeasuredNetwork::of(tables, config).unwrap();
    written_for(&network, tables).1
}

fn written_for(
    network: &MeasuredNetwork,
    tables: &MeasurementTables,
) -> (TableReport, Vec<(EventLabel, FeatureMap)>) {
    let folder = tempdir().unwrap();
    let report = network.write(tables, folder.path()).unwrap();
    let dataset = HeimdallDataset::open(folder.path()).unwrap();
    (report, (0..dataset.len()).map(|index| dataset.get(index).unwrap()).collect())
}

fn powers_db(features: &FeatureMap) -> Vec<Option<(f32, bool)>> {
    features.scalars.iter().map(|s| s.map(|s| (s.power_db, s.detected))).collect()
}

/// `a` hears both events, `b` one of them and has an empty cell for the other, `c` has no line.
#[test]
fn silence_is_told_from_absence() {
    let tables = tables(
        RECEIVERS,
        "event,latitude,longitude\n1,45,7\n2,45.1,7.1\n",
        "event,receiver,rss_db\n1,a,-80\n1,b,-70.5\n2,a,-90\n2,b,\n1,c,-60\n",
    );
    let with = |missing| {
        let config = TableConfig { missing, ..TableConfig::default() };
        written(&tables, &config).iter().map(|(_, map)| powers_db(map)).collect::<Vec<_>>()
    };

    let first = vec![Some((-80.0, true)), Some((-70.5, true)), Some((-60.0, true))];
    let silent_b = Some((-70.5, false));
    let second_at = |of_c| vec![Some((-90.0, true)), silent_b, of_c];
    assert_eq!(with(MissingLine::Absent), [first.clone(), second_at(None)]);
    assert_eq!(with(MissingLine::NotHeard), [first, second_at(Some((-60.0, false)))]);
}

#[test]
fn ratios_times_and_names_arrive() {
    let tables = tables(
        RECEIVERS,
        "event,source,session,waveform,time,latitude,longitude\n\
         1,car,walk,cw,2022-07-05T10:51:43Z,45,7\n2,,,,,,\n",
        "event,receiver,snr_db,rss_db,noise_db,arrival_time_ns\n\
         1,a,,-80,-95,1000\n1,b,12,,,1250\n2,a,3,,,\n",
    );

    let read = written(&tables, &TableConfig { timing_sigma_s: 3e-7, ..TableConfig::default() });

    let (label, features) = &read[0];
    assert_eq!(label.time, Some(UtcTime { seconds: 1_657_018_303, nanoseconds: 0 }));
    assert_eq!((label.source.as_str(), label.session.as_str()), ("car", "walk"));
    assert_eq!(label.waveform.as_deref(), Some("cw"));
    let frame =
        LocalFrame::centered_on(&tables.receivers.iter().map(|r| r.position).collect::<Vec<_>>());
    let place = frame.unwrap().to_local(&Position::new(45.0, 7.0).unwrap());
    assert!(label.position_km.unwrap().distance_km(&place) < 1e-9);
    let [a, b] = [0, 1].map(|receiver| features.scalars[receiver].unwrap());
    assert_eq!((a.snr_db, a.power_db, a.noise_psd_db), (15.0, -80.0, -95.0));
    assert!((b.snr_db - 12.0).abs() < 1e-6 && b.power_db.is_nan());
    let late_s = features.arrivals[1].unwrap().time_s - features.arrivals[0].unwrap().time_s;
    assert!((late_s - 250e-9).abs() < 1e-15);
    assert!((features.arrivals[0].unwrap().sigma_s - 3e-7).abs() < 1e-15);
    let untold = &read[1].0;
    assert_eq!((untold.source.as_str(), untold.session.as_str()), ("unknown", "2"));
    assert_eq!((untold.position_km, untold.time), (None, None));
}

/// Events 0, 50, 70 and 110 s after the first: of sessions of a minute the first two are one, and the
/// other two the next. Another source, and a told session, are others.
#[test]
fn untold_sessions_are_stretches_of_time() {
    let tables = tables(
        RECEIVERS,
        "event,time,source,session\n\
         d,2022-07-05T00:01:50Z,,\na,2022-07-05T00:00:00Z,,\nb,2022-07-05T00:00:50Z,,\n\
         c,2022-07-05T00:01:10Z,,\ne,2022-07-05T00:01:50Z,car,\nf,2022-07-05T00:01:50Z,,told\n",
        "event,receiver,rss_db\na,a,-80\n",
    );

    let sessions: Vec<String> = written(&tables, &TableConfig::default())
        .into_iter()
        .map(|(label, _)| label.session)
        .collect();

    let (first, second) = ("2022-07-05T00:00:00Z", "2022-07-05T00:01:10Z");
    assert_eq!(sessions, [second, first, first, second, "car 2022-07-05T00:01:50Z", "told"]);
}

/// Another folder has one of the receivers, another one, and another order.
#[test]
fn other_folder_is_written_in_the_order_of_the_network() {
    let own = tables(RECEIVERS, "event\n1\n", "event,receiver,rss_db\n1,a,-80\n1,b,-70\n");
    let other = tables(
        "receiver,latitude,longitude\nnew,45.3,7\nb,45.1,7.2\n",
        "event\n9\n",
        "event,receiver,rss_db\n9,new,-50\n9,b,-60\n",
    );
    let network = MeasuredNetwork::of(&own, &TableConfig::default()).unwrap();

    let (report, read) = written_for(&network, &other);

    assert_eq!(powers_db(&read[0].1), [Some((-80.0, false)), Some((-60.0, true)), None]);
    let expected = TableReport {
        events: 1,
        labelled: 0,
        measurements: 1,
        unknown_receivers: vec!["new".to_owned()],
    };
    assert_eq!(report, expected);
}

#[test]
fn folder_that_does_not_fit_is_refused_by_name() {
    let own = tables(RECEIVERS, "event\n1\n", "event,receiver,rss_db\n1,a,-80\n");
    let network = MeasuredNetwork::of(&own, &TableConfig::default()).unwrap();
    let refusal = |receivers: &str, measurements: &str| {
        let other = tables(receivers, "event\n1\n", measurements);
        network.write(&other, tempdir().unwrap().path()).unwrap_err().to_string()
    };
    let level = "event,receiver,rss_db\n1,x,-50\n";

    let foreign = refusal("receiver,latitude,longitude\nx,45,7\n", level);
    let moved =
        refusal("receiver,latitude,longitude\na,45.5,7\n", "event,receiver,rss_db\n1,a,-50\n");
    let mixed = refusal(RECEIVERS, "event,receiver,snr_db\n1,b,12\n");

    assert!(foreign.contains("none of its 1 receivers"), "{foreign}");
    assert!(moved.contains("`a`") && moved.contains("55.5"), "{moved}");
    assert!(mixed.contains("`b`") && mixed.contains("event `1`"), "{mixed}");
    for (field, config) in [
        ("session_s", TableConfig { session_s: 0.0, ..TableConfig::default() }),
        ("timing_sigma_s", TableConfig { timing_sigma_s: f64::NAN, ..TableConfig::default() }),
    ] {
        let error = MeasuredNetwork::of(&own, &config).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn no_event_is_a_folder_that_opens() {
    let own = tables(RECEIVERS, "event\n1\n", "event,receiver,rss_db\n1,a,-80\n");
    let network = MeasuredNetwork::of(&own, &TableConfig::default()).unwrap();
    let folder = tempdir().unwrap();

    network.write_nothing(folder.path()).unwrap();

    assert!(HeimdallDataset::open(folder.path()).unwrap().is_empty());
}
