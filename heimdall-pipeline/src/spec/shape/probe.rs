//! The probe that types are read from: it notes what they ask for, and gives no answer.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde_json::Value;

use super::Shape;

/// A step towards what lies deeper.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Field(&'static str),
    Variant(&'static str),
    /// What is within something optional or wrapped.
    Inner,
    /// The first item of a list.
    Item,
    /// What a key of a mapping leads to.
    Entry,
    /// Of what takes anything, whether it takes this.
    Try(Kind),
}

/// Kinds of values that what takes anything may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    Bool,
    Integer,
    Number,
    List,
    Mapping,
}

pub(super) const KINDS: [Kind; 6] =
    [Kind::Text, Kind::Bool, Kind::Integer, Kind::Number, Kind::List, Kind::Mapping];

/// What a type asked for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Plain(Shape),
    Anything,
    Optional,
    Wrapped,
    List(Option<usize>),
    Mapping(Option<&'static [&'static str]>),
    Struct(&'static [&'static str]),
    Choice(&'static [&'static str]),
    /// Whether a value that was tried is one that it takes.
    Takes(bool),
    /// What it said to the value that it was given.
    Refused(String),
}

/// Why reading stopped: always, since the probe gives no answers.
#[derive(Debug)]
pub(crate) enum Stop {
    Asked,
    WrongType,
    Other(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(message) => f.write_str(message),
            _ => f.write_str("the probe gives no answers"),
        }
    }
}

impl std::error::Error for Stop {}

impl Error for Stop {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn serde::de::Expected) -> Self {
        Self::WrongType
    }
}

/// Whatever reads a type.
pub(super) type Read<'a> = dyn Fn(Probe<'_>) -> Result<(), Stop> + 'a;

/// Reads once, and returns what was asked for at the end of a path.
pub(super) fn ask(read: &Read<'_>, path: &[Step], given: Option<&Value>) -> Asked {
    let asked = RefCell::new(None);
    let stop = read(Probe { path, given, asked: &asked });
    match (asked.into_inner(), stop) {
        (Some(asked), _) => asked,
        // A value that was tried is refused without a question.
        (None, stop) => Asked::Takes(!matches!(stop, Err(Stop::WrongType))),
    }
}

/// Asks a type what it takes.
#[derive(Clone, Copy)]
pub(crate) struct Probe<'a> {
    path: &'a [Step],
    /// What the end of the path is given instead of being asked.
    given: Option<&'a Value>,
    asked: &'a RefCell<Option<Asked>>,
}

impl<'a> Probe<'a> {
    /// Notes what was asked for, if this is the end of the path, and else returns the next step.
    fn step(self, asked: impl FnOnce() -> Asked) -> Result<(Step, Self), Stop> {
        match self.path.split_first() {
            None => {
                *self.asked.borrow_mut() = Some(asked());
                Err(Stop::Asked)
            }
            Some((step, rest)) => Ok((*step, Self { path: rest, ..self })),
        }
    }

    /// Notes what was said to the value that was given.
    fn note(self, refusal: Option<&Stop>) {
        let refusal = match refusal {
            None => String::new(),
            Some(Stop::WrongType) => "invalid type".to_owned(),
            Some(stop) => stop.to_string(),
        };
        self.asked.borrow_mut().get_or_insert(Asked::Refused(refusal));
    }

    fn plain<T>(self, shape: Shape) -> Result<T, Stop> {
        self.step(|| Asked::Plain(shape)).and_then(|_| Err(Stop::Asked))
    }
}

