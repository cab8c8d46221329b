//! What a reader of the source, or an operator, wants to know beyond single modules.
//!
//! * [`architecture`]: the life of a request through the files; threads, memory, deadlines.
//! * [`decisions`]: where two good people could have chosen otherwise.
//! * [`lessons`]: what was learnt the hard way, with its number where there is one.
//! * [`glossary`]: one meaning for each word.
//! * [`tuning`]: what an operator may set, on the machine and here.

pub mod architecture;
pub mod decisions;
pub mod glossary;
pub mod lessons;
pub mod tuning;
