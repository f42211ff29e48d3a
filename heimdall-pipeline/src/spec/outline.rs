//! The first reading of a definition: which stages there are, of which kind, and from what.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::RunSpec;
use super::source::Place;
use crate::stage::{Stage, StageKind};

/// A text with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) place: Place,
}

impl std::convert::From<Spanned<String>> for Word {
    fn from(spanned: Spanned<String>) -> Self {
        Self { place: place_of(&spanned.referenced), text: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::<String>::deserialize(deserializer).map(Into::into)
    }
}

/// Returns a parser's location as a place in the first file; line 1 where it has none.
pub(crate) fn place_of(location: &Location) -> Place {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX).max(1);
    Place { file: 0, line: number(location.line()), column: number(location.column()) }
}

/// The top level of a definition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outline {
    #[serde(default)]
    pub(crate) name: Option<Word>,
    #[serde(default, rename = "include")]
    _include: Option<IgnoredAny>,
    #[serde(default, rename = "vars")]
    _vars: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) cache: Option<Word>,
    #[serde(default)]
    pub(crate) tracking: TrackingOutline,
    #[serde(default)]
    pub(crate) profiles: Entries<ProfileOutline>,
    /// There may be none where included files have some.
    #[serde(default)]
    pub(crate) stages: Entries<StageOutline>,
}

/// The top level of a file that a definition includes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IncludedOutline {
    #[serde(default, rename = "include")]
    _include: Option<IgnoredAny>,
    #[serde(default, rename = "vars")]
    _vars: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) stages: Entries<StageOutline>,
}

/// The `tracking:` of a definition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TrackingOutline {
    pub(crate) uri: Option<Word>,
    pub(crate) experiment: Option<String>,
    pub(crate) training: Option<bool>,
}

/// A profile: what it has other values for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProfileOutline {
    pub(crate) vars: Entries<Word>,
    pub(crate) cache: Option<Word>,
    pub(crate) tracking: TrackingOutline,
}

/// The files that a definition includes, its variables and those of its profiles; everything else is
/// left for later.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct VarsOutline {
    #[serde(default)]
    pub(crate) include: From,
    #[serde(default)]
    pub(crate) vars: Entries<Word>,
    #[serde(default)]
    pub(crate) profiles: Entries<ProfileOutline>,
}

/// What the first reading takes from a stage.
#[derive(Debug, Deserialize)]
pub(crate) struct StageOutline {
    pub(crate) uses: Word,
    #[serde(default)]
    pub(crate) from: From,
    #[serde(default)]
    pub(crate) matrix: Entries<Vec<Spanned<Value>>>,
}

/// The parser knows of one file only; these move what it found into the file that it read.
impl Word {
    fn move_to(&mut self, file: usize) {
        self.place.file = file;
    }
}

impl From {
    fn move_to(&mut self, file: usize) {
        self.words_mut().for_each(|word| word.move_to(file));
        if let Self::Ports(ports) = self {
            ports.iter_mut().for_each(|(port, _)| port.move_to(file));
        }
    }

    /// Returns the references in it.
    pub(super) fn words(&self) -> impl Iterator<Item = &Word> {
        let (words, ports): (&[Word], &[(Word, Word)]) = match self {
            Self::Absent => (&[], &[]),
            Self::References(words) => (words, &[]),
            Self::Ports(ports) => (&[], ports),
        };
        words.iter().chain(ports.iter().map(|(_, word)| word))
    }

    /// Returns the references in it, to be changed.
    pub(super) fn words_mut(&mut self) -> impl Iterator<Item = &mut Word> {
        let (words, ports): (&mut [Word], &mut [(Word, Word)]) = match self {
            Self::Absent => (&mut [], &mut []),
            Self::References(words) => (words, &mut []),
            Self::Ports(ports) => (&mut [], ports),
        };
        words.iter_mut().chain(ports.iter_mut().map(|(_, word)| word))
    }
}

impl VarsOutline {
    pub(crate) fn move_to(&mut self, file: usize) {
        self.include.move_to(file);
        self.vars
            .0
            .iter_mut()
            .flat_map(|(name, value)| [name, value])
            .for_each(|word| word.move_to(file));
    }
}

impl StageOutline {
    pub(crate) fn move_to(&mut self, file: usize) {
        self.uses.move_to(file);
        self.from.move_to(file);
        self.matrix.0.iter_mut().for_each(|(axis, _)| axis.move_to(file));
    }
}

/// The entries of a mapping in the order of the file.
#[derive(Debug)]
pub(crate) struct Entries<T>(pub(crate) Vec<(Word, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }

            fn visit_unit<E>(self) -> Result<Entries<T>, E> {
                Ok(Entries::default())
            }
        }

        deserializer.deserialize_map(EntriesVisitor(std::marker::PhantomData))
    }
}

