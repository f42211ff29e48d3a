//! Exported models in a folder, under versions that are never replaced.

use std::fs;

use crate::workplace::{TINY, Workplace, said};

#[test]
fn version_is_uploaded_once() {
    let workplace = Workplace::new(TINY);
    let run = workplace.run(&["--until", "export"]).done();
    let onnx = run.stages["export"].outputs["onnx"].clone();
    let package = onnx.to_str().unwrap();

    let first = said(&workplace, &["upload", package]);
    let again = workplace.command(&["upload", package]).output().unwrap();
    let next = said(&workplace, &["upload", package, "--version", "0.2.0", "--to", "other"]);

    assert_eq!(first, "heimdall-models/localization-v0.1.0.onnx\n");
    assert_eq!(next, "other/localization-v0.2.0.onnx\n");
    let errors = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(2), "{errors}");
    assert!(errors.contains("never replaced"), "{errors}");
    let sent = fs::read(onnx.join("model.onnx")).unwrap();
    assert!(fs::read(workplace.path("heimdall-models/localization-v0.1.0.onnx")).unwrap() == sent);
    let features = run.stages["split"].outputs["test"].to_str().unwrap().to_owned();
    let model = "heimdall-models/localization-v0.1.0.onnx";
    let lines = said(&workplace, &["predict", &features, "--model", model]);
    assert_eq!(lines.lines().count(), 9, "{lines}");
}

/// An upload that was interrupted before its manifest is completed; another model in its place is not
/// taken for it.
#[test]
fn interrupted_upload_goes_on() {
    let workplace = Workplace::new(TINY);
    let run = workplace.run(&["--until", "export"]).done();
    let onnx = run.stages["export"].outputs["onnx"].clone();
    let package = onnx.to_str().unwrap();
    said(&workplace, &["upload", package]);
    let folder = workplace.path("heimdall-models");

    fs::remove_file(folder.join("localization-v0.1.0.json")).unwrap();
    said(&workplace, &["upload", package]);
    fs::remove_file(folder.join("localization-v0.1.0.json")).unwrap();
    fs::write(folder.join("localization-v0.1.0.onnx"), "another").unwrap();
    let other = workplace.command(&["upload", package]).output().unwrap();

    assert_eq!(other.status.code(), Some(2));
    assert_eq!(fs::read(folder.join("localization-v0.1.0.onnx")).unwrap(), b"another");
    assert!(!folder.join("localization-v0.1.0.json").exists());
}

#[test]
fn name_that_is_none_is_refused() {
    let workplace = Workplace::new(TINY);
    let package = workplace.path("package");

    for arguments in [["--name", "a/b"], ["--version", ""], ["--to", "ftp://host"]] {
        let all = [&["upload", package.to_str().unwrap()], &arguments[..]].concat();
        let output = workplace.command(&all).output().unwrap();

        assert!(!output.status.success(), "{arguments:?}");
    }
}

mod with_python {
    //! A server that speaks S3.

    use super::*;
    use crate::sharing::Bucket;

    /// Whether the server can refuse what is there, or cannot and has to be asked before.
    #[test]
    #[ignore = "needs Python with moto: cargo xtask test"]
    fn bucket_keeps_versions_and_gives_them_back() {
        let bucket = Bucket::new();
        let workplace = Workplace::new(TINY);
        let run = workplace.run(&["--until", "export"]).done();
        let onnx = run.stages["export"].outputs["onnx"].clone();
        let features = run.stages["split"].outputs["test"].clone();
        for (conditional, name) in [("etag", "one"), ("disabled", "two")] {
            let ask = |arguments: &[&str]| {
                let mut command = workplace.command(arguments);
                bucket.introduce(&mut command).env("AWS_CONDITIONAL_PUT", conditional);
                command.output().unwrap()
            };
            let upload =
                ["upload", onnx.to_str().unwrap(), "--to", "s3://shared/models", "--name", name];

            let first = ask(&upload);
            let again = ask(&upload);
            let model = format!("s3://shared/models/{name}-v0.1.0.onnx");
            let found = ask(&["predict", features.to_str().unwrap(), "--model", &model]);
            let absent = format!("s3://shared/models/{name}-v9.onnx");
            let missing = ask(&["predict", features.to_str().unwrap(), "--model", &absent]);

            let errors = String::from_utf8_lossy(&first.stderr);
            assert!(first.status.success(), "{conditional}: {errors}");
            assert_eq!(String::from_utf8_lossy(&first.stdout), format!("{model}\n"));
            let is_warned = errors.contains("cannot refuse what is there");
            assert_eq!(is_warned, conditional == "disabled", "{errors}");
            let errors = String::from_utf8_lossy(&again.stderr);
            assert!(errors.contains("never replaced"), "{conditional}: {errors}");
            let errors = String::from_utf8_lossy(&found.stderr);
            assert!(found.status.success(), "{conditional}: {errors}");
            assert_eq!(String::from_utf8_lossy(&found.stdout).lines().count(), 9);
            assert_eq!(missing.status.code(), Some(2), "{conditional}");
        }
    }
}
