//! Stages that run once for each combination of values.

use std::fs;

use crate::workplace::{Workplace, said};

/// A search over two values, with what comes behind each, and a stage that takes one of them.
const SEARCH: &str = r#"
name: search
stages:
  fit:
    uses: cmd
    matrix: { parameters.rate: [0.1, 0.2], env.KIND: [a] }
    parameters: { base: 2 }
    command: [sh, fit.sh]
    outputs: { out: files }
  score:
    uses: cmd
    from: { fit: fit }
    command: cp $HEIMDALL_INPUT_FIT/rate $HEIMDALL_OUTPUT_OUT/rate
    outputs: { out: files }
  best:
    uses: cmd
    from:
      fit: fit[parameters.rate=0.2,env.KIND=a].out
    command: cat $HEIMDALL_INPUT_FIT/rate > $HEIMDALL_OUTPUT_OUT/rate
    outputs: { out: files }
"#;

fn search() -> Workplace {
    let workplace = Workplace::new(SEARCH);
    let script = r#"rate=$(grep -o '"rate": *[0-9.]*' $HEIMDALL_CONTEXT | grep -o '[0-9.]*$')
echo $KIND $rate > $HEIMDALL_OUTPUT_OUT/rate
echo "{\"metrics\": {\"loss\": $rate, \"size\": 7}, \"headline\": \"loss $rate\"}" > $HEIMDALL_RESULT
"#;
    fs::write(workplace.path("fit.sh"), script).unwrap();
    workplace
}

#[test]
fn variants_run_and_are_compared() {
    let workplace = search();

    let run = workplace.run(&[]);
    let shown = said(&workplace, &["show", "--metric", "size"]);

    let json = run.done();
    let cells = ["[parameters.rate=0.1,env.KIND=a]", "[parameters.rate=0.2,env.KIND=a]"];
    for (cell, rate) in cells.iter().zip(["0.1", "0.2"]) {
        for stage in ["fit", "score"] {
            let folder = &json.stages[&format!("{stage}{cell}")].outputs["out"];
            assert_eq!(fs::read_to_string(folder.join("rate")).unwrap(), format!("a {rate}\n"));
        }
    }
    let best = fs::read_to_string(json.stages["best"].outputs["out"].join("rate")).unwrap();
    assert_eq!(best, "a 0.2\n");
    let table = "fit, 2 variants\n\
                 parameters.rate  env.KIND  state  loss\n\
                 0.1              a         ran    0.10000\n\
                 0.2              a         ran    0.20000\n";
    assert!(run.stderr.contains(table), "{}", run.stderr);
    assert!(shown.contains("state  size\n") && shown.contains("ran    7\n"), "{shown}");
}

/// A value more runs one variant more; patterns take all of them or some.
#[test]
fn variants_are_cached_one_by_one() {
    let workplace = search();
    workplace.run(&[]).done();
    fs::write(workplace.path("pipeline.yaml"), SEARCH.replace("[0.1, 0.2]", "[0.1, 0.2, 0.3]"))
        .unwrap();

    let more = workplace.run(&[]).done();
    let some = workplace.run(&["--force", "fit[*0.3*"]).done();
    let all = workplace.run(&["--only", "fit", "--force", "fit"]).done();

    let ran = |json: &crate::workplace::RunJson| -> Vec<String> {
        let ran = json.stages.iter().filter(|(_, stage)| stage.state == "ran");
        ran.map(|(name, _)| name.replace(",env.KIND=a", "")).collect()
    };
    assert_eq!(ran(&more), ["fit[parameters.rate=0.3]", "score[parameters.rate=0.3]"]);
    assert_eq!(ran(&some), ["fit[parameters.rate=0.3]"]);
    let expected = [1, 2, 3].map(|tenths| format!("fit[parameters.rate=0.{tenths}]"));
    assert_eq!(ran(&all), expected);
}
