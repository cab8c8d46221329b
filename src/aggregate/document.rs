//! From answers to one document: a list of slices of the bodies as they were received.

use super::{
    Unmade,
    answer::Bytes,
    fault::PartFault,
    gather::{Gather, Outcome, Phase, Required, State},
    report,
};
use crate::{
    json::{self, BadMerge, Kind, Name, Piece, Pieces, Place, Span},
    limits::AGGREGATE_BYTES_MAX,
    observe::StandIn,
    runtime::{Gathered, Held},
    transform::{Errors, Importance},
};

/// What the client gets.
pub struct Document {
    pub status: u16,
    pub content_type: Vec<u8>,
    /// Whether every part is in it that should be.
    pub is_complete: bool,
    /// The value of `Server-Timing`.
    pub timing: Vec<u8>,
    pub body: Gathered,
}

/// Lays the document out, of what there is.
pub(super) fn make(gather: &mut Gather<'_>, failed: Option<Required>) -> Result<Document, Unmade> {
    let ask = gather.ask;
    let timing = report::server_timing(ask, &gather.ended);
    if let Some(Required(index)) = failed {
        return refused(gather, index, timing);
    }
    let asked: Vec<_> =
        gather.ended.iter().flatten().filter(|ended| ended.us > 0 || ended.is_failed()).collect();
    let is_lost = |ended: &&report::Ended| ended.is_failed() && ended.stand_in != Some(StandIn::Stale);
    if !asked.is_empty() && asked.iter().all(is_lost) && !has_array(gather) {
        let late = asked.iter().all(|ended| ended.fault.is_some_and(PartFault::is_timeout));
        return Err(if late { Unmade::Late } else { Unmade::Failed });
    }
    let is_complete = !gather.ended.iter().flatten().any(report::Ended::is_failed);
    let body = merge(gather)?;
    Ok(Document { status: 200, content_type: b"application/json".to_vec(), is_complete, timing, body })
}

/// Whether an array has at least some of its elements.
fn has_array(gather: &Gather<'_>) -> bool {
    gather.states.iter().any(|state| matches!(&state.phase, Phase::Done(Outcome::Array(..))))
}

/// The word of a required part that failed: what a client did wrong is passed on.
fn refused(gather: &mut Gather<'_>, index: usize, timing: Vec<u8>) -> Result<Document, Unmade> {
    let fault = gather.ended[index].and_then(|ended| ended.fault);
    if let Some(PartFault::Status(status @ 400..=499)) = fault {
        let calls = gather.states[index].calls.clone();
        let refusal = calls.into_iter().find_map(|call| {
            let called = gather.calls[call].called.as_mut()?;
            (called.status == status).then(|| called.refusal.take()).flatten()
        });
        let mut body = Gathered::default();
        let mut content_type = Vec::new();
        if let Some((of, buffer)) = refusal {
            content_type = of;
            let length = buffer.len();
            let hold = body.hold(Held::Buffer(buffer));
            body.push(hold, 0..length);
        }
        return Ok(Document { status, content_type, is_complete: false, timing, body });
    }
    Err(if fault.is_some_and(PartFault::is_timeout) { Unmade::Late } else { Unmade::Failed })
}

/// Whose bytes a piece is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Call(usize),
    Own(usize),
}

fn merge(gather: &mut Gather<'_>) -> Result<Gathered, Unmade> {
    let plan = &gather.ask.aggregate.plan;
    let errors = match plan.errors {
        Errors::Body => report::errors(gather.ask, &gather.ended),
        Errors::Headers => None,
    };
    let errors_place = Place::Under([Name::new("errors")].into());
    // What is not as it was received: edited answers, arrays, what stands in.
    let mut own: Vec<Vec<u8>> = Vec::new();
    let mut shown: Vec<(&Place, Of, Option<json::Document>)> = Vec::new();
    for (part, state) in plan.parts.iter().zip(&gather.states) {
        if part.place == Place::Hidden {
            continue;
        }
        let Phase::Done(outcome) = &state.phase else { continue };
        let (of, document) = match outcome {
            Outcome::Absent => continue,
            Outcome::Answer => match answered(gather, part.edit.as_ref(), state, &mut own) {
                Some(found) => found,
                None => continue,
            },
            // Its elements were edited one by one.
            Outcome::Array(bytes, span) => {
                own.push(bytes.clone());
                (Of::Own(own.len() - 1), json::Document { kind: Kind::Array, span: *span })
            }
            Outcome::Stale(body, document) => {
                let edited = part.edit.as_ref().map(|edit| edited(gather, edit, body, document.span));
                match edited {
                    Some(Some(edited)) => own.push(edited),
                    Some(None) => continue,
                    None => own.push(body.to_vec()),
                }
                let Ok(document) = json::check(&own[own.len() - 1]) else { continue };
                (Of::Own(own.len() - 1), document)
            }
            Outcome::Default => {
                let default = match &part.importance {
                    Importance::Optional { default: Some(default) } => default.to_vec(),
                    Importance::Optional { default: None } | Importance::Required => continue,
                };
                own.push(default);
                let Ok(document) = json::check(&own[own.len() - 1]) else { continue };
                (Of::Own(own.len() - 1), document)
            }
        };
        let is_nothing = part.place == Place::Root && document.kind != Kind::Object;
        if !is_nothing {
            shown.push((&part.place, of, Some(document)));
        }
    }
    if let Some(errors) = errors {
        own.push(errors);
        let document = json::check(&own[own.len() - 1]).ok();
        shown.push((&errors_place, Of::Own(own.len() - 1), document));
    }
    let parts: Vec<json::Part<'_>> = shown
        .iter()
        .filter_map(|(place, of, document)| {
            let (body, members) = match of {
                Of::Own(index) => (&own[*index][..], None),
                Of::Call(call) => {
                    let answer = gather.calls[*call].called.as_ref()?.answer.as_ref().ok()?;
                    let is_whole = document.is_some_and(|document| document.span == answer.document.span);
                    (answer.body.get(), answer.members.as_ref().filter(|_| is_whole))
                }
            };
            Some(json::Part { place, body, document: (*document)?, members })
        })
        .collect();
    let mut pieces = Pieces::new();
    let merged = gather.room.merger.borrow_mut().merge(&parts, plan.conflict, plan.depth, &mut pieces);
    match merged {
        Ok(()) if pieces.bytes() <= AGGREGATE_BYTES_MAX => {}
        Ok(()) => return Err(Unmade::TooLarge),
        Err(BadMerge::Conflict { .. } | BadMerge::NoObject { .. }) => return Err(Unmade::Conflict),
    }
    debug_assert_eq!(parts.len(), shown.len(), "every part that is shown has a body");
    drop(parts);
    let sources: Vec<Of> = shown.iter().map(|(_, of, _)| *of).collect();
    Ok(lay_out(gather, &pieces, &sources, own))
}

