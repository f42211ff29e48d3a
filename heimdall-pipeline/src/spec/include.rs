//! The files that a definition is made of: itself, and what it includes.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::outline::{From, VarsOutline, Word};
use super::reading::{offering_siblings, parse};
use super::source::Source;
use crate::PipelineError;

/// A file of a definition, with the variables in it.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its number in the source.
    pub(crate) file: usize,
    pub(crate) vars: VarsOutline,
}

/// The files so far.
struct Gathering {
    source: Source,
    /// The files that are being read, from the pipeline inwards, and those that have been.
    open: Vec<PathBuf>,
    done: Vec<PathBuf>,
    parts: Vec<Part>,
}

/// Reads what a definition includes, near or far. Each file comes after those that it includes, and
/// once.
pub(crate) fn gather(source: Source) -> Result<(Source, Vec<Part>), PipelineError> {
    let path = PathBuf::from(source.name());
    // A definition that was never a file cannot be included again.
    let open = fs::canonicalize(&path).into_iter().collect();
    let mut gathering = Gathering { source, open, done: Vec::new(), parts: Vec::new() };
    gathering.read(0, &folder_of(&path))?;
    Ok((gathering.source, gathering.parts))
}

impl Gathering {
    /// Reads a file that lies in the given folder.
    fn read(&mut self, file: usize, folder: &Path) -> Result<(), PipelineError> {
        let here = self.source.seen_from(file);
        // Without properties, since what the variables stand for is not known before they are read.
        let mut vars: VarsOutline =
            parse(&here, None, |document| VarsOutline::deserialize(document))?;
        vars.move_to(file);
        let included = match std::mem::take(&mut vars.include) {
            From::Absent => Vec::new(),
            From::References(words) => words,
            From::Ports(ports) => {
                let place = ports.first().map(|(port, _)| port.place);
                return Err(here
                    .diagnostic(place, "`include:` takes a path or a list of paths")
                    .into());
            }
        };
        for word in included {
            self.include(&word, folder)?;
        }
        self.parts.push(Part { file, vars });
        Ok(())
    }

    fn include(&mut self, word: &Word, folder: &Path) -> Result<(), PipelineError> {
        let refused = |message: String| {
            PipelineError::from(self.source.diagnostic(Some(word.place), message))
        };
        if word.text.contains("${") {
            return Err(refused("the path of an included file has no variables".to_owned()));
        }
        let path = folder.join(&word.text);
        let unreadable = |error: std::io::Error| {
            let message = format!("cannot read the included `{}`: {error}", word.text);
            let diagnostic = self.source.diagnostic(Some(word.place), message);
            PipelineError::from(offering_siblings(diagnostic, &path))
        };
        let root = folder_of(Path::new(self.source.seen_from(0).name()));
        let root = fs::canonicalize(root).map_err(unreadable)?;
        let found = fs::canonicalize(&path).map_err(unreadable)?;
        if !found.starts_with(&root) {
            let message = format!("`{}` lies outside of the pipeline's folder", word.text);
            return Err(refused(message));
        }
        if self.open.contains(&found) {
            return Err(refused(format!("`{}` comes to include itself", word.text)));
        }
        if self.done.contains(&found) {
            return Ok(());
        }
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        let file = self.source.add(&path.display().to_string(), &text);
        self.open.push(found);
        self.read(file, &folder_of(&path))?;
        self.done.extend(self.open.pop());
        Ok(())
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::{LoadOptions, PipelineSpec};
    use crate::{PipelineError, StageKind};

    use super::*;

    /// A folder with these files, whose first one is loaded.
    fn load(files: &[(&str, &str)]) -> Result<PipelineSpec, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join("pipelines").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = folder.path().join("pipelines");
        let loaded = PipelineSpec::load(&root.join(files[0].0), &LoadOptions::default());
        loaded.map_err(|error: PipelineError| {
            assert_eq!(error.exit_code(), 2);
            error.to_string().replace(&format!("{}/", root.display()), "")
        })
    }

