//! Stages with a matrix: a variant for each combination of values, and one of each stage behind it.
//!
//! ```text
//! train: { matrix: { epochs: [5, 10] } }      train[epochs=5]     train[epochs=10]
//! evaluate: { from: { model: train, … } }     evaluate[epochs=5]  evaluate[epochs=10]
//! ```

use std::collections::HashMap;

use serde_json::Value;
use serde_saphyr::Spanned;

use super::StageSpec;
use super::outline::{Entries, From, Word, place_of};
use super::overrides::{Assignment, assign};
use super::reading::Reading;
use super::source::{Place, Source};
use crate::PipelineError;

/// Variants that one stage may have.
const VARIANTS_MAX: usize = 1000;

/// Stages that a pipeline may come to have.
const STAGES_MAX: usize = 10_000;

/// Longest text of a value in the name of a variant.
const TEXT_CHARS_MAX: usize = 40;

/// Longest name of a variant, which is that of a folder too.
const NAME_BYTES_MAX: usize = 255;

/// A field of a stage, and the values that it takes in turn.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// Path of the field in its stage: `model.backbone`.
    pub(crate) field: Word,
    values: Vec<AxisValue>,
}

#[derive(Clone, Debug)]
struct AxisValue {
    value: Value,
    /// What stands for it in the names of variants.
    text: String,
    place: Place,
}

impl Axis {
    /// Reads the `matrix:` of a stage.
    pub(super) fn read(
        source: &Source,
        matrix: Entries<Vec<Spanned<Value>>>,
    ) -> Result<Vec<Self>, PipelineError> {
        let refused = |place: Place, message: String| {
            PipelineError::from(source.diagnostic(Some(place), message))
        };
        let mut axes: Vec<Self> = Vec::with_capacity(matrix.0.len());
        for (field, values) in matrix.0 {
            if !field.text.split('.').all(is_step) {
                let message = format!(
                    "`{}` cannot vary: a field is called by letters, digits, `-` and `_`, with \
                     points between its steps",
                    field.text
                );
                return Err(refused(field.place, message));
            }
            if let Some(other) = axes.iter().find(|axis| axis.overlaps(&field.text)) {
                let message =
                    format!("`{}` and `{}` cannot vary both", other.field.text, field.text);
                return Err(refused(field.place, message));
            }
            let first = field.text.split('.').next().unwrap_or_default();
            if ["uses", "from", "matrix", "run"].contains(&first) {
                let message = format!("`{}` cannot vary: it is no parameter", field.text);
                return Err(refused(field.place, message));
            }
            if values.is_empty() {
                return Err(refused(field.place, format!("`{}` has no values", field.text)));
            }
            let mut read: Vec<AxisValue> = Vec::with_capacity(values.len());
            for (index, value) in values.into_iter().enumerate() {
                let place = Place { file: source.file(), ..place_of(&value.referenced) };
                let text = name_of(&value.value).unwrap_or_else(|| format!("#{}", index + 1));
                if let Some(before) = read.iter().find(|before| before.text == text) {
                    let message = if before.value == value.value {
                        format!("the value {} is there twice", value.value)
                    } else {
                        format!("the values {} and {} are one in names", before.value, value.value)
                    };
                    return Err(refused(place, message));
                }
                read.push(AxisValue { value: value.value, text, place });
            }
            axes.push(Self { field, values: read });
        }
        Ok(axes)
    }

    /// Whether a field is that of the axis, within it or around it.
    pub(super) fn overlaps(&self, field: &str) -> bool {
        self.field.text.split('.').zip(field.split('.')).all(|(one, other)| one == other)
    }
}

/// Whether a text can be a step of a field's path, which has a place in names of folders.
fn is_step(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// What stands for a value in a name, unless it is too much for one.
fn name_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let is_sound = |c: char| c.is_ascii_alphanumeric() || ['.', '-', '+', '_'].contains(&c);
    let is_short = (1..=TEXT_CHARS_MAX).contains(&text.len());
    (is_short && text.chars().all(is_sound)).then_some(text)
}

