//! From three tables to positions, without any training run.

use std::fs;
use std::path::Path;
use std::process::Output;

use heimdall_geo::{LocalFrame, LocalPosition, Position, SPEED_OF_LIGHT_KM_S};
use serde_json::Value;

use crate::workplace::Workplace;

const RECEIVERS: [(&str, f64, f64); 5] = [
    ("north", 45.30, 8.00),
    ("east, hill", 45.02, 8.41),
    ("south", 44.71, 7.98),
    ("west", 44.98, 7.60),
    ("middle", 45.01, 8.02),
];

fn receivers_csv() -> String {
    let rows = RECEIVERS.map(|(name, lat, lon)| format!("\"{name}\",{lat},{lon},120\n"));
    format!("receiver,latitude,longitude,altitude_m\n{}", rows.concat())
}

/// A number from 0 to 1 that depends on nothing but its argument.
fn chance(index: usize) -> f64 {
    let mut bits = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Writes tables of transmitters in a square of 40 km: levels by path loss with an error of up to
/// 3 dB, below 0 dB nothing, and exact times of a wave in air.
pub(crate) fn write_tables(folder: &Path, events: usize, seed: usize) {
    fs::create_dir_all(folder).unwrap();
    let frame = LocalFrame { origin: Position::new(45.0, 8.0).unwrap() };
    let mut table = "event,set,latitude,longitude\n".to_owned();
    let mut measurements = "receiver,event,rss_db,arrival_time_ns,note\n".to_owned();
    for event in 0..events {
        let draw = |index: usize| chance(seed * 1_000_003 + event * 16 + index);
        let local =
            LocalPosition { east_km: 40.0 * draw(0) - 20.0, north_km: 40.0 * draw(1) - 20.0 };
        let place = frame.to_position(&local).unwrap();
        let (latitude, longitude) = (place.latitude_deg(), place.longitude_deg());
        table += &format!("e{event},{},{latitude},{longitude}\n", ["odd", "even"][event % 2]);
        for (index, (name, lat, lon)) in RECEIVERS.iter().enumerate() {
            let distance_km = place.distance_km(&Position::new(*lat, *lon).unwrap());
            let level_db = 55.0 - 35.0 * distance_km.log10() + 6.0 * draw(2 + index) - 3.0;
            let time_ns =
                1.7e18 as i64 + (distance_km / (0.9997 * SPEED_OF_LIGHT_KM_S) * 1e9).round() as i64;
            if level_db > 0.0 {
                measurements += &format!("\"{name}\",e{event},{level_db},{time_ns},x\n");
            } else {
                measurements += &format!("\"{name}\",e{event},,{time_ns},\n");
            }
        }
    }
    for (name, text) in [
        ("receivers.csv", &receivers_csv()),
        ("events.csv", &table),
        ("measurements.csv", &measurements),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
}

fn locate(workplace: &Workplace, arguments: &[&str]) -> Output {
    let all = [&["locate"], arguments].concat();
    workplace.command(&all).output().unwrap()
}

/// What `--json` prints.
fn comparison(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn median_km(comparison: &Value) -> f64 {
    comparison["all"]["error"]["median_km"].as_f64().unwrap()
}

/// Region guessing would be wrong by 15 km.
#[test]
fn every_method_locates_in_one_command() {
    let workplace = Workplace::new("");
    write_tables(&workplace.path("tables"), 60, 1);
    write_tables(&workplace.path("known"), 400, 2);
    let known = &["--train", "known"][..];
    let cases = [
        ("centroid", &[][..], 6.0),
        ("level", &["--shadowing-db", "2"], 6.0),
        ("level", known, 4.0),
        ("knn", known, 4.5),
        ("knn", &["--blocks-m", "4000"], 7.0),
        ("tdoa", &[][..], 0.001),
        ("fusion", &[][..], 0.001),
        ("fusion", known, 0.005),
    ];
    for (method, training, error_km_max) in cases {
        let options = ["tables", "--method", method, "--output", "positions.csv", "--json"];
        let output = locate(&workplace, &[&options[..], training].concat());

        let error_km = median_km(&comparison(&output));
        assert!(error_km < error_km_max, "{method} {training:?}: {error_km} km");
        let table = fs::read_to_string(workplace.path("positions.csv")).unwrap();
        let mut lines = table.lines();
        let header = "event,status,latitude,longitude,var_east_km2,cov_east_north_km2,var_north_km2,radius_90";
        assert_eq!(lines.next(), Some(header));
        assert_eq!(lines.clone().count(), 60);
        for (index, line) in lines.enumerate() {
            let cells: Vec<&str> = line.split(',').collect();
            assert_eq!((cells.len(), cells[0]), (8, format!("e{index}").as_str()));
            let numbers = cells[2..].iter().filter(|cell| cell.parse::<f64>().is_ok()).count();
            let expected = if cells[1] == "no_fix" { 0 } else { 6 };
            assert_eq!(numbers, expected, "{line}");
        }
    }
}

/// Earth-centered coordinates of a point.
fn space_km(position: &Position, altitude_km: f64) -> [f64; 3] {
    const ECCENTRICITY_SQUARED: f64 = 0.006_694_379_990_14;
    let (sin, cos) = position.latitude_deg().to_radians().sin_cos();
    let (sin_longitude, cos_longitude) = position.longitude_deg().to_radians().sin_cos();
    let radius_km = 6378.137 / (1.0 - ECCENTRICITY_SQUARED * sin * sin).sqrt();
    [
        (radius_km + altitude_km) * cos * cos_longitude,
        (radius_km + altitude_km) * cos * sin_longitude,
        (radius_km * (1.0 - ECCENTRICITY_SQUARED) + altitude_km) * sin,
    ]
}

/// Writes tables of aircraft at 9 km, up to 110 km away from the receivers at 120 m: exact times
/// through space, and levels by the slant range.
fn write_aircraft(folder: &Path, events: usize) {
    write_tables(folder, 0, 0);
    let frame = LocalFrame { origin: Position::new(45.0, 8.0).unwrap() };
    let mut table = "event,latitude,longitude,altitude_m\n".to_owned();
    let mut measurements = "receiver,event,rss_db,arrival_time_ns\n".to_owned();
    for event in 0..events {
        let (sin, cos) = (event as f64).sin_cos();
        let range_km = 10.0 + 100.0 * chance(event);
        let local = LocalPosition { east_km: range_km * sin, north_km: range_km * cos };
        let place = frame.to_position(&local).unwrap();
        let (latitude, longitude) = (place.latitude_deg(), place.longitude_deg());
        table += &format!("e{event},{latitude},{longitude},9000\n");
        for (name, lat, lon) in RECEIVERS {
            let receiver = space_km(&Position::new(lat, lon).unwrap(), 0.12);
            let ways_km = space_km(&place, 9.0).into_iter().zip(receiver).map(|(a, b)| a - b);
            let range_km = ways_km.map(|way_km| way_km * way_km).sum::<f64>().sqrt();
            let time_ns = (range_km / (0.9997 * SPEED_OF_LIGHT_KM_S) * 1e9).round() as i64;
            let level_db = 100.0 - 35.0 * range_km.log10();
            measurements += &format!("\"{name}\",e{event},{level_db},{time_ns}\n");
        }
    }
    fs::write(folder.join("events.csv"), table).unwrap();
    fs::write(folder.join("measurements.csv"), measurements).unwrap();
}

/// Aircraft are far outside of the receivers' rectangle, but not beyond their horizon. Without their
/// altitude, the times of a slant range are those of another place.
#[test]
fn altitudes_count_for_times() {
    let workplace = Workplace::new("");
    let folder = workplace.path("tables");
    write_aircraft(&folder, 40);
    let run = |method| locate(&workplace, &["tables", "--method", method, "--json"]);

    // Rounded to nanoseconds, which the geometry outside multiplies.
    for (method, error_km_max) in [("tdoa", 0.02), ("fusion", 0.1)] {
        let output = run(method);

        let found = comparison(&output);
        assert!(median_km(&found) < error_km_max, "{method}: {found}");
        assert!(found["all"]["no_fix"].as_u64().unwrap() <= 4, "{method}: {found}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors.contains("altitudes count for times"), method == "fusion", "{errors}");
        assert!(!errors.contains("at 0 m"), "{errors}");
    }
    let receivers = fs::read_to_string(folder.join("receivers.csv")).unwrap();
    fs::write(folder.join("receivers.csv"), receivers.replacen(",120", ",", 1)).unwrap();
    let errors = run("tdoa").stderr;
    let errors = String::from_utf8_lossy(&errors);
    assert!(errors.contains("at 0 m") && errors.contains("north"), "{errors}");
    let events = fs::read_to_string(folder.join("events.csv")).unwrap();
    fs::write(folder.join("events.csv"), events.replace("altitude_m", "note")).unwrap();
    assert!(median_km(&comparison(&run("tdoa"))) > 0.1);
}

#[test]
fn comparison_is_a_table_by_sets() {
    let workplace = Workplace::new("");
    write_tables(&workplace.path("tables"), 20, 3);

    let output = locate(&workplace, &["tables", "--method", "tdoa"]);

    let text = String::from_utf8(output.stdout).unwrap();
    for expected in ["set ", "all ", "even ", "odd ", "median", "90 %", "interval"] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    assert!(workplace.path("positions.csv").is_file());
}

#[test]
fn events_without_truth_are_located_and_not_compared() {
    let workplace = Workplace::new("");
    let folder = workplace.path("tables");
    write_tables(&folder, 10, 4);
    let events: String = (0..10).map(|event| format!("e{event}\n")).collect();
    fs::write(folder.join("events.csv"), format!("event\n{events}")).unwrap();

    let found = comparison(&locate(&workplace, &["tables", "--method", "tdoa", "--json"]));

    assert_eq!(found["all"]["fix"], 10, "{found}");
    assert_eq!(found["all"]["compared"], 0, "{found}");
    assert!(found["all"].get("error").is_none() && found.get("sets").is_none(), "{found}");
}

#[test]
fn event_that_nobody_hears_is_no_fix() {
    let workplace = Workplace::new("");
    let folder = workplace.path("tables");
    write_tables(&folder, 30, 5);
    let events = fs::read_to_string(folder.join("events.csv")).unwrap() + "silent,odd,45,8\n";
    fs::write(folder.join("events.csv"), events).unwrap();

    let few = "too_few_receivers";
    let nothing = "nothing_heard";
    for (method, reason) in
        [("centroid", nothing), ("level", nothing), ("tdoa", few), ("fusion", few)]
    {
        let found = comparison(&locate(&workplace, &["tables", "--method", method, "--json"]));

        assert!(found["all"]["no_fix"].as_u64().unwrap() >= 1, "{method}: {found}");
        assert!(found["all"]["reasons"][reason].as_u64().unwrap() >= 1, "{method}: {found}");
        let table = fs::read_to_string(workplace.path("positions.csv")).unwrap();
        assert_eq!(table.lines().last(), Some("silent,no_fix,,,,,,"), "{method}");
    }
}

/// Behind the middle one of three receivers there are two places: one in the table, the other in the
/// JSON.
#[test]
fn second_places_are_in_the_json() {
    let workplace = Workplace::new("");
    let folder = workplace.path("tables");
    write_tables(&folder, 40, 11);
    let text = fs::read_to_string(folder.join("measurements.csv")).unwrap();
    let kept = |line: &&str| !line.starts_with("\"east") && !line.starts_with("\"south");
    let text: Vec<&str> = text.lines().filter(kept).collect();
    fs::write(folder.join("measurements.csv"), text.join("\n")).unwrap();

    let found = comparison(&locate(&workplace, &["tables", "--method", "tdoa", "--json"]));

    let count = found["all"]["ambiguous"].as_u64().unwrap() as usize;
    let alternatives = found["alternatives"].as_object().unwrap();
    assert!(count > 0 && alternatives.len() == count, "{found}");
    let events = fs::read_to_string(folder.join("events.csv")).unwrap();
    let table = fs::read_to_string(workplace.path("positions.csv")).unwrap();
    let position = |text: &str, event: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{event},"))).unwrap();
        let cells: Vec<&str> = line.split(',').collect();
        Position::new(cells[2].parse().unwrap(), cells[3].parse().unwrap()).unwrap()
    };
    for (event, others) in alternatives {
        let truth = position(&events, event);
        let others = others.as_array().unwrap().iter().map(|other| {
            assert!(other["var_east_km2"].as_f64().unwrap() > 0.0, "{other}");
            let degrees = |name: &str| other[name].as_f64().unwrap();
            Position::new(degrees("latitude"), degrees("longitude")).unwrap()
        });
        let mut places = others.chain([position(&table, event)]);
        assert!(places.any(|place| place.distance_km(&truth) < 0.1), "{event}: {found}");
    }
}

#[test]
fn what_is_wrong_is_told_by_file_and_line() {
    struct Case {
        file: &'static str,
        from: &'static str,
        to: &'static str,
        told: &'static [&'static str],
    }
    let cases = [
        Case {
            file: "receivers.csv",
            from: "latitude",
            to: "lat",
            told: &["receivers.csv", "latitude"],
        },
        Case {
            file: "receivers.csv",
            from: "45.02",
            to: "95.02",
            told: &["receivers.csv", "3", "95.02"],
        },
        Case { file: "events.csv", from: "e1,", to: "e0,", told: &["events.csv", "3", "e0"] },
        Case {
            file: "measurements.csv",
            from: "south",
            to: "nord",
            told: &["measurements.csv", "4", "nord"],
        },
        Case {
            file: "measurements.csv",
            from: "west",
            to: "south",
            told: &["measurements.csv", "5", "south"],
        },
        Case {
            file: "measurements.csv",
            from: ",1700",
            to: ",x1700",
            told: &["measurements.csv", "2", "x1700"],
        },
    ];
    for Case { file, from, to, told } in cases {
        let workplace = Workplace::new("");
        write_tables(&workplace.path("tables"), 4, 6);
        let path = workplace.path("tables").join(file);
        let text = fs::read_to_string(&path).unwrap().replacen(from, to, 1);
        fs::write(&path, text).unwrap();

        let output = locate(&workplace, &["tables", "--method", "tdoa"]);

        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        for part in told {
            assert!(errors.contains(part), "no {part:?} in {errors}");
        }
    }
}

/// Neither the tables nor what is no file; and a folder that is not there is told before the work.
#[test]
fn place_of_the_positions_is_checked_first() {
    let workplace = Workplace::new("");
    write_tables(&workplace.path("tables"), 4, 8);
    let events = fs::read(workplace.path("tables/events.csv")).unwrap();
    let cases = [
        ("tables/events.csv", "another file than those that are read"),
        ("tables", "a folder or a device is not replaced"),
        ("/dev/null", "a folder or a device is not replaced"),
        ("nowhere/positions.csv", "cannot write into nowhere"),
    ];
    for (place, told) in cases {
        // The tables of the second folder would be refused, if they were read.
        for folder in ["tables", "absent"] {
            let output = locate(&workplace, &[folder, "--method", "tdoa", "--output", place]);

            let errors = String::from_utf8_lossy(&output.stderr);
            let is_told = errors.contains(told) || folder == "absent" && place.contains("tables/");
            assert!(!output.status.success() && is_told, "{folder} {place}: {errors}");
        }
    }
    assert_eq!(fs::read(workplace.path("tables/events.csv")).unwrap(), events);
}

/// One kind of measurement is enough, but the answer is no fusion.
#[test]
fn fusion_without_one_kind_of_measurement_says_so() {
    let workplace = Workplace::new("");
    let folder = workplace.path("tables");
    write_tables(&folder, 12, 9);
    let text = fs::read_to_string(folder.join("measurements.csv")).unwrap();
    let cases = [
        ("note", "note", None),
        ("arrival_time_ns", "when", Some(["`arrival_time_ns`", "`level`"])),
        ("rss_db", "loudness", Some(["`rss_db` or `snr_db`", "`tdoa`"])),
    ];
    for (column, other, told) in cases {
        fs::write(folder.join("measurements.csv"), text.replace(column, other)).unwrap();

        let output = locate(&workplace, &["tables", "--method", "fusion"]);

        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        assert_eq!(errors.contains("no line of `measurements.csv`"), told.is_some(), "{errors}");
        for part in told.into_iter().flatten() {
            assert!(errors.contains(part), "no {part:?} in {errors}");
        }
    }
}

#[test]
fn options_that_contradict_are_refused() {
    let workplace = Workplace::new("");
    let folder = workplace.path("tables");
    write_tables(&folder, 12, 7);
    let cases = [
        (&["--method", "knn"][..], "--train"),
        (&["--method", "tdoa", "--train", "tables"], "does not"),
        (&["--method", "knn", "--blocks-m", "0"], "--blocks-m"),
        (&["--method", "knn", "--blocks-m", "5000", "--folds", "1"], "--folds"),
        (&["--method", "knn", "--blocks-m", "5000", "--neighbors", "0"], "neighbors"),
        (&["--method", "tdoa", "--timing-sigma-ns", "0"], "--timing-sigma-ns"),
        (&["--method", "level", "--exponent", "0"], "exponent"),
    ];
    for (arguments, told) in cases {
        let output = locate(&workplace, &[&["tables"], arguments].concat());

        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} succeeds");
        assert!(errors.contains(told), "no {told:?} in {errors}");
    }
    // A folder without levels.
    let text = fs::read_to_string(folder.join("measurements.csv")).unwrap();
    fs::write(folder.join("measurements.csv"), text.replace("rss_db", "loudness")).unwrap();
    let errors = locate(&workplace, &["tables", "--method", "level"]).stderr;
    assert!(String::from_utf8_lossy(&errors).contains("`rss_db` or `snr_db`"));
}

mod with_shared_data {
    //! On real measurements that are not part of the repository.

    use super::*;

    fn located(folder: &str, arguments: &[&str]) -> Value {
        let workplace = Workplace::new("");
        let data = crate::tidy::root().join("../shared/data").join(folder);
        let data = data.to_str().unwrap().to_owned();
        comparison(&locate(&workplace, &[&[data.as_str(), "--json"], arguments].concat()))
    }

    fn coverage_90(group: &Value) -> f64 {
        let points = group["coverage"].as_array().unwrap();
        let is_90 = |point: &&Value| (point["probability"].as_f64().unwrap() - 0.9).abs() < 1e-9;
        points.iter().find(is_90).unwrap()["coverage"].as_f64().unwrap()
    }

    /// Aircraft: the same model of the times for all sets.
    #[test]
    #[ignore = "needs ../shared/data/locards: cargo xtask test"]
    fn aircraft_are_found_within_54_50_and_80_m() {
        let found = located("locards", &["--method", "tdoa"]);

        for (set, median_m_max) in [("set1", 54.0), ("set2", 50.0), ("set5", 80.0)] {
            let group = &found["sets"][set];
            let median_m = 1000.0 * group["error"]["median_km"].as_f64().unwrap();
            assert!(median_m <= median_m_max, "{set}: {median_m} m");
            let coverage = coverage_90(group);
            assert!((0.85..=0.95).contains(&coverage), "{set}: {coverage}");
            assert_eq!(group["no_fix"], 0, "{set}");
        }
    }

    /// A handheld on a campus, blocks of 150 m held out.
    #[test]
    #[ignore = "needs ../shared/data/powder: cargo xtask test"]
    fn handheld_is_found_within_120_m_by_fingerprints_and_93_m_by_a_map() {
        let blocks = ["--blocks-m", "150"];
        let cases = [
            (&["--method", "knn"][..], 0.120),
            (&["--method", "level", "--path-loss-only"], 0.180),
            (&["--method", "level"], 0.093),
        ];
        for (arguments, median_km_max) in cases {
            let found = located("powder", &[arguments, &blocks].concat());

            let median_km = median_km(&found);
            assert!(median_km <= median_km_max, "{arguments:?}: {median_km} km");
            let coverage = coverage_90(&found["all"]);
            assert!((0.85..=0.97).contains(&coverage), "{arguments:?}: {coverage}");
        }
    }
}