    #[test]
    fn included_stages_and_variables_are_there() {
        let spec = load(&[
            ("p.yaml", "include: [parts/world.yaml, parts/seeds.yaml]\nvars: { seed: 3 }\nstages:\n  features: { uses: extract, from: world }\n"),
            ("parts/world.yaml", "include: seeds.yaml\nstages:\n  world:\n    uses: simulate\n    world:\n      seed: ${seed}\n      sessions: ${sessions}\n"),
            ("parts/seeds.yaml", "vars: { seed: 1, sessions: 9 }\n"),
        ])
        .unwrap();

        let names: Vec<&str> = spec.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["world", "features"]);
        assert_eq!(spec.stages[0].stage.kind(), StageKind::Simulate);
        let world = &spec.stages[0].stage.parameters()["world"];
        assert_eq!((&world["seed"], &world["sessions"]), (&3.into(), &9.into()));
        assert_eq!(spec.graph().ancestors(1), [0]);
    }

    #[test]
    fn file_may_have_no_stages_of_its_own() {
        let part = "stages:\n  world: { uses: simulate }\n";

        let spec = load(&[("p.yaml", "include: part.yaml\n"), ("part.yaml", part)]).unwrap();

        assert_eq!(spec.stages[0].name, "world");
        assert!(load(&[("p.yaml", "name: p\n")]).is_err());
    }

    #[test]
    fn faults_have_the_place_in_their_own_file() {
        let root = "include: part.yaml\nstages:\n  a: { uses: simulate }\n";
        let cases = [
            (
                "stages:\n  a: { uses: simulate }\n",
                "p.yaml:3:3: there are two stages `a`\n  |\n3 |   a: { uses: simulate }\n  |   ^\n\
                 part.yaml:2:3: the other one is here\n  |\n2 |   a: { uses: simulate }\n  |   ^",
            ),
            (
                "stages:\n  b: { uses: simulat }\n",
                "part.yaml:2:14: there is no kind of stage `simulat`\n  |\n\
                 2 |   b: { uses: simulat }\n  |              ^\n= did you mean `simulate`?",
            ),
            (
                "stages:\n  b: { uses: simulate, wrld: { seed: 1 } }\n",
                "part.yaml:2:24: unknown key `wrld`\n  |\n\
                 2 |   b: { uses: simulate, wrld: { seed: 1 } }\n  |                        ^\n\
                 = did you mean `world`?",
            ),
            (
                "stages:\n  b: { uses: extract, from: c }\n",
                "part.yaml:2:29: there is no stage `c`\n  |\n\
                 2 |   b: { uses: extract, from: c }\n  |                             ^\n\
                 = did you mean `b`?",
            ),
            (
                "profiles: {}\n",
                "part.yaml:1:1: unknown key `profiles`\n  |\n1 | profiles: {}\n  | ^\n\
                 = there are `include`, `vars`, `stages`",
            ),
            (
                "include: p.yaml\n",
                "part.yaml:1:10: `p.yaml` comes to include itself\n  |\n1 | include: p.yaml\n\
                 \x20 |          ^",
            ),
            (
                "include: ../outside.yaml\n",
                "part.yaml:1:10: cannot read the included `../outside.yaml`: No such file or \
                 directory (os error 2)\n  |\n1 | include: ../outside.yaml\n  |          ^",
            ),
            (
                "include: /etc/hostname\n",
                "part.yaml:1:10: `/etc/hostname` lies outside of the pipeline's folder\n  |\n\
                 1 | include: /etc/hostname\n  |          ^",
            ),
            (
                "include: pt.yaml\n",
                "part.yaml:1:10: cannot read the included `pt.yaml`: No such file or directory (os \
                 error 2)\n  |\n1 | include: pt.yaml\n  |          ^\n= did you mean `p.yaml`?",
            ),
            (
                "include: ${where}\n",
                "part.yaml:1:10: the path of an included file has no variables\n  |\n\
                 1 | include: ${where}\n  |          ^",
            ),
            (
                "include: { a: b }\n",
                "part.yaml:1:12: `include:` takes a path or a list of paths\n  |\n\
                 1 | include: { a: b }\n  |            ^",
            ),
            (
                "vars: { x: \"${y}\" }\n",
                "part.yaml:1:12: `${` within quotes is not replaced\n  |\n1 | vars: { x: \"${y}\" }\n\
                 \x20 |            ^\n= write the value without quotes, on a line of its own",
            ),
        ];
        for (part, expected) in cases {
            let error = load(&[("p.yaml", root), ("part.yaml", part)]).unwrap_err();

            assert_eq!(error, expected, "{part}");
        }
    }
}