/// Returns a reference taken apart: the stage, and the port if there is one. The values in the name
/// of a variant may have points of their own.
pub(crate) fn reference_parts(text: &str) -> (&str, Option<&str>) {
    let end = text.find(']').map_or(0, |bracket| bracket + 1);
    match text[end..].find('.') {
        Some(point) => (&text[..end + point], Some(&text[end + point + 1..])),
        None => (text, None),
    }
}

/// Returns the name of a variant taken apart: the stage, and its values by axis.
pub(crate) fn variant_parts(name: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (stage, rest) = name.split_once('[')?;
    let values = rest.strip_suffix(']')?.split(',');
    Some((stage, values.map(|value| value.split_once('=')).collect::<Option<_>>()?))
}

/// An axis of a stage, its own or that of a stage before it: the stage that has it, and its position
/// in the matrix there.
type AxisId = (usize, usize);

/// Puts variants in the place of stages with a matrix and of those that depend on them. Stages that
/// go round in a circle stay as they are: there is no end to their axes, and the graph refuses them.
pub(super) fn expand(reading: &mut Reading) -> Result<(), PipelineError> {
    if reading.matrices.iter().all(Vec::is_empty) {
        return Ok(());
    }
    let Some(expansion) = Expansion::new(reading) else { return Ok(()) };
    let (mut stages, mut wiring) = (Vec::new(), Vec::new());
    for position in 0..reading.stages.len() {
        let counts = expansion.counts(position);
        let total = counts.iter().try_fold(1, |total: usize, count| total.checked_mul(*count));
        let stage = &reading.stages[position];
        let Some(total) = total.filter(|total| *total <= VARIANTS_MAX) else {
            let message = format!("stage `{}` has more than {VARIANTS_MAX} variants", stage.name);
            return Err(reading.source.diagnostic(Some(stage.place), message).into());
        };
        if stages.len() + total > STAGES_MAX {
            let message = format!("with stage `{}` there are more than {STAGES_MAX}", stage.name);
            return Err(reading.source.diagnostic(Some(stage.place), message).into());
        }
        for number in 0..total {
            let choice = expansion.choice(position, &counts, number);
            stages.push(expansion.variant(position, &choice)?);
            wiring.push(expansion.wires(position, &choice));
        }
    }
    (reading.stages, reading.wiring) = (stages, wiring);
    Ok(())
}

/// What is known about the axes of a stage.
#[derive(Clone)]
enum Axes {
    Unknown,
    /// Those before it are being asked.
    Open,
    Found(Vec<AxisId>),
}

/// The value that is taken on each axis, by its position there.
type Choice = HashMap<AxisId, usize>;

/// A definition whose stages are being replaced.
struct Expansion<'a> {
    reading: &'a Reading,
    positions: HashMap<&'a str, usize>,
    /// The axes of each stage, in the order of names.
    axes: Vec<Vec<AxisId>>,
}

impl<'a> Expansion<'a> {
    /// Finds the axes of all stages, unless some go round in a circle.
    fn new(reading: &'a Reading) -> Option<Self> {
        let names = reading.stages.iter().map(|stage| stage.name.as_str());
        let positions = names.enumerate().map(|(at, name)| (name, at)).collect();
        let mut expansion = Self { reading, positions, axes: Vec::new() };
        let mut axes = vec![Axes::Unknown; reading.stages.len()];
        for position in 0..reading.stages.len() {
            expansion.find_axes(position, &mut axes)?;
        }
        let found = axes.into_iter().map(|axes| match axes {
            Axes::Found(axes) => axes,
            _ => unreachable!("those of every stage were asked for"),
        });
        expansion.axes = found.collect();
        Some(expansion)
    }

    /// Finds the axes of a stage: those of the stages that it reads from, then its own. There is
    /// nothing to find if it reads from itself.
    fn find_axes(&self, position: usize, found: &mut [Axes]) -> Option<Vec<AxisId>> {
        match &found[position] {
            Axes::Found(axes) => return Some(axes.clone()),
            Axes::Open => return None,
            Axes::Unknown => found[position] = Axes::Open,
        }
        let mut axes: Vec<AxisId> = Vec::new();
        for word in self.reading.wiring[position].words() {
            let Some(&producer) = self.positions.get(reference_parts(&word.text).0) else {
                continue;
            };
            for axis in self.find_axes(producer, found)? {
                if !axes.contains(&axis) {
                    axes.push(axis);
                }
            }
        }
        let own = 0..self.reading.matrices[position].len();
        axes.extend(own.map(|axis| (position, axis)));
        found[position] = Axes::Found(axes.clone());
        Some(axes)
    }

