//! JSON with an element a line down to single values, which stand on one line each.

use super::ReferenceFile;
use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};
use std::io;

/// The file, its generations, one of them, its artefacts, one of them, its files.
const PRETTY: usize = 6;

pub(super) fn text(file: &ReferenceFile) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Rows::default());
    // INVARIANT: the type has text keys only, and writing to a Vec does not fail.
    let written = file.serialize(&mut serializer).is_ok();
    bytes.push(b'\n');
    if written {
        String::from_utf8(bytes).unwrap_or_default()
    } else {
        String::new()
    }
}

#[derive(Default)]
struct Rows {
    pretty: PrettyFormatter<'static>,
    depth: usize,
}

/// Hands each call to the one formatter or the other.
macro_rules! by_depth {
    ($self:ident, $call:ident, $($argument:expr),*) => {
        if $self.depth <= PRETTY {
            $self.pretty.$call($($argument),*)
        } else {
            CompactFormatter.$call($($argument),*)
        }
    };
}

impl Formatter for Rows {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        by_depth!(self, begin_array, writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let done = by_depth!(self, end_array, writer);
        self.depth = self.depth.saturating_sub(1);
        done
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        by_depth!(self, begin_array_value, writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        by_depth!(self, end_array_value, writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        by_depth!(self, begin_object, writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let done = by_depth!(self, end_object, writer);
        self.depth = self.depth.saturating_sub(1);
        done
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        by_depth!(self, begin_object_key, writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        by_depth!(self, begin_object_value, writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        by_depth!(self, end_object_value, writer)
    }
}
