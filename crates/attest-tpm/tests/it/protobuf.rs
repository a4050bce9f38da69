//! Fields of a protobuf message, as far as recorded evidence uses them: numbers and bytes.

/// One field, by its number.
pub(crate) enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
}

impl<'a> Field<'a> {
    pub(crate) fn bytes_of(&self, number: u64) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(at, bytes) if *at == number => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn number_of(&self, number: u64) -> Option<u64> {
        match self {
            Self::Number(at, value) if *at == number => Some(*value),
            _ => None,
        }
    }
}

pub(crate) fn fields(mut message: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let value = varint(&mut message);
        fields.push(match key & 7 {
            0 => Field::Number(key >> 3, value),
            2 => {
                let (field, rest) = message.split_at(value as usize);
                message = rest;
                Field::Bytes(key >> 3, field)
            }
            other => panic!("wire type {other}"),
        });
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}
