//! Random messages of the schema, from a seed: as an encoder writes them, and as a parser must accept them all the same.

use conclave_core::wire::v2::json::{Field, Kind, Message};

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    /// The bytes of a message in canonical form.
    pub(crate) fn message(&mut self, message: &Message) -> Vec<u8> {
        let chosen = self.next();
        let oneof = self.below(message.fields.len().max(1));
        let mut out = Vec::new();
        for (index, field) in message.fields.iter().enumerate() {
            let wanted = match field.oneof {
                None => chosen >> (index % 64) & 1 == 1,
                // Of each oneof, the first member at or behind a random place.
                Some(_) if index < oneof => false,
                Some(_) => message.fields[oneof..index].iter().all(|it| it.oneof != field.oneof),
            };
            if !wanted {
                continue;
            }
            if !field.repeated {
                self.field(field, field.oneof.is_none(), &mut out);
            } else if is_varint(field.kind) {
                let packed: Vec<u8> =
                    (0..=self.below(4)).flat_map(|_| bytes(self.number(field.kind))).collect();
                delimited(field.number, &packed, &mut out);
            } else {
                (0..self.below(4)).for_each(|_| self.field(field, false, &mut out));
            }
        }
        out
    }

    /// Appends one value of a field. Leaves out the default if it means no value.
    fn field(&mut self, field: &Field, omit_default: bool, out: &mut Vec<u8>) {
        let content = match field.kind {
            Kind::Message(message) => self.message(message),
            Kind::String => self.text().into_bytes(),
            Kind::Bytes => (0..self.below(8)).map(|_| self.next() as u8).collect(),
            kind => {
                let number = self.number(kind);
                if number != 0 || !omit_default {
                    out.extend(bytes(u64::from(field.number) << 3));
                    out.extend(bytes(number));
                }
                return;
            }
        };
        if !content.is_empty() || !omit_default || matches!(field.kind, Kind::Message(_)) {
            delimited(field.number, &content, out);
        }
    }

    /// The bytes of a message as odd encoders may write it: fields in any order, more than once, of other types than
    /// the schema's or unknown, lists packed or not, numbers longer than they must be.
    pub(crate) fn odd_message(&mut self, message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..self.below(6) {
            if message.fields.is_empty() || self.one_in(8) {
                let number = 1 + self.below(40) as u32;
                self.unknown(message.fields.iter().all(|it| it.number != number), number, &mut out);
                continue;
            }
            let field = &message.fields[self.below(message.fields.len())];
            match field.kind {
                Kind::Message(inner) => {
                    let inner = self.odd_message(inner);
                    delimited(field.number, &inner, &mut out);
                }
                kind if field.repeated && is_varint(kind) && self.one_in(2) => {
                    let packed: Vec<u8> = (0..self.below(4)).flat_map(|_| self.long_varint()).collect();
                    delimited(field.number, &packed, &mut out);
                }
                kind if is_varint(kind) => {
                    out.extend(bytes(u64::from(field.number) << 3));
                    out.extend(self.long_varint());
                }
                _ => self.field(field, false, &mut out),
            }
        }
        out
    }

    /// A field that the schema does not have, by its number or by its type.
    fn unknown(&mut self, any_type: bool, number: u32, out: &mut Vec<u8>) {
        let tag = |wire_type: u64| bytes(u64::from(number) << 3 | wire_type);
        match self.below(5) {
            0 if any_type => out.extend([tag(0), self.long_varint()].concat()),
            1 if any_type => delimited(number, b"\xff\xff", out),
            2 => out.extend([tag(3), tag(0), vec![1], tag(4)].concat()),
            3 => out.extend([tag(1), vec![7; 8]].concat()),
            _ => out.extend([tag(5), vec![7; 4]].concat()),
        }
    }

    fn long_varint(&mut self) -> Vec<u8> {
        let shift = self.below(64);
        let mut out = bytes(self.next() >> shift);
        if out.len() < 9 && self.one_in(4) {
            *out.last_mut().expect("a byte") |= 0x80;
            out.push(0);
        }
        out
    }

    fn number(&mut self, kind: Kind) -> u64 {
        let shift = self.below(64);
        let number = self.next() >> shift;
        match kind {
            Kind::Bool => number & 1,
            Kind::Uint32 => u64::from(number as u32),
            Kind::Enum(names) if !self.one_in(4) => names.values[self.below(names.values.len())].0 as u64,
            Kind::Enum(_) => number as i32 as u64,
            _ if self.one_in(8) => u64::MAX << shift,
            _ => number,
        }
    }

    fn text(&mut self) -> String {
        const CHARS: [char; 16] = [
            'a', 'Z', '0', ' ', '"', '\\', '/', '\n', '\0', '\u{1f}', '\u{7f}', 'ü', '世', '\u{2028}', '🦀',
            '\u{ffff}',
        ];
        (0..self.below(12)).map(|_| CHARS[self.below(CHARS.len())]).collect()
    }
}

fn is_varint(kind: Kind) -> bool {
    !matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_))
}

fn delimited(number: u32, content: &[u8], out: &mut Vec<u8>) {
    out.extend(bytes(u64::from(number) << 3 | 2));
    out.extend(bytes(content.len() as u64));
    out.extend_from_slice(content);
}

/// A varint.
fn bytes(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}
