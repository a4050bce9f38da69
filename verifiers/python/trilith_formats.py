"""How a pack's container and its records are read, for trilith_verify.py. A record is strict I-JSON in
one spelling: an envelope, and a body by type, whose forms stand in record_shapes.txt beside this file. What does not
hold is raised as a Failure with its code.
"""
import datetime, json, os, re
from collections import namedtuple

from c2sp import (
    ED25519_NOTE, U64, Failure, Key, decimal, has_noncharacter, is_origin, open_checkpoint, parse_tile, sha256,
    unbase64,
)

MAX_RECORD, MAX_DEPTH, MAX_KEYS, MAX_TABLE, MAX_LINE = 16 << 10, 16, 512, 64 << 20, 4096

def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "record_shapes.txt"), encoding="utf-8") as file:
    NAMED = re.findall("^([?A-Za-z-]+): (.*)$", file.read(), re.MULTILINE)
SHAPES = {name: {field.split("=")[0].rstrip("?"): ("?=" in field, field.split("=")[1]) for field in fields.split()}
          for name, fields in NAMED}
is_text = lambda value: isinstance(value, str)
is_number = lambda value: isinstance(value, int) and not isinstance(value, bool)
SCALARS = {
    "s": is_text,
    "t": lambda value: isinstance(value, bool),
    "d": lambda value: decimal(value) is not None,
    "n": lambda value: is_number(value) and value >= 0,
    "w": lambda value: is_number(value) and 0 <= value < U64,
    "u": lambda value: is_number(value) and 0 <= value < 2**32,
    "h": lambda value: is_text(value) and re.fullmatch("[0-9a-f]{64}", value) is not None,
    "g": lambda value: len(unbase64(value) or b"") == 32,
    "b": lambda value: unbase64(value) is not None,
    "v": lambda value: isinstance(value, (bool, int, str)) or isinstance(value, list) and all(map(is_text, value)),
}

def fits(value, kind, exact=True):
    """True if a body has the shape of its type: `exact` in the one form that is written, else in any order."""
    if kind.endswith("|null"):
        return value is None or fits(value, kind[:-5], exact)
    if kind[0] == "[":
        return isinstance(value, list) and all(fits(item, kind[1:-1], exact) for item in value)
    if kind[0] == "{":
        ordered = isinstance(value, dict) and (list(value) == sorted(value) or not exact)
        return ordered and all(fits(item, kind[1:-1], exact) for item in value.values())
    if kind in SCALARS or "/" in kind:
        return value in kind.split("/") if "/" in kind else SCALARS[kind](value)
    fields = SHAPES[kind]
    if not isinstance(value, dict) or not set(value) <= set(fields):
        return False
    for name, (optional, of) in fields.items():
        unset = name not in value or value[name] is None and not exact and of[0] not in "[{"
        if not (optional and unset or name in value and fits(value[name], of, exact)):
            return False
        if exact and optional and value.get(name) in ([], {}):
            return False
    return not exact or list(value) == [name for name in fields if name in value]

# `estate` is the place of the estate's version in the server's ledger.
Record = namedtuple("Record", "kind origin seq actor wall estate body")

def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)

def distinct(pairs):
    if len(dict(pairs)) != len(pairs) or len(pairs) > MAX_KEYS:
        raise ValueError("a key stands twice in one object, or there are too many")
    return dict(pairs)

def integer(digits):
    if not re.fullmatch("-?[0-9]{1,16}", digits) or abs(int(digits)) >= 2**53:
        raise ValueError("a number that is no integer below 2^53")
    return int(digits)

def parse_record(data, where=""):
    """Reads one record. Whatever has a second spelling shows when it is written again and compared."""
    if len(data) > MAX_RECORD:
        raise Failure("LEDGER-RECORD-SIZE", where, f"a record has at most {MAX_RECORD} bytes")
    try:
        text = data.decode()
        kind = re.match(r'\{"v":1,"type":"([^"\\\x00-\x1f]*)"', text)[1]
        if not (kind in SHAPES and kind[0].islower()) and not has_noncharacter(kind):
            raise Failure("LEDGER-RECORD-TYPE", where, f"the record type {kind!r} is not known")
        number = {"parse_int": integer, "parse_float": integer, "parse_constant": integer}
        value = json.loads(text, object_pairs_hook=distinct, **number)
        fields = ["v", "type", "origin", "seq", "actor", "auth", "time"]
        fields += [field for field in ("estate", "engines", "conn") if field in value] + ["body"]
        estate, time = value.get("estate", {"version": "A" * 43 + "=", "index": "0"}), value["time"]
        engines, conn = value.get("engines", {"": ""}), value.get("conn", {"id": "", "counter": "0"})
        plain = [value["origin"], value["actor"], value["auth"], conn["id"], *engines.values()]
        numbers = [value["seq"], time["wall"], time["mono"], conn["counter"], estate["index"]]
        if not (
            compact(value) == text and list(value) == fields and not has_noncharacter(text)
            and all(is_text(item) and not re.search(r'["\\\x00-\x1f]', item) for item in plain)
            and None not in map(decimal, numbers) and list(time) == ["wall", "mono"] and engines != {}
            and list(estate) == ["version", "index"] and SCALARS["g"](estate["version"])
            and list(conn) == ["id", "counter"] and isinstance(value["body"], dict) and depth(value["body"]) < MAX_DEPTH
        ):
            raise ValueError("another form than the one that is written")
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise Failure("LEDGER-RECORD-ENVELOPE", where, "not a record envelope of version 1") from error
    place = int(estate["index"]) if "estate" in value else None
    return Record(kind, value["origin"], int(value["seq"]), value["actor"], int(time["wall"]), place, value["body"])

