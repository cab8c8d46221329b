//! A value of the configuration as JSON.

use crate::{
    config::{
        problem::Problems,
        raw::{Node, Text, Value},
    },
    json::write as text,
};

/// What braces in strings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Braces {
    /// Characters like any other.
    AsTheyAre,
    /// The strings are templates; those that a `${…}` brought are escaped.
    OfTemplates,
}

/// Appends the value. `None`, with a problem, where JSON has no such number.
pub(super) fn write(node: &Node, braces: Braces, out: &mut Vec<u8>, problems: &mut Problems) -> Option<()> {
    let string = |value: &Text, out: &mut Vec<u8>| {
        let escaped = value.word().braces_escaped().filter(|_| braces == Braces::OfTemplates);
        text::string(escaped.as_deref().unwrap_or(value.as_str()), out);
    };
    match &node.value {
        Value::String(value) => string(value, out),
        Value::Integer(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Float(value) if value.is_finite() => out.extend_from_slice(format!("{value:?}").as_bytes()),
        Value::Float(_) => {
            problems.error("JSON has no such number").at(node.at, "");
            return None;
        }
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::List(list) => {
            out.push(b'[');
            for (index, node) in list.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(node, braces, out, problems)?;
            }
            out.push(b']');
        }
        Value::Table(table) => {
            out.push(b'{');
            for (index, entry) in table.entries.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                string(&entry.key, out);
                out.push(b':');
                write(&entry.node, braces, out, problems)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}
