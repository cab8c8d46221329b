//! Header blocks as they are received (RFC 7541 §3.2, §6).

use super::{
    Kind, TABLE_BYTES, huffman, is_clean,
    statics::{self, ENTRIES},
    table::{Looked, Table},
};

/// One field of a block.
pub(in crate::http::h2) type Decoded<'d> = Looked<'d>;

/// A block that cannot be decoded. The tables of the two sides may differ from now on: the connection is over (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http::h2) struct Undecodable;

/// The decoder of one connection.
pub(in crate::http::h2) struct Decoder {
    table: Table,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// How a field is written (RFC 7541 §6).
enum Form {
    Insert,
    Plain,
}

impl Decoder {
    pub(in crate::http::h2) fn new() -> Self {
        Self { table: Table::new(TABLE_BYTES), name: Vec::new(), value: Vec::new() }
    }

    /// Calls `each` with every field of a whole block, in order. Time and memory are linear in the block; it is for `each` to stop
    /// taking fields that are too many: what a block refers to can be 4,000 times its size.
    pub(in crate::http::h2) fn decode(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(Decoded<'_>),
    ) -> Result<(), Undecodable> {
        let mut rest = block;
        let mut may_resize = true;
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                each(self.entry(index)?);
            } else if first & 0x40 != 0 {
                self.literal(&mut rest, 6, &Form::Insert, &mut each)?;
            } else if first & 0x20 == 0 {
                // Without indexing, or never indexed: the same for us.
                self.literal(&mut rest, 4, &Form::Plain, &mut each)?;
            } else {
                // A size update comes before all fields (§4.2).
                let size = integer(&mut rest, 5)?;
                if size > TABLE_BYTES || !may_resize {
                    return Err(Undecodable);
                }
                self.table.resize(size);
                continue;
            }
            may_resize = false;
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<Looked<'_>, Undecodable> {
        match index {
            0 => Err(Undecodable),
            1..=statics::COUNT => {
                let entry = &ENTRIES[index - 1];
                Ok(Looked { name: entry.name, value: entry.value, kind: entry.kind, clean: true })
            }
            _ => self.table.look(index - statics::COUNT - 1).ok_or(Undecodable),
        }
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        prefix_bits: u32,
        form: &Form,
        each: &mut impl FnMut(Decoded<'_>),
    ) -> Result<(), Undecodable> {
        let index = integer(rest, prefix_bits)?;
        // Kept apart from the tables, from which an insertion may drop the very entry that names it (§4.4).
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        let kind = if index == 0 {
            string(rest, &mut name)?;
            Kind::of(&name)
        } else {
            let entry = self.entry(index)?;
            name.extend_from_slice(entry.name);
            entry.kind
        };
        self.value.clear();
        string(rest, &mut self.value)?;
        let clean = is_clean(&self.value);
        each(Looked { name: &name, value: &self.value, kind, clean });
        if matches!(form, Form::Insert) {
            self.table.insert(&name, &self.value, kind, clean);
        }
        self.name = name;
        for scratch in [&mut self.name, &mut self.value] {
            scratch.shrink_to(SCRATCH_BYTES);
        }
        Ok(())
    }
}

/// What a decoder keeps for its next long string.
const SCRATCH_BYTES: usize = 4096;

/// The largest number that is read: more than any length or index that can be meant.
const INTEGER_MAX: usize = 1 << 24;

/// Reads an integer whose first byte has `prefix_bits` of it (§5.1).
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, Undecodable> {
    let (&first, mut after) = rest.split_first().ok_or(Undecodable)?;
    let mask = (1 << prefix_bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, next) = after.split_first().ok_or(Undecodable)?;
            after = next;
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            // Also when only zeros follow: no encoder writes those.
            if value > INTEGER_MAX || shift > 28 {
                return Err(Undecodable);
            }
        }
    }
    *rest = after;
    Ok(value)
}