/// The answer of a part, edited: whose bytes, and which of them. `None` where nothing is left of it.
fn answered(
    gather: &Gather<'_>,
    edit: Option<&json::Edit>,
    state: &State,
    own: &mut Vec<Vec<u8>>,
) -> Option<(Of, json::Document)> {
    let answer = gather.answer(state)?;
    let call = *state.calls.first()?;
    let (body, document) = (answer.body.get(), answer.document);
    match edit {
        None => Some((Of::Call(call), document)),
        Some(edit) if edit.is_pick() => {
            let span = edit.picked(body, document.span)?;
            Some((Of::Call(call), json::Document { kind: Kind::of(span.of(body)), span }))
        }
        Some(edit) => {
            own.push(edited(gather, edit, body, document.span)?);
            let document = json::check(&own[own.len() - 1]).ok()?;
            Some((Of::Own(own.len() - 1), document))
        }
    }
}

/// A copy of what an edit leaves.
fn edited(gather: &Gather<'_>, edit: &json::Edit, body: &[u8], value: Span) -> Option<Vec<u8>> {
    let mut pieces = Pieces::new();
    let is_there = edit.apply(&mut gather.room.editor.borrow_mut(), 0, body, value, &mut pieces);
    let mut out = Vec::new();
    pieces.join(|_| body, &mut out);
    is_there.then_some(out)
}

/// The answers of a part's calls as one array; `null` where there is none.
pub(super) fn array(gather: &Gather<'_>, index: usize) -> Vec<u8> {
    let edit = gather.ask.aggregate.plan.parts[index].edit.as_ref();
    let mut out = vec![b'['];
    for call in &gather.states[index].calls {
        if out.len() > 1 {
            out.push(b',');
        }
        let answer = gather.calls[*call].called.as_ref().and_then(|called| called.answer.as_ref().ok());
        let value = answer.and_then(|answer| {
            let (body, span) = (answer.body.get(), answer.document.span);
            match edit {
                None => Some(span.of(body).to_vec()),
                Some(edit) => edited(gather, edit, body, span),
            }
        });
        out.extend_from_slice(value.as_deref().unwrap_or(b"null"));
    }
    out.push(b']');
    out
}

/// Moves the bodies into the message. No byte of them is copied.
fn lay_out(gather: &mut Gather<'_>, pieces: &Pieces, sources: &[Of], own: Vec<Vec<u8>>) -> Gathered {
    let mut message = Gathered::default();
    let text = message.hold(Held::Bytes(pieces.text().to_vec()));
    let own: Vec<_> = own.into_iter().map(|bytes| message.hold(Held::Bytes(bytes))).collect();
    let mut of_calls: Vec<(usize, usize)> = Vec::new();
    for source in sources {
        let Of::Call(call) = *source else { continue };
        if of_calls.iter().any(|(known, _)| *known == call) {
            continue;
        }
        let answer = gather.calls[call].called.take().and_then(|called| called.answer.ok());
        let Some(answer) = answer else { continue };
        if let Some(members) = answer.members {
            gather.room.give_back(members);
        }
        let held = match answer.body {
            Bytes::Buffer(buffer) => Held::Buffer(buffer),
            Bytes::Own(bytes) => Held::Bytes(bytes),
        };
        of_calls.push((call, message.hold(held)));
    }
    for piece in pieces.list() {
        let (hold, span) = match *piece {
            Piece::Text(span) => (text, span),
            Piece::Part(part, span) => match sources[part] {
                Of::Own(index) => (own[index], span),
                Of::Call(call) => {
                    let Some((_, hold)) = of_calls.iter().find(|(known, _)| *known == call) else { continue };
                    (*hold, span)
                }
            },
        };
        message.push(hold, span.start as usize..span.end as usize);
    }
    message
}
