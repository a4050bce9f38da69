//! Thrift's compact protocol, as much as Parquet's metadata needs: structs of numbers, texts, lists and structs.

use crate::sink::varint;

const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// A struct whose fields are written in ascending order.
pub(super) struct Struct {
    bytes: Vec<u8>,
    last: u8,
}

impl Struct {
    pub(super) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            last: 0,
        }
    }

    /// The fields and what ends them.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }

    /// Ids of fields ascend by less than 16, so the short form does.
    fn field(&mut self, id: u8, kind: u8) {
        self.bytes.push((id - self.last) << 4 | kind);
        self.last = id;
    }

    pub(super) fn i32(mut self, id: u8, value: i32) -> Self {
        self.field(id, I32);
        varint::signed(&mut self.bytes, value.into());
        self
    }

    pub(super) fn i64(mut self, id: u8, value: i64) -> Self {
        self.field(id, I64);
        varint::signed(&mut self.bytes, value);
        self
    }

    pub(super) fn text(mut self, id: u8, text: &str) -> Self {
        self.field(id, BINARY);
        self.binary(text);
        self
    }

    pub(super) fn structure(mut self, id: u8, value: Self) -> Self {
        self.field(id, STRUCT);
        self.bytes.extend(value.end());
        self
    }

    pub(super) fn structures(mut self, id: u8, values: Vec<Self>) -> Self {
        self.list(id, STRUCT, values.len());
        for value in values {
            self.bytes.extend(value.end());
        }
        self
    }

    pub(super) fn numbers(mut self, id: u8, values: &[i32]) -> Self {
        self.list(id, I32, values.len());
        for value in values {
            varint::signed(&mut self.bytes, (*value).into());
        }
        self
    }

    pub(super) fn texts(mut self, id: u8, values: &[&str]) -> Self {
        self.list(id, BINARY, values.len());
        for value in values {
            self.binary(value);
        }
        self
    }

    /// Lists here have less than 15 elements, so the short form does.
    fn list(&mut self, id: u8, kind: u8, length: usize) {
        self.field(id, LIST);
        let length = u8::try_from(length).unwrap_or_default();
        self.bytes.push(length << 4 | kind);
    }

    fn binary(&mut self, text: &str) {
        varint::unsigned(&mut self.bytes, text.len() as u64);
        self.bytes.extend(text.as_bytes());
    }
}