/// Appends a string (§5.2).
fn string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Undecodable> {
    let is_coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let len = integer(rest, 7)?;
    let (text, after) = rest.split_at_checked(len).ok_or(Undecodable)?;
    *rest = after;
    if !is_coded {
        out.extend_from_slice(text);
    } else if !huffman::decode(text, out) {
        return Err(Undecodable);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
    }

    fn decode(decoder: &mut Decoder, hex: &str) -> Result<Vec<String>, Undecodable> {
        let mut found = Vec::new();
        decoder.decode(&bytes(hex), |field| {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            found.push(format!("{}: {}", text(field.name), text(field.value)));
        })?;
        Ok(found)
    }

    #[track_caller]
    fn check(decoder: &mut Decoder, hex: &str, expected: &[&str]) {
        assert_eq!(
            decode(decoder, hex).unwrap_or_else(|_| panic!("{hex} cannot be decoded")),
            expected,
            "{hex}"
        );
    }

    #[track_caller]
    fn check_refused(hex: &str) {
        assert_eq!(decode(&mut Decoder::new(), hex), Err(Undecodable), "{hex}");
    }

    fn table(decoder: &Decoder) -> Vec<String> {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let entries = (0..).map_while(|age| decoder.table.look(age));
        entries.map(|entry| format!("{}: {}", text(entry.name), text(entry.value))).collect()
    }

    // RFC 7541 C.2

    #[test]
    fn each_form_of_a_field_is_read() {
        let mut decoder = Decoder::new();
        check(
            &mut decoder,
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            &["custom-key: custom-header"],
        );
        assert_eq!(table(&decoder), ["custom-key: custom-header"]);
        let mut decoder = Decoder::new();
        check(&mut decoder, "040c 2f73 616d 706c 652f 7061 7468", &[":path: /sample/path"]);
        check(&mut decoder, "1008 7061 7373 776f 7264 0673 6563 7265 74", &["password: secret"]);
        check(&mut decoder, "82", &[":method: GET"]);
        assert_eq!(table(&decoder), Vec::<String>::new());
    }

    // RFC 7541 C.3, C.4

    #[test]
    fn requests_on_one_connection_share_a_table() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, coded] {
            let mut decoder = Decoder::new();
            check(
                &mut decoder,
                blocks[0],
                &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
            );
            check(
                &mut decoder,
                blocks[1],
                &[
                    ":method: GET",
                    ":scheme: http",
                    ":path: /",
                    ":authority: www.example.com",
                    "cache-control: no-cache",
                ],
            );
            check(
                &mut decoder,
                blocks[2],
                &[
                    ":method: GET",
                    ":scheme: https",
                    ":path: /index.html",
                    ":authority: www.example.com",
                    "custom-key: custom-value",
                ],
            );
            assert_eq!(
                table(&decoder),
                ["custom-key: custom-value", "cache-control: no-cache", ":authority: www.example.com"]
            );
        }
    }

    // RFC 7541 C.5, C.6

    #[test]
    fn responses_push_old_entries_out() {
        let plain = [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
        ];
        let coded = [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ];
        for blocks in [plain, coded] {
            let mut decoder = Decoder::new();
            // The examples have a table of 256 bytes.
            decoder.table.resize(256);
            check(
                &mut decoder,
                blocks[0],
                &[
                    ":status: 302",
                    "cache-control: private",
                    "date: Mon, 21 Oct 2013 20:13:21 GMT",
                    "location: https://www.example.com",
                ],
            );
            check(
                &mut decoder,
                blocks[1],
                &[
                    ":status: 307",
                    "cache-control: private",
                    "date: Mon, 21 Oct 2013 20:13:21 GMT",
                    "location: https://www.example.com",
                ],
            );
            assert_eq!(
                table(&decoder),
                [
                    ":status: 307",
                    "location: https://www.example.com",
                    "date: Mon, 21 Oct 2013 20:13:21 GMT",
                    "cache-control: private"
                ]
            );
            let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
            check(
                &mut decoder,
                blocks[2],
                &[
                    ":status: 200",
                    "cache-control: private",
                    "date: Mon, 21 Oct 2013 20:13:22 GMT",
                    "location: https://www.example.com",
                    "content-encoding: gzip",
                    cookie,
                ],
            );
            assert_eq!(
                table(&decoder),
                [cookie, "content-encoding: gzip", "date: Mon, 21 Oct 2013 20:13:22 GMT"]
            );
        }
    }

    // RFC 7541 §4.2, §4.4, §5, §6

    #[test]
    fn integers_are_as_the_examples_have_them() {
        for (hex, prefix_bits, value) in [("0a", 5, 10), ("1f9a0a", 5, 1337), ("2a", 8, 42), ("1f00", 5, 31)]
        {
            let bytes = bytes(hex);
            let mut rest = &bytes[..];
            assert_eq!((integer(&mut rest, prefix_bits), rest), (Ok(value), &b""[..]), "{hex}");
        }
    }

    #[test]
    fn integers_end_and_are_not_too_large() {
        check_refused("ff");
        check_refused("ff80");
        check_refused("ffffffffffffffffff");
        check_refused("ff808080808000");
        check_refused("ff ffff ffff 7f");
    }

    #[test]
    fn strings_are_not_longer_than_their_block() {
        check_refused("40");
        check_refused("4001");
        check_refused("4001 61");
        check_refused("4001 6105 6161");
        check_refused("407f ffff ff7f");
    }

    #[test]
    fn indices_are_of_entries_that_are_there() {
        check_refused("80");
        check_refused("be");
        check_refused("ffff 7f");
        check_refused("7f00 0161");
    }

    #[test]
    fn the_size_changes_before_the_first_field_only_and_not_beyond_what_was_offered() {
        let mut decoder = Decoder::new();
        check(&mut decoder, "4001 6101 62", &["a: b"]);
        check(&mut decoder, "20 3fe11f 82", &[":method: GET"]);
        assert_eq!((table(&decoder), decoder.table.size_max()), (vec![], 4096));
        check(&mut decoder, "3fe11f", &[]);
        check_refused("82 20");
        check_refused("3fe21f");
    }

    #[test]
    fn an_entry_may_push_out_the_one_that_names_it() {
        let mut decoder = Decoder::new();
        decoder.table.resize(70);
        check(&mut decoder, "400a 6375 7374 6f6d 2d6b 6579 0161", &["custom-key: a"]);
        check(&mut decoder, "7e02 6262", &["custom-key: bb"]);
        assert_eq!(table(&decoder), ["custom-key: bb"]);
    }

    #[test]
    fn a_value_that_may_not_stand_in_a_message_is_marked_also_when_it_comes_again() {
        let mut decoder = Decoder::new();
        let mut marks = Vec::new();
        for hex in ["4001 6103 620a 63", "be", "4001 6103 6220 63", "be", "4001 6102 6220", "4001 6100"] {
            assert_eq!(decoder.decode(&bytes(hex), |field| marks.push(field.clean)), Ok(()), "{hex}");
        }
        assert_eq!(marks, [false, false, true, true, false, true]);
    }
}
