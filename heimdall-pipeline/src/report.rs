//! Pages for people: what an evaluation and a fix have shown.

mod chart;
mod evaluation;
mod fix;
mod map;
mod page;
mod spectrogram;

pub(crate) use evaluation::evaluation_page;
pub(crate) use fix::fix_page;
