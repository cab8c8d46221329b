//! Frames that are received about streams, windows and the connection itself (RFC 9113 §6.4–§6.9).

use super::{
    BadMessage, Code, Connection, Event, Fault,
    connection::{LEAVING_PING, Leaving, Role},
    frame::{self, Header, STREAM_MAX, flag, setting},
    receive::{Turn, number},
    streams::{Past, Waiting},
};

impl Connection {
    pub(super) fn rst_stream(
        &mut self,
        id: u32,
        code: u32,
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        let Some(stream) = self.streams.find(id) else {
            return self.floods.idle(Fault::ResetFlood, turn.now_us).map(|()| None);
        };
        if self.role == Role::Server {
            self.floods.reset(turn.now_us)?;
        }
        self.remove(stream, Past::Ended, turn.out);
        let code = Code::of(code);
        Ok(Some(Event::Reset { stream, code, untouched: code == Code::RefusedStream }))
    }

    pub(super) fn settings(
        &mut self,
        header: Header,
        payload: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        self.floods.idle(Fault::SettingsFlood, turn.now_us)?;
        if header.has(flag::ACK) {
            self.acknowledged = true;
            return Ok(None);
        }
        self.peer.known = true;
        let mut window = self.peer.stream_window;
        // The last value of each counts, so that a frame with thousands of them costs no more than its bytes.
        let (pairs, _) = payload.as_chunks::<6>();
        for [a, b, value @ ..] in pairs {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                setting::HEADER_TABLE_SIZE => self.encoder.resize(value as usize),
                setting::ENABLE_PUSH if value > 1 || (value == 1 && self.role == Role::Client) => {
                    return Err(Fault::BadSetting);
                }
                setting::MAX_CONCURRENT_STREAMS => self.peer.streams_max = value,
                setting::INITIAL_WINDOW_SIZE if value > STREAM_MAX => return Err(Fault::FlowControl),
                setting::INITIAL_WINDOW_SIZE => window = value,
                // We send none larger than the least it may be.
                setting::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                    return Err(Fault::BadSetting);
                }
                setting::ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(Fault::BadSetting),
                setting::ENABLE_CONNECT_PROTOCOL => self.peer.extended_connect = value == 1,
                _ => {}
            }
        }
        self.resize_windows(window)?;
        frame::settings_ack(turn.out);
        self.replies += 1;
        Ok(Some(Event::Settings))
    }

    /// RFC 9113 §6.9.2.
    fn resize_windows(&mut self, window: u32) -> Result<(), Fault> {
        let more = i64::from(window) - i64::from(std::mem::replace(&mut self.peer.stream_window, window));
        if more == 0 {
            return Ok(());
        }
        for (stream, exchange) in self.streams.all() {
            exchange.send_window += more;
            if exchange.send_window > i64::from(STREAM_MAX) {
                return Err(Fault::FlowControl);
            }
            if exchange.waiting == Waiting::Window && exchange.send_window > 0 {
                exchange.waiting = Waiting::Line;
                self.line.push_back(stream);
            }
        }
        Ok(())
    }

    pub(super) fn pinged(
        &mut self,
        header: Header,
        payload: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        self.floods.idle(Fault::PingFlood, turn.now_us)?;
        let payload: [u8; 8] = payload.try_into().map_err(|_| Fault::FrameSize)?;
        if !header.has(flag::ACK) {
            frame::ping(turn.out, flag::ACK, payload);
            self.replies += 1;
            return Ok(None);
        }
        if payload == LEAVING_PING && self.leaving == Leaving::Announced {
            self.go_away(Code::NoError, turn.out);
            return Ok(None);
        }
        Ok(Some(Event::Pong { payload: u64::from_be_bytes(payload) }))
    }

    pub(super) fn go_away_came(
        &mut self,
        payload: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        self.floods.idle(Fault::UnknownFlood, turn.now_us)?;
        let last = number(payload) & STREAM_MAX;
        // It may only become less (RFC 9113 §6.8).
        let last = self.peer_last.map_or(last, |before| before.min(last));
        self.peer_last = Some(last);
        self.losing = self.role == Role::Client;
        Ok(Some(Event::GoAway { last, code: Code::of(number(&payload[4..])) }))
    }

    /// One of the requests that the peer's GOAWAY leaves out.
    pub(super) fn lose(&mut self, turn: &mut Turn<'_>) -> Option<Event> {
        let last = self.peer_last.unwrap_or(STREAM_MAX);
        let lost = self.streams.all().map(|(stream, _)| stream).find(|stream| stream.id > last);
        let Some(stream) = lost else {
            self.losing = false;
            return None;
        };
        self.remove(stream, Past::Dropped, turn.out);
        Some(Event::Reset { stream, code: Code::RefusedStream, untouched: true })
    }

    pub(super) fn window_update(
        &mut self,
        id: u32,
        more: u32,
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        self.floods.idle(Fault::WindowUpdateFlood, turn.now_us)?;
        if id == 0 {
            if more == 0 {
                return Err(Fault::ZeroUpdate);
            }
            let before = self.send_window;
            self.send_window += i64::from(more);
            if self.send_window > i64::from(STREAM_MAX) {
                return Err(Fault::FlowControl);
            }
            return Ok((before <= 0 && !self.line.is_empty()).then_some(Event::WindowOpened));
        }
        // It may have been on its way when the stream ended.
        let Some(stream) = self.streams.find(id) else { return Ok(None) };
        let exchange = self.streams.exchange(stream).expect("it was just found");
        exchange.send_window += i64::from(more);
        if more == 0 || exchange.send_window > i64::from(STREAM_MAX) {
            let code = if more == 0 { Code::ProtocolError } else { Code::FlowControlError };
            return self.malformed(stream, BadMessage::Window, code, turn);
        }
        if exchange.waiting != Waiting::Window || exchange.send_window <= 0 {
            return Ok(None);
        }
        self.stand_in_line(stream);
        Ok(Some(Event::WindowOpened))
    }
}
