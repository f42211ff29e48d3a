//! The JSON schema of pipelines, beside the program's own reading.

mod with_python {
    use std::fs;
    use std::path::{Path, PathBuf};

    use crate::onnx::python;
    use crate::tidy::root;
    use crate::workplace::{TINY, Workplace, said};

    /// What the schema says of each file: `sound`, or what is wrong.
    fn verdicts(workplace: &Workplace, pipelines: &[PathBuf]) -> Vec<String> {
        let schema = workplace.path("schema.json");
        fs::write(&schema, said(workplace, &["schema"])).unwrap();
        let paths = [&schema].into_iter().chain(pipelines).map(|path| path.to_str().unwrap());
        let verdicts = python("check_schema.py", &paths.collect::<Vec<_>>());
        serde_json::from_value(verdicts).unwrap()
    }

    #[test]
    #[ignore = "needs Python with jsonschema"]
    fn every_pipeline_of_the_repository_is_sound() {
        let workplace = Workplace::new(TINY);
        said(&workplace, &["init", "starter.yaml"]);
        let folder = fs::read_dir(root().join("pipelines")).unwrap();
        let mut pipelines: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
        pipelines.extend([workplace.path("pipeline.yaml"), workplace.path("starter.yaml")]);

        let verdicts = verdicts(&workplace, &pipelines);

        assert!(pipelines.len() >= 5, "only {}", pipelines.len());
        assert!(verdicts.iter().all(|verdict| verdict == "sound"), "{verdicts:#?}");
    }

    /// The schema refuses what the program refuses for its form, and takes what it takes.
    #[test]
    #[ignore = "needs Python with jsonschema"]
    fn schema_and_program_agree() {
        let cases = [
            ("batch_size: 4", "batch_size: 4", true),
            ("batch_size: 4", "batch_sise: 4", false),
            ("batch_size: 4", "batch_size: four", false),
            ("batch_size: 4", "batch_size: -4", false),
            ("uses: extract", "uses: extrakt", false),
            ("seed: 11", "seed: 11\n    matrix: { epochs: [1, 2] }", true),
            ("seed: 11", "seed: 11\n    matrix: { epochs: 3 }", false),
            ("seed: 11", "seed: 11\n    run: { device: cpu, timeout: 6h, memory: 1000 }", true),
            ("seed: 11", "seed: 11\n    run: { device: gpu }", false),
            ("seed: 11", "seed: 11\n    model: { backbone: mlp }", true),
            ("seed: 11", "seed: 11\n    model: { backbone: lpm }", false),
            ("seed: 11", "seed: 11\n    schedule: { kind: plateau }", true),
            ("seed: 11", "seed: 11\n    schedule: { kind: plateuu }", false),
            ("seed: 11", "seed: 11\n    schedule: { kind: cosine, warm_up: x }", false),
            ("model: tiny-localization", "modl: tiny-localization", false),
            ("name: tiny", "name: tiny\nprofiles: { big: { vars: { epochs: 3 } } }", true),
            ("name: tiny", "name: tiny\nprofiles: { big: { wars: { epochs: 3 } } }", false),
            ("name: tiny", "nam: tiny", false),
            ("alias: candidate", "alias: candidate\n    gate: { coverage_90: [0, 1] }", true),
            ("alias: candidate", "alias: candidate\n    gate: { coverage_90: [0] }", false),
        ];
        let workplace = Workplace::new(TINY);
        let write = |(index, (from, to, _)): (usize, &(&str, &str, bool))| {
            let path = workplace.path(format!("{index}.yaml"));
            fs::write(&path, TINY.replacen(from, to, 1)).unwrap();
            path
        };
        let pipelines: Vec<PathBuf> = cases.iter().enumerate().map(write).collect();

        let verdicts = verdicts(&workplace, &pipelines);

        for ((pipeline, verdict), (_, to, is_sound)) in pipelines.iter().zip(&verdicts).zip(cases) {
            assert_eq!(verdict == "sound", is_sound, "schema on `{to}`: {verdict}");
            let own = workplace.command(&["validate", name(pipeline)]).output().unwrap();
            let told = String::from_utf8_lossy(&own.stderr);
            assert_eq!(own.status.success(), is_sound, "program on `{to}`: {told}");
        }
    }

    fn name(path: &Path) -> &str {
        path.file_name().unwrap().to_str().unwrap()
    }
}
