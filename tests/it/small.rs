//! A pipeline of programs that takes milliseconds, for tests of everything around the stages.

use crate::workplace::{RunJson, Workplace};

/// Four stages: two that read nothing, one that reads both, and one behind it.
pub(crate) const SMALL: &str = "
name: small
vars: { seed: 1 }
stages:
  left:
    uses: cmd
    command: echo left $SEED > $HEIMDALL_OUTPUT_OUT/text
    env:
      SEED: ${seed}
    outputs: { out: files }
  right:
    uses: cmd
    command: sh right.sh
    sources: [right.sh]
    outputs: { out: files }
  both:
    uses: cmd
    from: { left: left, right: right.out }
    command: wc -l < $HEIMDALL_INPUT_LEFT/text > $HEIMDALL_OUTPUT_OUT/lines && cat $HEIMDALL_INPUT_RIGHT/text > $HEIMDALL_OUTPUT_OUT/text
    outputs: { out: files }
  last:
    uses: cmd
    from: { in: both }
    command: cat $HEIMDALL_INPUT_IN/lines $HEIMDALL_INPUT_IN/text > $HEIMDALL_OUTPUT_OUT/text
    outputs: { out: files }
";

/// The stages of [`SMALL`] in running order.
pub(crate) const STAGES: [&str; 4] = ["left", "right", "both", "last"];

/// A folder with the small pipeline and the script that it needs.
pub(crate) fn small() -> Workplace {
    let workplace = Workplace::new(SMALL);
    write_script(&workplace, "echo right > $HEIMDALL_OUTPUT_OUT/text");
    workplace
}

pub(crate) fn write_script(workplace: &Workplace, text: &str) {
    std::fs::write(workplace.path("right.sh"), text).unwrap();
}

/// The states of the small pipeline's stages.
pub(crate) fn states(run: &RunJson) -> [&str; 4] {
    STAGES.map(|name| run.stages[name].state.as_str())
}
