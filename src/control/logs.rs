//! The log settings of a checked configuration, as the log thread wants them.

use crate::{
    config::{Format as Written, Level as WrittenLevel, Log, Piece as WrittenPiece, Sink},
    observe::{
        event::Level,
        format::{Format, Piece, Variable},
        writer::{Settings, Target},
    },
};

/// What the log thread is to do.
pub fn settings(log: &Log) -> Settings {
    Settings {
        access: log.access.as_ref().map(|access| (target(&access.to), format(&access.format))),
        events: target(&log.events.to),
        level: match log.events.level {
            WrittenLevel::Error => Level::Error,
            WrittenLevel::Warn => Level::Warn,
            WrittenLevel::Info => Level::Info,
            WrittenLevel::Debug => Level::Debug,
        },
    }
}

fn target(sink: &Sink) -> Target {
    match sink {
        Sink::Stdout => Target::Stdout,
        Sink::Stderr => Target::Stderr,
        Sink::File(path) => Target::File(path.clone()),
    }
}

fn format(written: &Written) -> Format {
    match written {
        Written::Combined => Format::Combined,
        Written::Json => Format::Json,
        Written::Template(pieces) => Format::Template(pieces.iter().map(piece).collect()),
    }
}

fn piece(piece: &WrittenPiece) -> Piece {
    match piece {
        WrittenPiece::Text(text) => Piece::Text(Box::from(text.as_bytes())),
        WrittenPiece::Variable(name) => {
            Piece::Variable(Variable::named(name).expect("both lists of variables are the same"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_that_config_accepts_has_a_value() {
        for name in crate::template::log::VARIABLES {
            let written = [WrittenPiece::Variable(name), WrittenPiece::Text(" x".into())];
            let Format::Template(pieces) = format(&Written::Template(written.into())) else {
                panic!("{name}")
            };
            assert_eq!(pieces.len(), 2, "{name}");
        }
    }
}