    fn axis(&self, (stage, axis): AxisId) -> &'a Axis {
        &self.reading.matrices[stage][axis]
    }

    fn counts(&self, position: usize) -> Vec<usize> {
        self.axes[position].iter().map(|id| self.axis(*id).values.len()).collect()
    }

    /// Returns the combination of that number; the last axis varies fastest.
    fn choice(&self, position: usize, counts: &[usize], mut number: usize) -> Choice {
        let mut choice = Choice::new();
        for (id, count) in self.axes[position].iter().zip(counts).rev() {
            choice.insert(*id, number % count);
            number /= count;
        }
        choice
    }

    /// Returns the name of a stage's variant.
    fn name(&self, position: usize, choice: &Choice) -> String {
        let name = &self.reading.stages[position].name;
        let axes = &self.axes[position];
        if axes.is_empty() {
            return name.clone();
        }
        let label = |id: &AxisId| {
            let field = &self.axis(*id).field.text;
            let alike = axes.iter().filter(|other| self.axis(**other).field.text == *field);
            match alike.count() {
                1 => field.clone(),
                // Stages before this one have a field of the same name.
                _ => format!("{}.{field}", self.reading.stages[id.0].name),
            }
        };
        let values: Vec<String> = axes
            .iter()
            .map(|id| format!("{}={}", label(id), self.axis(*id).values[choice[id]].text))
            .collect();
        format!("{name}[{}]", values.join(","))
    }

    fn variant(&self, position: usize, choice: &Choice) -> Result<StageSpec, PipelineError> {
        let mut stage = self.reading.stages[position].clone();
        for (index, axis) in self.reading.matrices[position].iter().enumerate() {
            let AxisValue { value, place, .. } = &axis.values[choice[&(position, index)]];
            let field = axis.field.text.split('.').collect();
            let assignment = Assignment::at(&self.reading.source, *place, field, value.clone());
            assign(&mut stage, &assignment, &assignment.path)?;
        }
        stage.name = self.name(position, choice);
        if stage.name.len() > NAME_BYTES_MAX {
            let name = &self.reading.stages[position].name;
            let message = format!(
                "the names of the variants of stage `{name}` are longer than {NAME_BYTES_MAX} bytes"
            );
            return Err(self.reading.source.diagnostic(Some(stage.place), message).into());
        }
        Ok(stage)
    }

    fn wires(&self, position: usize, choice: &Choice) -> From {
        let mut from = self.reading.wiring[position].clone();
        for word in from.words_mut() {
            let (name, port) = reference_parts(&word.text);
            let Some(&producer) = self.positions.get(name) else { continue };
            let name = self.name(producer, choice);
            word.text = port.map_or_else(|| name.clone(), |port| format!("{name}.{port}"));
        }
        from
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::{LoadOptions, PipelineSpec};

    use super::*;

    /// What comes before the stages under test.
    const BEFORE: &str = "\
stages:
  world: { uses: simulate }
  features: { uses: extract, from: world }
  split: { uses: split, from: features }
";
    const TRAIN: &str = "    from: { train: split.train, validation: split.validation }\n";

    fn parse(stages: &str, set: &[&str]) -> Result<PipelineSpec, PipelineError> {
        let set = set.iter().map(|text| (*text).to_owned()).collect();
        let options = LoadOptions { set, ..LoadOptions::default() };
        PipelineSpec::parse("p.yaml", "p", &format!("{BEFORE}{stages}"), &options)
    }

    fn names(spec: &PipelineSpec) -> Vec<&str> {
        spec.stages[3..].iter().map(|stage| stage.name.as_str()).collect()
    }

    #[test]
    fn every_combination_has_a_variant_and_so_has_what_depends_on_it() {
        let train = format!(
            "  train:\n    uses: train\n    matrix: {{ learning_rate: [1e-3, 0.01], model.backbone: [mlp, resnet18] }}\n{TRAIN}"
        );
        let spec = parse(
            &format!("{train}  evaluate: {{ uses: evaluate, from: {{ model: train, calibration: split.calibration, test: split.test }} }}\n  export:\n    uses: export\n    from:\n      model: train[learning_rate=0.01,model.backbone=mlp].model\n      samples: split.test\n"),
            &["train.epochs=2"],
        )
        .unwrap();

        let cells = [
            "[learning_rate=0.001,model.backbone=mlp]",
            "[learning_rate=0.001,model.backbone=resnet18]",
            "[learning_rate=0.01,model.backbone=mlp]",
            "[learning_rate=0.01,model.backbone=resnet18]",
        ];
        let of = |stage: &str| cells.map(|cell| format!("{stage}{cell}"));
        let expected = [of("train").as_slice(), &of("evaluate"), &["export".to_owned()]].concat();
        assert_eq!(names(&spec), expected);
        for (index, (rate, backbone)) in
            [(0.001, "mlp"), (0.001, "resnet18"), (0.01, "mlp"), (0.01, "resnet18")]
                .into_iter()
                .enumerate()
        {
            let (train, evaluate) = (3 + index, 7 + index);
            let parameters = spec.stages[train].stage.parameters();
            assert_eq!(parameters["learning_rate"], rate);
            assert_eq!(parameters["model"]["backbone"], backbone);
            assert_eq!(parameters["epochs"], 2);
            assert!(spec.graph().ancestors(evaluate).contains(&train));
            assert_eq!(spec.graph().ancestors(evaluate).len(), 4);
        }
        assert!(spec.graph().ancestors(11).contains(&5));
    }

    /// Axes that two inputs share are one; axes of equal names that they do not share are two.
    #[test]
    fn axes_are_joined() {
        let cmd = |name: &str, rest: &str| {
            format!(
                "  {name}:\n    uses: cmd\n    command: x\n    outputs: {{ out: files }}\n{rest}"
            )
        };
        let matrix = "    matrix: { parameters.n: [1, [2], a b] }\n";
        let stages = [
            cmd("a", matrix),
            cmd("b", "    from: { a: a }\n"),
            cmd("c", "    from: { a: a, b: b.out }\n    matrix: { env.X: [y] }\n"),
            cmd("d", "    matrix: { parameters.n: [7] }\n    from: { a: a }\n"),
        ];

        let spec = parse(&stages.concat(), &[]).unwrap();

        let told = |stage: &str| -> Vec<String> {
            names(&spec).iter().filter(|n| n.starts_with(stage)).map(|n| (*n).to_owned()).collect()
        };
        assert_eq!(told("b"), ["b[parameters.n=1]", "b[parameters.n=#2]", "b[parameters.n=#3]"]);
        assert_eq!(told("c")[2], "c[parameters.n=#3,env.X=y]");
        assert_eq!(told("c").len(), 3);
        assert_eq!(told("d")[0], "d[a.parameters.n=1,d.parameters.n=7]");
        let parts =
            variant_parts(&told("c")[2]).map(|(stage, values)| (stage.to_owned(), values.len()));
        assert_eq!(parts, Some(("c".to_owned(), 2)));
    }

    #[test]
    fn faults_have_their_places() {
        let many = format!("[{}]", (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join(", "));
        let cases = [
            ("{ learning_rate: [] }", &[][..], "p.yaml:7:15: `learning_rate` has no values"),
            ("{ epochs: [1, 2, 1] }", &[], "p.yaml:7:30: the value 1 is there twice"),
            ("{ epoch: [1] }", &[], "p.yaml:7:23: unknown key `epoch`\n"),
            ("{ epochs: [1, many] }", &[], "p.yaml:7:27: invalid type: string \"many\""),
            ("{ run.device: [cpu] }", &[], "p.yaml:7:15: `run.device` cannot vary"),
            ("{ batch_size: [1] }", &[], "p.yaml:5:3: stage `train[batch_size=1]`: "),
            ("{ epochs: 3 }", &[], "p.yaml:7:"),
            (
                &format!("{{ seed: {many}, epochs: {many} }}"),
                &[],
                "p.yaml:5:3: stage `train` has more",
            ),
            (
                "{ epochs: [1] }",
                &["train.epochs=2"],
                "--set train.epochs=2: the matrix of `train` sets",
            ),
            (
                "{ model: [{ backbone: mlp }] }",
                &["train.model.backbone=mlp"],
                "--set train.model.backbone=mlp: the matrix of `train` sets `model`",
            ),
            (
                "{ model.backbone: [mlp] }",
                &["train.model={}"],
                "--set train.model={}: the matrix of `train` sets `model.backbone`",
            ),
            ("{ seed: [1, \"1\"] }", &[], "p.yaml:7:25: the values 1 and \"1\" are one in names"),
            (
                "{ model: [{}], model.backbone: [mlp] }",
                &[],
                "p.yaml:7:28: `model` and `model.backbone` cannot vary both",
            ),
            ("{ parameters.../../x: [1] }", &[], "p.yaml:7:15: `parameters.../../x` cannot vary: "),
            ("{ \"a]\": [1] }", &[], "p.yaml:7:15: `a]` cannot vary: "),
        ];
        for (matrix, set, expected) in cases {
            let text = format!("  train:\n    uses: train\n    matrix: {matrix}\n{TRAIN}");

            let error = parse(&text, set).unwrap_err().to_string();

            assert!(error.starts_with(expected), "{matrix}: {error}");
        }
    }

    /// Stages of a program, one behind the other, of which the first has a matrix.
    fn chain(matrix: &str, first: &str, length: usize) -> String {
        let cmd = "uses: cmd, command: x, outputs: { out: files }";
        let later = (1..length)
            .map(|n| format!("  c{n}: {{ {cmd}, from: {{ x: c{} }} }}\n", n - 1))
            .collect::<String>();
        format!("  c0: {{ {cmd}, matrix: {matrix}{first} }}\n{later}")
    }

    #[test]
    fn stages_in_a_circle_are_refused_as_such() {
        let circle = chain("{ parameters.n: [1, 2] }", ", from: { x: c1 }", 2);

        let error = parse(&circle, &[]).unwrap_err().to_string();

        assert!(error.contains("the stages go round in a circle: c0 → c1 → c0"), "{error}");
    }

    #[test]
    fn variants_have_names_of_some_length_and_are_so_many() {
        let long = "x".repeat(TEXT_CHARS_MAX + 1);
        let spec = parse(&chain(&format!("{{ parameters.n: [{long}] }}"), "", 1), &[]).unwrap();
        assert_eq!(names(&spec), ["c0[parameters.n=#1]"]);

        let text = "x".repeat(TEXT_CHARS_MAX);
        let axes: Vec<String> = (0..7).map(|n| format!("parameters.n{n}: [{text}]")).collect();
        let error = parse(&chain(&format!("{{ {} }}", axes.join(", ")), "", 1), &[]).unwrap_err();
        assert!(error.to_string().contains("longer than 255 bytes"), "{error}");

        let many: Vec<String> = (0..VARIANTS_MAX).map(|n| n.to_string()).collect();
        let many = format!("{{ parameters.n: [{}] }}", many.join(", "));
        let error = parse(&chain(&many, "", STAGES_MAX / VARIANTS_MAX), &[]).unwrap_err();
        assert!(error.to_string().contains("`c9` there are more than 10000"), "{error}");
    }

    #[test]
    fn points_in_values_are_no_ports() {
        assert_eq!(reference_parts("split.train"), ("split", Some("train")));
        assert_eq!(reference_parts("split"), ("split", None));
        assert_eq!(reference_parts("a[x=0.1]"), ("a[x=0.1]", None));
        assert_eq!(reference_parts("a[x=0.1].out"), ("a[x=0.1]", Some("out")));
        assert_eq!(variant_parts("a"), None);
        assert_eq!(variant_parts("a[x=0.1]"), Some(("a", vec![("x", "0.1")])));
    }
}
