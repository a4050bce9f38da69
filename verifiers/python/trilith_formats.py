"""How Trilith's own forms are read: JSON and records, the container of a pack, the lineage of a
ledger, trust files. The shapes of all JSON stand in record_shapes.txt."""
import json, os, re, tomllib
from collections import namedtuple

from c2sp import (
    NONCHARACTER, U64, check, decimal, inside, open_checkpoint, parse_key, parse_policy, parse_tile,
    sha256, unbase64,
)

MAX_RECORD, MAX_DEPTH, MAX_KEYS, MAX_LINKS = 16 << 10, 16, 512, 256
MAX_TABLE, MAX_LINE = 64 << 20, 4096

def table(name):
    """The lines `name: words` of a file beside this one."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    with open(path, encoding="utf-8") as file:
        return re.findall("^([^#:\n]+): (.*)$", file.read(), re.MULTILINE)

# JSON, in one spelling.

SHAPES = {name: {field.split("=")[0].rstrip("?"): ("?=" in field, field.split("=")[1])
                 for field in fields.split()} for name, fields in table("record_shapes.txt")}
is_text = lambda value: isinstance(value, str)
is_plain = lambda value: is_text(value) and not re.search(r'["\\\x00-\x1f]', value)
is_digest = lambda value: is_text(value) and re.fullmatch("[0-9a-f]{64}", value) is not None
is_object = lambda value: isinstance(value, dict)
below = lambda limit: lambda value: type(value) is int and 0 <= value < limit
SCALARS = {
    "s": is_text, "p": is_plain, "h": is_digest, "o": is_object,
    "t": lambda value: isinstance(value, bool), "d": lambda value: decimal(value) is not None,
    "n": below(U64 * U64), "w": below(U64), "u": below(2**32),
    "b": lambda value: unbase64(value) is not None, "g": lambda value: bool(unbase64(value, 32)),
    "e": lambda value: is_object(value) and value and all(map(is_plain, value.values())),
    "v": lambda value: isinstance(value, (bool, int, str)) or fits(value, "[s]"),
}

def fits(value, kind, exact=True):
    """True if JSON has a shape: `exact` in the one form that is written, else in any order."""
    if kind.endswith("|null"):
        return value is None or fits(value, kind[:-5], exact)
    if "/" in kind or kind in SCALARS:
        return value in kind.split("/") if "/" in kind else SCALARS[kind](value)
    if kind[0] == "[":
        return isinstance(value, list) and all(fits(item, kind[1:-1], exact) for item in value)
    if not is_object(value):
        return False
    if kind[0] == "{":
        ordered = list(value) == sorted(value) or not exact
        return ordered and all(fits(item, kind[1:-1], exact) for item in value.values())
    for name, (optional, of) in SHAPES[kind].items():
        item = value.get(name)
        unset = name not in value or item is None and not exact and of[0] not in "[{"
        if not optional or not unset:
            empty = exact and optional and item in ([], {})
            if name not in value or empty or not fits(item, of, exact):
                return False
    names = [name for name in SHAPES[kind] if name in value]
    return names == list(value) if exact else len(names) == len(value)

def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
def distinct(pairs):
    check(len(dict(pairs)) == len(pairs) <= MAX_KEYS)
    return dict(pairs)
def integer(digits):
    check(re.fullmatch("-?[0-9]{1,16}", digits) and abs(int(digits)) < 2**53)
    return int(digits)
def load(text):
    number = {"parse_int": integer, "parse_float": integer, "parse_constant": integer}
    return json.loads(text, object_pairs_hook=distinct, **number)
def depth(value):
    inner = value.values() if is_object(value) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)

# `estate` is the place of the estate's version in the server's ledger.
Record = namedtuple("Record", "kind origin seq actor wall estate body")

def parse_record(data):
    """Reads a record. A second spelling shows when what was read is written again."""
    check(len(data) <= MAX_RECORD, "LEDGER-RECORD-SIZE")
    with inside("", "LEDGER-RECORD-ENVELOPE"):
        text = data.decode()
        kind = re.match(r'\{"v":1,"type":"([^"\\\x00-\x1f]*)"', text)[1]
        known = kind in SHAPES and kind[0].islower() or NONCHARACTER.search(kind)
        value = load(text) if known else None
        good = not known or compact(value) == text and fits(value, "Envelope")
        check(good and not NONCHARACTER.search(text) and depth(value and value["body"]) < MAX_DEPTH)
    check(known, "LEDGER-RECORD-TYPE")
    estate = int(value["estate"]["index"]) if "estate" in value else None
    seq, wall = int(value["seq"]), int(value["time"]["wall"])
    return Record(kind, value["origin"], seq, value["actor"], wall, estate, value["body"])

# The container.

digest = lambda text: text if is_digest(text) else None
PARTS = {"question.json": (), "checkpoint": (decimal,), "record": (decimal, decimal),
         "tiles": (decimal, parse_tile), "blob": (digest,), "certificate": (digest,),
         "extends": (decimal, decimal)}

def section_key(name):
    """What sections are sorted by: kind, number or digest, and more; None if none is called so."""
    kind, *rest = name.split("/", 2)
    if kind not in PARTS or len(PARTS[kind]) != len(rest):
        return None
    key = [read(text) for read, text in zip(PARTS[kind], rest)]
    return None if None in key else (list(PARTS).index(kind), *key)

def words(line):
    check(len(line) < MAX_LINE)
    first, second, third = line.decode().split(" ")
    return first, second, third

def read_pack(pack):
    """The sections by name, in order. Every byte is under a digest that was checked, or is one."""
    with inside("the header", "PACK-FORMAT"):
        begin = pack.index(b"\n", 0, MAX_LINE) + 1
        magic, length, of_table = words(pack[: begin - 1])
        start = begin + decimal(length)
        check(magic == "trilith-pack/1" and decimal(length) <= MAX_TABLE and start <= len(pack))
    table, sections, last = pack[begin:start], {}, (-1,)
    check(sha256(table).hex() == of_table, "PACK-DIGEST", "the table of sections")
    for line in re.findall(b"[^\n]*\n|[^\n]+", table):
        with inside("the table of sections", "PACK-FORMAT"):
            size, of_section, name = words(line[:-1])
            end, key = start + decimal(size), section_key(name)
            check(key > last and is_digest(of_section) and line.endswith(b"\n"))
        check(end <= len(pack), "PACK-FORMAT", name)
        content, start, last = pack[start:end], end, key
        check(sha256(content).hex() == of_section, "PACK-DIGEST", name)
        sections[name] = content
    check(start == len(pack), "PACK-FORMAT", "the last section")
    return sections

# How a ledger goes on as another log: links that the keys of both have signed.

def place(origin):
    """The first log of the lineage, and which this one is: `example.org/server@2` is the second."""
    first, _, number = origin.rpartition("@")
    return (first, int(number)) if first and (decimal(number) or 0) > 1 else (origin, 1)

def holds(log, origin):
    """Whether a record of `origin` may stand in `log`: its own, or one of a log before it."""
    (ours, number), (theirs, earlier) = place(log), place(origin)
    return log == origin or ours == theirs and earlier < number

def is_link(body, what="ledger"):
    return fits(body, "key-rotation", exact=False) and body["what"] == what

def open_link(body, what="ledger"):
    """The two keys, and the tree that both logs have: its size and root."""
    with inside("", "LEDGER-LINK-FORMAT"):
        check(is_link(body, what))
        context, before, after, size, root, end = body["statement"].split("\n")
        keys = old, new = parse_key(before), parse_key(after)
        (ours, number), (theirs, later) = place(old.origin), place(new.origin)
        check((context, end) == ("trilith-ledger-succession-v1", "") and old.raw != new.raw)
        check(ours == theirs and number < later)
        check([unbase64(body["old"]), unbase64(body["new"])] == [key.spki for key in keys])
        signatures = [unbase64(body["old_signature"]), unbase64(body["new_signature"])]
        tree = decimal(size), unbase64(root, 32)
        check(None not in (*signatures, *tree))
    with inside("", "LEDGER-LINK-SIGNATURE"):
        for key, signature in zip(keys, signatures):
            key.verify(body["statement"].encode(), signature)
    return old, new, tree

def follow(key, links, known=()):
    """The keys of the logs of the lineage of `key`, oldest first, and of each but the last the
    tree that its link names, size and root. `known` are the links of the trust file."""
    check(len(links) <= MAX_LINKS, "LEDGER-LINK-FORMAT")
    links = [*known, *links]
    while before := [old for old, new, _ in links if new == key]:
        key = before[0]
    keys, trees = [key], []
    while after := {link for link in links if link[0] == keys[-1]}:
        check(len(after) == 1, "LEDGER-LINEAGE-FORKED")
        (_, key, tree), = after
        keys, trees = keys + [key], trees + [tree]
    return keys, trees

def ended(trees):
    """What is left of a log by its own link and those behind it: the first of the smallest."""
    return min(trees, key=lambda tree: tree[0], default=None)

def open_head(note, keys, trees, whole=True):
    """What the newest log signed; or of an earlier one the whole tree that its link names: what a
    key that was replaced signed below that may be of any time, unless others show it."""
    at = [key.origin for key in keys[:-1]] + [note.split("\n")[0]]
    at = at.index(at[-1])
    head, lines = open_checkpoint(note, keys[at])
    size, root = ended(trees[at:][::-1]) or head[1:]
    check(head.size <= size, "LEDGER-CHECKPOINT-ENDED")
    check(head.size == size or not whole, "LEDGER-CHECKPOINT-FORMER")
    check(head.size < size or head.root == root, "LEDGER-CHECKPOINT-END-FORKED")
    return head, lines

def read_trust(data):
    """The reader's own file, never the pack's: JSON as `trilith trust` prints it, or such TOML."""
    with inside("the trust file", "VERIFY-TRUST-FILE"):
        text = data.decode()
        is_json = text.lstrip()[:1] == "{"
        found = load(text) if is_json else tomllib.loads(text.removeprefix("\ufeff"))
        check(fits(found, "Trust", exact=False))
        domain, key = found["trust_domain"], parse_key(found["ledger_key"])
        policy = None if found.get("policy") is None else parse_policy(found["policy"])
        check(re.fullmatch("[a-z0-9._-]{1,255}", domain) and key.origin.startswith(domain + "/"))
        check(not policy or not policy.logs or key in policy.logs)
        links = list(map(open_link, found.get("lineage", [])))
        keys, _ = follow(key, links)
        check(keys[-1] == key)
        links = [link for link in links if link[0] in keys and link[1] in keys]
        return domain, key, policy, list(map(unbase64, found.get("x509_authorities", []))), links
