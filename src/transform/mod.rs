//! Edits of requests and responses, compiled when the configuration is checked.
//!
//! [`plan`] is an aggregate: its parts, what each is asked and where its answer goes. [`values`] puts values of the request and of
//! answers into templates; [`body`] is a template of a JSON body, [`condition`] decides whether a part is asked at all.

pub mod body;
pub mod condition;
pub mod plan;
pub mod values;

pub use self::{
    body::BodyTemplate,
    condition::Condition,
    plan::{Errors, FanOut, HeaderRule, Importance, Part, Plan},
    values::{Answers, Client, Values},
};