/// What stands behind `from:`.
#[derive(Clone, Debug, Default)]
pub(crate) enum From {
    /// Nothing.
    #[default]
    Absent,
    /// `from: stage` or `from: stage.port`, or a list of them.
    References(Vec<Word>),
    /// `from: { port: stage.port }`.
    Ports(Vec<(Word, Word)>),
}

impl<'de> Deserialize<'de> for From {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FromVisitor;

        impl<'de> Visitor<'de> for FromVisitor {
            type Value = From;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a stage, a list of stages, or a mapping from port to stage")
            }

            fn visit_str<E>(self, text: &str) -> Result<From, E> {
                // The place is that of the whole value, which the caller fills in.
                let place = Place { file: 0, line: 1, column: 1 };
                Ok(From::References(vec![Word { text: text.to_owned(), place }]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<From, A::Error> {
                let mut references = Vec::new();
                while let Some(reference) = list.next_element()? {
                    references.push(reference);
                }
                Ok(From::References(references))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<From, A::Error> {
                let mut ports = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    ports.push(entry);
                }
                Ok(From::Ports(ports))
            }
        }

        /// The visitor behind a type, so that the place of the whole value can be asked for.
        struct Unplaced(From);

        impl<'de> Deserialize<'de> for Unplaced {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(FromVisitor).map(Unplaced)
            }
        }

        let spanned = Spanned::<Unplaced>::deserialize(deserializer)?;
        let mut from = spanned.value.0;
        if let Self::References(references) = &mut from
            && let [only] = references.as_mut_slice()
            && only.place == (Place { file: 0, line: 1, column: 1 })
        {
            only.place = place_of(&spanned.referenced);
        }
        Ok(from)
    }
}

/// The second reading of `stages:`, with the kinds that the first one found.
#[derive(Debug)]
pub(crate) struct TypedStages<'a>(pub(crate) &'a [StageKind]);

impl<'de> DeserializeSeed<'de> for TypedStages<'_> {
    type Value = Vec<(Stage, RunSpec)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(TopLevel(self.0))
    }
}

struct TopLevel<'a>(&'a [StageKind]);

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = Vec<(Stage, RunSpec)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pipeline")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut stages = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "stages" {
                stages = map.next_value_seed(StageList(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(stages)
    }
}

struct StageList<'a>(&'a [StageKind]);

impl<'de> DeserializeSeed<'de> for StageList<'_> {
    type Value = Vec<(Stage, RunSpec)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for StageList<'_> {
    type Value = Vec<(Stage, RunSpec)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping from name to stage")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut stages = Vec::with_capacity(self.0.len());
        for kind in self.0 {
            if map.next_key::<IgnoredAny>()?.is_none() {
                break;
            }
            stages.push(map.next_value_seed(TypedStage(*kind))?);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(stages)
    }
}

struct TypedStage(StageKind);

impl<'de> DeserializeSeed<'de> for TypedStage {
    type Value = (Stage, RunSpec);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TypedStage {
    type Value = (Stage, RunSpec);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration of a `{}` stage", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut run = RunSpec::default();
        let fields = OwnFields { map, run: &mut run };
        let stage =
            Stage::deserialize(self.0, serde::de::value::MapAccessDeserializer::new(fields))?;
        Ok((stage, run))
    }
}

/// The fields of a stage without those that every stage has.
struct OwnFields<'a, A> {
    map: A,
    run: &'a mut RunSpec,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for OwnFields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        mut seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        loop {
            match self.map.next_key_seed(FieldKey(seed))? {
                None => return Ok(None),
                Some(Field::Own(key)) => return Ok(Some(key)),
                Some(Field::Run(unused)) => {
                    *self.run = self.map.next_value()?;
                    seed = unused;
                }
                Some(Field::Wiring(unused)) => {
                    self.map.next_value::<IgnoredAny>()?;
                    seed = unused;
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// A key of a stage: one of its own, or one that every stage has, with the seed handed back.
enum Field<T, K> {
    Own(T),
    Run(K),
    Wiring(K),
}

/// Reads a key within the parser's own call, so that a refusal has the place of the key.
struct FieldKey<K>(K);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for FieldKey<K> {
    type Value = Field<K::Value, K>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let name = String::deserialize(deserializer)?;
        match name.as_str() {
            "uses" | "from" | "matrix" => Ok(Field::Wiring(self.0)),
            "run" => Ok(Field::Run(self.0)),
            _ => {
                self.0.deserialize(serde::de::value::StringDeserializer::new(name)).map(Field::Own)
            }
        }
    }
}
