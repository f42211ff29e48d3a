//! Pages for people: what an evaluation and a fix have shown, and how a pipeline stands.

mod chart;
mod evaluation;
mod fix;
mod hold_out;
mod interval;
mod map;
mod page;
mod pipeline;
mod spectrogram;

pub(crate) use evaluation::{EvaluationReport, evaluation_report};
pub(crate) use fix::fix_page;
pub(crate) use hold_out::hold_out_report;
pub(crate) use page::escape;
pub(crate) use pipeline::pipeline_page;