macro_rules! plain {
    ($($method:ident => $shape:expr),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            self.plain($shape)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    plain! {
        deserialize_bool => Shape::Bool,
        deserialize_i8 => Shape::Integer { is_signed: true },
        deserialize_i16 => Shape::Integer { is_signed: true },
        deserialize_i32 => Shape::Integer { is_signed: true },
        deserialize_i64 => Shape::Integer { is_signed: true },
        deserialize_i128 => Shape::Integer { is_signed: true },
        deserialize_u8 => Shape::Integer { is_signed: false },
        deserialize_u16 => Shape::Integer { is_signed: false },
        deserialize_u32 => Shape::Integer { is_signed: false },
        deserialize_u64 => Shape::Integer { is_signed: false },
        deserialize_u128 => Shape::Integer { is_signed: false },
        deserialize_f32 => Shape::Number,
        deserialize_f64 => Shape::Number,
        deserialize_char => Shape::Text,
        deserialize_str => Shape::Text,
        deserialize_string => Shape::Text,
        deserialize_bytes => Shape::Text,
        deserialize_byte_buf => Shape::Text,
        deserialize_unit => Shape::Nothing,
        deserialize_identifier => Shape::Text,
        deserialize_ignored_any => Shape::Any,
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        if let (Some(given), []) = (self.given, self.path) {
            // Taken in here, and looked at by the type afterwards.
            return given.clone().deserialize_any(visitor).map_err(Stop::custom);
        }
        match self.step(|| Asked::Anything)? {
            (Step::Try(Kind::Text), _) => visitor.visit_str("x"),
            (Step::Try(Kind::Bool), _) => visitor.visit_bool(true),
            (Step::Try(Kind::Integer), _) => visitor.visit_i64(-1),
            (Step::Try(Kind::Number), _) => visitor.visit_f64(0.5),
            (Step::Try(Kind::List), inner) => visitor.visit_seq(Single(Some(inner))),
            (Step::Try(Kind::Mapping), inner) => visitor.visit_map(Entry::of("x", inner)),
            _ => Err(Stop::Asked),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let (_, inner) = self.step(|| Asked::Optional)?;
        visitor.visit_some(inner)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: V,
    ) -> Result<V::Value, Stop> {
        self.plain(Shape::Nothing)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let (_, inner) = self.step(|| Asked::Wrapped)?;
        visitor.visit_newtype_struct(inner)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let (_, inner) = self.step(|| Asked::List(None))?;
        visitor.visit_seq(Single(Some(inner)))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let (_, inner) = self.step(|| Asked::List(Some(length)))?;
        visitor.visit_seq(Single(Some(inner)))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.path.split_first() {
            // Which keys there are is seen when the first one is read.
            None => {
                let keys = RefCell::new(None);
                let _ = visitor.visit_map(Entry { key: Key(Some("x"), Some(&keys)), value: None });
                self.step(|| Asked::Mapping(keys.into_inner())).and_then(|_| Err(Stop::Asked))
            }
            Some((_, rest)) => {
                let inner = Self { path: rest, ..self };
                visitor.visit_map(Entry { key: Key(Some("x"), None), value: Some(inner) })
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if let (Some(given), []) = (self.given, self.path) {
            let read = given.clone().deserialize_struct(name, fields, visitor);
            self.note(read.map_err(Stop::custom).as_ref().err());
            return Err(Stop::Asked);
        }
        match self.step(|| Asked::Struct(fields))? {
            (Step::Field(field), inner) => visitor.visit_map(Entry::of(field, inner)),
            _ => Err(Stop::Asked),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match self.step(|| Asked::Choice(variants))? {
            (Step::Variant(name), inner) => visitor.visit_enum(Chosen { name, inner }),
            _ => Err(Stop::Asked),
        }
    }
}

/// A list of one item.
struct Single<'a>(Option<Probe<'a>>);

impl<'de> SeqAccess<'de> for Single<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Stop> {
        self.0.take().map(|probe| seed.deserialize(probe)).transpose()
    }
}

/// A mapping of one entry.
struct Entry<'a> {
    key: Key<'a>,
    value: Option<Probe<'a>>,
}

impl<'a> Entry<'a> {
    fn of(key: &'static str, value: Probe<'a>) -> Self {
        Self { key: Key(Some(key), None), value: Some(value) }
    }
}

impl<'de> MapAccess<'de> for Entry<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Stop> {
        let name = self.key.0.take();
        name.map(|name| seed.deserialize(Key(Some(name), self.key.1))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        let probe = self.value.take().ok_or(Stop::Asked)?;
        let read = seed.deserialize(probe);
        if probe.given.is_some() {
            probe.note(read.as_ref().err());
        }
        read
    }
}

/// A key: the given name, or the first that there is where keys are fixed; these are noted.
#[derive(Clone, Copy)]
struct Key<'a>(Option<&'static str>, Option<&'a RefCell<Option<&'static [&'static str]>>>);

impl<'de> Deserializer<'de> for Key<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_borrowed_str(self.0.unwrap_or_default())
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if let Some(keys) = self.1 {
            *keys.borrow_mut() = Some(variants);
        }
        let first: StrDeserializer<'_, Stop> = variants[0].into_deserializer();
        visitor.visit_enum(first)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// A name that was chosen, and what follows it.
struct Chosen<'a> {
    name: &'static str,
    inner: Probe<'a>,
}

impl<'de, 'a> EnumAccess<'de> for Chosen<'a> {
    type Error = Stop;
    type Variant = Probe<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Probe<'a>), Stop> {
        Ok((seed.deserialize(Key(Some(self.name), None))?, self.inner))
    }
}

impl<'de> VariantAccess<'de> for Probe<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.plain(Shape::Nothing)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        let (_, inner) = self.step(|| Asked::Wrapped)?;
        seed.deserialize(inner)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_struct("", fields, visitor)
    }
}