# The container.

QUESTION, CHECKPOINT, RECORD, TILES, BLOB, CERTIFICATE = range(6)

def section_key(name):
    """What sections are sorted by: kind, number or digest, and more; None if none is called so."""
    kind, _, rest = name.partition("/")
    number, _, more = rest.partition("/")
    if kind == "checkpoint" and decimal(rest) is not None:
        return CHECKPOINT, decimal(rest)
    if kind == "record" and None not in (decimal(number), decimal(more)):
        return RECORD, decimal(number), decimal(more)
    if kind == "tiles" and decimal(number) is not None and parse_tile(more):
        return TILES, decimal(number), *parse_tile(more)
    if kind in ("blob", "certificate") and SCALARS["h"](rest):
        return BLOB if kind == "blob" else CERTIFICATE, rest
    return (QUESTION, "") if name == "question.json" else None

def line_at(data, at):
    """The three words of the line that begins here, and where the next one begins; None and 0 if it has not three."""
    end = data.find(b"\n", at, at + MAX_LINE)
    try:
        words = data[at : max(end, at)].decode().split(" ")
    except UnicodeDecodeError:
        words = []
    return (words, end + 1) if len(words) == 3 and end >= 0 else ((None,) * 3, 0)

def read_pack(pack):
    """The sections by name, in order. Every byte is under a digest that was checked, or is one."""
    (magic, length, digest), at = line_at(pack, 0)
    length = decimal(length)
    if magic != "trilith-pack/1" or length is None or length > MAX_TABLE or at + length > len(pack):
        raise Failure("PACK-FORMAT", "the header", "it is no pack of version 1")
    table, sections, last, start, at = pack[at : at + length], {}, (-1,), at + length, 0
    if sha256(table).hex() != digest:
        raise Failure("PACK-DIGEST", "the table of sections", "it does not have the digest of the header")
    while at < len(table):
        (size, digest, name), at = line_at(table, at)
        key, size = section_key(name or ""), decimal(size)
        if key is None or size is None or not SCALARS["h"](digest) or key <= last:
            raise Failure("PACK-FORMAT", "the table of sections", "a line names no section, or not in order")
        last, start, content = key, start + size, pack[start : start + size]
        if start > len(pack):
            raise Failure("PACK-FORMAT", name, "the pack ends before it does")
        if sha256(content).hex() != digest:
            raise Failure("PACK-DIGEST", name, "it does not have the digest of the table")
        sections[name] = content
    if start != len(pack):
        raise Failure("PACK-FORMAT", "the last section", f"{len(pack) - start} bytes follow it")
    return sections

def check_misbehaviour(body, sections, where):
    """What a record says of two notes is what they show; where one of them is not in the pack, that is a doubt."""
    notes = [sections.get(f"blob/{body[which]['note']['sha256']}") for which in ("first", "second")]
    if None in notes:
        return
    spki, heads = unbase64(body["ledger_key"]), []
    key = Key(body["origin"], ED25519_NOTE, spki[-32:])
    try:
        for which, note in zip(("first", "second"), notes):
            heads.append(open_checkpoint(note.decode(), key, where)[0])
            said = int(body[which]["size"]), unbase64(body[which]["root"])
            heads += [] if said == heads[-1][1:] and key.spki == spki and is_origin(key.origin) else [None, None]
    except (Failure, UnicodeDecodeError):
        heads = []
    kind = None
    if len(heads) == 2 and heads[0] != heads[1]:
        more = heads[1].size - heads[0].size
        kind = "fork" if more == 0 else "rollback" if more < 0 else "unproven" if heads[0].size else None
    if (kind, kind == "fork") != (body["kind"], body["proved"]):
        raise Failure("PACK-MISBEHAVIOUR", where, "the two notes do not show what the record says")

def time(millis):
    """RFC 3339, in UTC; the number itself where no calendar reaches."""
    if millis is None:
        return None
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=millis)
        return moment.isoformat(timespec="milliseconds") + "Z"
    except OverflowError:
        return str(millis)
