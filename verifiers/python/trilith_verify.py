#!/usr/bin/env python3
"""Verifies a Trilith pack: a second reading of the format, which shares no code with `trilith verify`.

    python3 trilith_verify.py PACK --trust FILE [--json]

It opens these two files, asks no network, and needs Python 3.11 and `cryptography`. Trust comes from FILE alone:
the trust domain and the Ed25519 key of the server's ledger. The first thing that fails is named. In this order:
 1. the container: header, table, order, digest and end of each section;
 2. the question, which has one spelling and which nothing vouches for;
 3. the server's checkpoint: a C2SP signed note by the trusted key for its own origin, and no other line;
 4. the records of the server's ledger: RFC 6962 inclusion, one spelling of strict I-JSON, envelope, shape of the
    body by its type; a `begin` record names the trusted domain and key;
 5. the anchors among them: key, signed note, size and root of each gateway's ledger, and one key a ledger;
 6. each gateway's checkpoint, which an anchor states to the byte, and the records under it as in 4;
 7. tiles and entry bundles: all of a ledger or none, from each record up to the checkpoint's root;
 8. completeness: the answers are found again, among all entries where those are there. None is missing, and no
    record is there that neither answers nor is rested on;
 9. blobs: a record names each, by its digest.
NOT checked, here or by `trilith verify`: whether a decision follows from its estate (no Cedar policy is evaluated
again) or a verdict from its evidence (no quote, event log or certificate is judged again); whether others were
shown another history, or a newer one (the pack has one checkpoint a ledger, and no cosignature is read).
A pack with certificates is refused.

Exit: 0 verified, which is not yet complete: read the first line, or "complete"; 1 a file cannot be read, or the
trust file is none; 2 usage; 3 the pack does not verify. The codes are those of docs/reference/findings.md.
"""
import argparse, base64, collections, datetime, hashlib, json, os, re, stat, sys, tomllib
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_PACK, MAX_TRUST, MAX_TABLE, MAX_LINE, MAX_QUESTION = 1 << 30, 1 << 20, 64 << 20, 4096, 4096
MAX_NOTE, MAX_SIGNATURES, MAX_PROOF, MAX_RECORD, MAX_DEPTH, MAX_KEYS = 64 << 10, 64, 64, 16 << 10, 16, 512
U64 = 2**64

class Failure(Exception):
    """The first thing that does not hold: code, section, and the place of the record that is concerned, if one is."""
    def __init__(self, code, where, message, record=None):
        super().__init__(message)
        key = section_key(where) or (0,)
        place = key[2] if key[0] == RECORD else Tile(*key[2:]).first_record() if key[0] == TILES else None
        self.code, self.where, self.message, self.record = code, where, message, place if record is None else record

# Scalars, each in its one spelling.

def decimal(text):
    good = isinstance(text, str) and re.fullmatch("0|[1-9][0-9]{0,19}", text) and int(text) < U64
    return int(text) if good else None

def unbase64(text):
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else None
        return data if data is not None and base64.b64encode(data).decode() == text else None
    except ValueError:
        return None

def sha256(data):
    return hashlib.sha256(data).digest()

def has_noncharacter(text):
    return not text.isascii() and any(0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE for c in text)

def is_name(text):
    return re.fullmatch(r'[^\s+"\\\x00-\x1f\x7f]+', text) is not None and not has_noncharacter(text)

def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

def distinct(pairs):
    if len(dict(pairs)) != len(pairs) or len(pairs) > MAX_KEYS:
        raise ValueError("a key stands twice in one object, or there are too many")
    return dict(pairs)

# Keys, notes and checkpoints: c2sp.org/signed-note and c2sp.org/tlog-checkpoint.

class Key(collections.namedtuple("Key", "origin raw")):
    id = property(lambda self: sha256(self.origin.encode() + b"\n\x01" + self.raw)[:4])
    spki = property(lambda self: bytes.fromhex("302a300506032b6570032100") + self.raw)  # RFC 8410

Checkpoint = collections.namedtuple("Checkpoint", "origin size root")

def is_origin(name):
    return is_name(name) and len(name.encode()) <= 255

def parse_key(text):
    """A key as C2SP tools write it, `<origin>+<id>+<base64>`; None if it is none."""
    origin, id, encoded = (text.split("+", 2) + ["", ""])[:3]
    typed = unbase64(encoded) or b""
    key = Key(origin, typed[1:])
    return key if len(typed) == 33 and typed[0] == 1 and is_origin(origin) and key.id.hex() == id else None

def parse_note(note, where):
    """The text of a signed note, and its lines as (name, id, signature). No signature is checked here."""
    wrong = Failure("LEDGER-NOTE-FORMAT", where, "not a signed note: text, an empty line, signature lines")
    text, gap, lines = note.rpartition("\n\n")
    if len(note.encode()) > MAX_NOTE or re.search("[\x00-\x09\x0b-\x1f]", note) or not gap or lines[-1:] != "\n":
        raise wrong
    signatures = []
    for line in lines[:-1].split("\n"):
        dash, name, encoded = (line.split(" ", 2) + ["", ""])[:3]
        typed = unbase64(encoded) or b""
        if dash != "\u2014" or not is_name(name) or len(typed) < 5 or len(signatures) == MAX_SIGNATURES:
            raise wrong
        signatures.append((name, typed[:4], typed[4:]))
    return text + "\n", signatures

def open_checkpoint(note, key, where):
    """What `key` signed for its own ledger, and how many signature lines there are."""
    text, signatures = parse_note(note, where)
    ours = [signature for name, id, signature in signatures if (name, id) == (key.origin, key.id)]
    if not ours:
        raise Failure("LEDGER-NOTE-UNSIGNED", where, f"no signature by {key.origin}")
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(ours[0], text.encode())
    except (InvalidSignature, ValueError):
        ours = []
    if len(ours) != 1:
        raise Failure("LEDGER-NOTE-SIGNATURE", where, f"the signature by {key.origin} does not verify")
    lines = text[:-1].split("\n")
    size, root = (decimal(lines[1]), unbase64(lines[2]) or b"") if len(lines) == 3 else (None, b"")
    if size is None or len(root) != 32 or not is_origin(lines[0]):
        raise Failure("LEDGER-CHECKPOINT-FORMAT", where, "not a checkpoint: origin, size, root, each on its line")
    if lines[0] != key.origin:
        raise Failure("LEDGER-CHECKPOINT-ORIGIN", where, f"a checkpoint of {lines[0]}, expected one of {key.origin}")
    return Checkpoint(lines[0], size, root), len(signatures)

def read_trust(data):
    """The reader's own file, never the pack's: JSON as `trilith trust` prints it, or TOML with the same fields."""
    def check(good, what):
        if not good:
            raise Failure("VERIFY-TRUST-FILE", "the trust file", f"it is not a trust file: {what}")
    try:
        text = data.decode()
        found = json.loads(text, object_pairs_hook=distinct) if text.lstrip()[:1] == "{" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        check(False, error)
    roots, known = found.pop("x509_authorities", []), {"trust_domain", "ledger_key"}
    check(set(found) == known and all(map(is_text, found.values())), "fields are missing, unknown or no text")
    check(isinstance(roots, list) and all(unbase64(root) is not None for root in roots), "its x509_authorities")
    domain, key = found["trust_domain"], parse_key(found["ledger_key"])
    check(key, "its ledger_key is no <origin>+<id>+<base64 of an Ed25519 key>")
    check(re.fullmatch("[a-z0-9._-]{1,255}", domain), f"{domain!r} is no trust domain")
    check(key.origin.startswith(domain + "/"), f"its ledger key is of {key.origin}, not of the trust domain {domain}")
    return domain, key

# Records: an envelope, and a body by type. `field=type` in the order of the record; `field?` is left out when not
# set; `|null`; [list]; {map}, sorted; a/b: one of these words. s text, t truth, n number, u of 32 bits, w of 64, d of
# 64 in quotes, h SHA-256 in hex, g in base64, b base64, v the value of a fact.
SHAPES = {line.split(":")[0]: [tuple(field.split("=")) for field in line.split(":")[1].split()] for line in """\
begin: trust_domain=s ledger_key=b format=s
start: program=s version=s epoch=d size=d root=g
stop: reason=s
gap: cause=s from=n to=n lost=d|null detail=s
bundle: sequence=d x509_authorities=[b] jwt_authorities=[JwtAuthority] blob=Blob|null
key-rotation: what=s old=b|null new=b|null old_signature=b|null new_signature=b|null reason=s
estate-version: version=h blob=Blob parent=h|null author=s message=s proof_index=d|null floor=d
proof: version=h outcome=s invariants=[Invariant] blob=Blob|null millis=u approval_index?=d
verdict: node=s outcome=affirmed/refused facts_blob=Blob|null evidence=[Evidence] facts=[Fact] findings=[Finding] ar4si?=s
attested: node=s from=n to=n answers=d resets=u restarts=u pcrs=h entries=d|null estate=h counted?=Counted
join-refused: method=s peer=g|null findings=[Finding] count=d
issuance: kind=x509/jwt spiffe_id=s serial=s tbs=g issuer=g key=g not_before=n not_after=n node=s verdict=d \
evidence_time=n policies=[s] commit=g facts?={v} replaces?=s ar4si?=s
assume-refused: spiffe_id=s|null node=s verdict=d|null findings=[Finding] policies=[s] facts_blob=Blob|null count=d
token-created: token=h node=s pool=s expires=n
token-spent: token=h node=s key=h
node-state: node=s state=s generation=d renewal=h key=h verdict=d|null counted?=Counted
lock: node=s finding=Finding generation=d
readmit: node=s reason=s by=s generation=d
revocation: target=Target reason=s by=s
intent: session=s statement=s actions=[Action] decision=s policies=[s] coverage=complete/parsed-only/blind more_policies?=More
outcome: intent=d result=s sqlstate=s|null rows=d|null tag=s|null transaction?=s
decision: session=s statement=s actions=[Action] decision=s allow=t policies=[s] findings=[s] \
coverage=complete/parsed-only/blind more_policies?=More about?=About
session-start: session=s spiffe_id=s serial=s issuance=d|null resource=s role=s application=s
session-end: session=s reason=s detail=s operations=d
anchor: gateway=s origin=s ledger_key=b size=d root=g checkpoint=s
admin: principal=s action=s resource=s allow=t policies=[s] detail=s
snapshot: size=d root=g state=Blob format=s
retention: minimum_index=d snapshot=d policy=s by=s
recovery: old_size=d old_root=g old_checkpoint=s|null new_size=d new_root=g reason=s by=s obeyed=d|null
seal-approval: ring=s epoch=d label=s pcrs=[Pcr] policy=h policy_ref=h key=b signature=b
invariant-approval: version=h base=h|null base_index=d subject=Blob changes=u signatures=[AuthorSignature]
Blob: sha256=h length=d
JwtAuthority: kid=s spki=b
Invariant: id=s any_data=s today=s text?=h
Evidence: kind=s sha256=h length=d
Fact: name=s value=v source=s
Finding: code=s message=s expected?=s observed?=s next?=s
Counted: chip=h resets=u restarts=u clock=d firmware=d
Target: kind=identity/serial/machine value=s
Action: action=s resources=[s] more?=More
More: count=d sha256=h
About: spiffe_id=s issuance?=d stated?={v} claimed_on_behalf_of?=[s]
Pcr: index=u sha256=h
AuthorSignature: author=s key=b expires=n signature=b
Access: kind=s identity=s resource?=s newest?=w
Record: kind=s ledger=s index=w
Issuance: kind=s serial=s""".splitlines()}
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
    fields = {name.rstrip("?"): (name[-1] == "?", of) for name, of in SHAPES[kind]}
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
Record = collections.namedtuple("Record", "kind origin seq actor wall estate body")

def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)

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
        if not (kind in SHAPES and kind.islower()) and not has_noncharacter(kind):
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

# The Merkle tree (RFC 6962; RFC 9162, section 2.1.3.2) and its tiles (c2sp.org/tlog-tiles).

def leaf_hash(record):
    return sha256(b"\x00" + record)

def node_hash(left, right):
    return sha256(b"\x01" + left + right)

def perfect_root(hashes):
    """Root over hashes whose number is a power of two."""
    while len(hashes) > 1:
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2])]
    return hashes[0]

def check_inclusion(leaf, index, under, proof, where):
    if index >= under.size:
        raise Failure("LEDGER-PROOF-INDEX", where, f"the ledger has {under.size} records")
    node, last, found = index, under.size - 1, leaf
    for sibling in proof + [None]:
        if (sibling is None) != (last == 0):
            raise Failure("LEDGER-PROOF-LENGTH", where, "the proof is not as long as these sizes need")
        if sibling is not None:
            if node % 2 or node == last:
                found = node_hash(sibling, found)
                while node and node % 2 == 0:
                    node, last = node // 2, last // 2
            else:
                found = node_hash(found, sibling)
            node, last = node // 2, last // 2
    if found != under.root:
        raise Failure("LEDGER-PROOF-ROOT", where, "the proof leads to another root than the checkpoint's")

ENTRIES = 256  # as a level: behind all levels of hashes

class Tile(collections.namedtuple("Tile", "level index width")):
    def __str__(self):
        groups, rest = f"{self.index % 1000:03}", self.index // 1000
        while rest:
            groups, rest = f"x{rest % 1000:03}/{groups}", rest // 1000
        level = "entries" if self.level == ENTRIES else self.level
        return f"tile/{level}/{groups}" + ("" if self.width == 256 else f".p/{self.width}")

    def first_record(self):
        shift = 8 * ((0 if self.level == ENTRIES else self.level) + 1)
        return U64 - 1 if shift >= 64 else (self.index << shift) % U64

def parse_tile(path):
    found = re.fullmatch("tile/(entries|[0-9]{1,2})/([x0-9/]+)(?:[.]p/([0-9]{1,3}))?", path)
    index = re.sub("[x/]", "", found[2]) if found else ""
    if not index or len(index) > 21 or int(index) >= U64:
        return None
    tile = Tile(ENTRIES if found[1] == "entries" else int(found[1]), int(index), int(found[3] or 256))
    good = (tile.level < 64 or tile.level == ENTRIES) and 1 <= tile.width <= 256
    return tile if good and str(tile) == path else None

def entry_at(data, at):
    """The entry that begins here, with its length before it; None if the data ends within."""
    end = at + 2 + int.from_bytes(data[at : at + 2])
    return data[at + 2 : end] if end <= len(data) else None

def check_tiles(number, under, tiles, with_entries):
    """Every tile of a ledger and, with entries, every record. What is used is taken out of `tiles`."""
    def fail(code, tile, record=None):
        raise Failure(code, f"tiles/{number}/{tile}", "missing, or not what the rest of the tree says", record)
    def fetch(tile):
        return tiles.pop(tile) if tile in tiles else fail("LEDGER-TILE-MISSING", tile)
    below, found = [], None  # roots of the full tiles one level down; the root over what is to the right
    for level in range(8):
        count, roots = under.size >> 8 * level, []
        for index in range(-(-count // 256)):
            tile = Tile(level, index, min(256, count - 256 * index))
            data = fetch(tile)
            hashes = [data[at : at + 32] for at in range(0, len(data), 32)]
            if len(data) != 32 * tile.width:
                fail("LEDGER-TILE-CORRUPT", tile)
            if level == 0 and with_entries:
                check_bundle(fetch(tile._replace(level=ENTRIES)), tile._replace(level=ENTRIES), hashes, fail)
            for at, hash in enumerate(hashes if level else [], 256 * index):
                if at >= len(below) or below[at] != hash:
                    fail("LEDGER-TILE-CORRUPT", tile, Tile(level - 1, at, 256).first_record())
            if tile.width == 256:
                roots.append(perfect_root(hashes))
                continue
            while hashes:  # the rightmost tile: its complete subtrees, from the right
                width = len(hashes) & -len(hashes)
                peak, hashes = perfect_root(hashes[-width:]), hashes[:-width]
                found = peak if found is None else node_hash(peak, found)
        below = roots
    if (sha256(b"") if found is None else found) != under.root:
        raise Failure("LEDGER-TILE-ROOT", f"checkpoint/{number}", "the tiles lead to another root")

def check_bundle(data, bundle, hashes, fail):
    at, longest, first = 0, 0, bundle.first_record()
    for record, hash in enumerate(hashes, first):
        entry = entry_at(data, at)
        if entry is None or leaf_hash(entry) != hash:
            fail("LEDGER-BUNDLE-CORRUPT", bundle, record)
        at, longest = at + 2 + len(entry), max(longest, len(entry))
    if at != len(data) or longest > MAX_RECORD:
        fail("LEDGER-BUNDLE-CORRUPT", bundle, first + bundle.width)

# The container.

QUESTION, CHECKPOINT, RECORD, TILES, BLOB, CERTIFICATE = range(6)
KINDS = ("question.json", "checkpoint", "record", "tiles", "blob", "certificate")

def section_key(name):
    """What sections are sorted by; None if none is called so."""
    kind, _, rest = name.partition("/")
    number, _, more = rest.partition("/")
    if kind == "checkpoint" and decimal(rest) is not None:
        return CHECKPOINT, decimal(rest)
    if kind == "record" and None not in (decimal(number), decimal(more)):
        return RECORD, decimal(number), decimal(more)
    if kind == "tiles" and decimal(number) is not None and parse_tile(more):
        return TILES, decimal(number), *parse_tile(more)
    if kind in ("blob", "certificate") and SCALARS["h"](rest):
        return KINDS.index(kind), rest
    return (QUESTION,) if name == "question.json" else None

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

# What a pack answers, and which records do.

def read_question(text):
    try:
        value = json.loads(text.decode(), parse_float=integer, parse_constant=integer)
        printable = not any(re.search("[\x00-\x1f\x7f-\x9f]", str(item)) for item in value.values())
        known = value["kind"] in ("access", "record", "issuance") and fits(value, value["kind"].title())
        if len(text) <= MAX_QUESTION and compact(value).encode() == text and printable and known:
            return value
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        pass
    raise Failure("PACK-QUESTION", "question.json", "it is missing, or no question in its one spelling")

def is_about(question, origin, server):
    """True if the question is put to this ledger."""
    if question["kind"] != "record":
        return server == (question["kind"] == "issuance")
    named = question["ledger"] == origin or not server and question["ledger"] == origin.rpartition("/")[2]
    return server if question["ledger"] in ("", "server") else named

class Answers:
    """Finds the answers in one ledger, whose records it sees in order, with what each belongs to."""
    def __init__(self, question, domain, origin, server):
        self.question = question if is_about(question, origin, server) else {"kind": "nothing"}
        identity = question.get("identity", "")
        self.identity = identity if identity.startswith("spiffe://") else f"spiffe://{domain}/{identity}"
        self.found, self.total, self.sessions, self.intents = collections.deque(), 0, {}, {}

    def see(self, index, record):
        belongs = self.answers(index, record)
        if belongs is not None:
            self.total += 1
            self.found.append({index, *belongs} - {None})
            if len(self.found) > self.question.get("newest", U64):
                self.found.popleft()

    def answers(self, index, record):
        """The session and intent that an answer belongs to; None if the record does not answer."""
        kind, body, asked = record.kind, record.body, self.question
        def text(*path):
            value = body
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            return value if is_text(value) else None
        if asked["kind"] == "record":
            return [] if index == asked["index"] else None
        if asked["kind"] == "issuance":
            issued = kind == "issuance" and fits(body, kind, exact=False) and body["serial"] == asked["serial"]
            return [] if issued else None
        if asked["kind"] != "access" or kind not in ("session-start", "session-end", "intent", "decision", "outcome"):
            return None
        if kind == "outcome":
            seq = re.fullmatch("[+]?0*([0-9]{1,20})", text("intent") or "")
            return self.intents.get(int(seq[1])) if seq else None
        start = self.sessions.get(text("session"))
        if kind == "session-start" and text("spiffe_id") == self.identity and text("session") is not None:
            self.sessions[text("session")] = index
        who = (record.actor, text("spiffe_id"), text("about", "spiffe_id"), text("target", "value"))
        if self.identity not in who and text("session") not in self.sessions:
            return None
        if kind in ("intent", "decision") and "resource" in asked and not touches(body, asked["resource"]):
            return None
        if kind == "intent":
            self.intents[record.seq] = [start, index]
        return [start]

def touches(body, resource):
    """True if a record is about a resource, or may be: a list that was cut may have held it."""
    actions = body["actions"] if isinstance(body.get("actions"), list) else []
    actions = [action for action in actions if isinstance(action, dict)]
    lists = [action["resources"] for action in actions if isinstance(action.get("resources"), list)]
    names = [name for names in lists + [[body.get("resource")]] for name in names if is_text(name)]
    return any("more" in action for action in actions) or any(
        name == resource or f'"{resource}"' in name for name in names)

def grounds(record):
    """What a record rests on: places in the server's ledger, and blobs."""
    body, kind, places, blobs = record.body, record.kind, [record.estate], []
    if kind == "decision":
        body = body.get("about", {})
    for field, of in (("session-start", "issuance"), ("decision", "issuance"), ("issuance", "verdict"),
                      ("estate-version", "proof_index"), ("proof", "approval_index")):
        places += [body.get(of)] if kind == field else []
    if kind == "verdict":
        blobs = body["evidence"] + [body["facts_blob"]]
    elif kind in ("estate-version", "proof", "invariant-approval"):
        blobs = [body["subject" if kind == "invariant-approval" else "blob"]]
    return [int(place) for place in places if place is not None], [blob["sha256"] for blob in blobs if blob]

# The whole.

def verify(pack, domain, key):
    """What a pack shows to whoever trusts `key` for `domain`: as `trilith verify --json` says it."""
    sections = read_pack(pack)
    question = read_question(sections.get("question.json", b""))
    records, heads, anchored, keys, used = {}, [], {}, {}, []
    def note(number):
        try:
            return sections[f"checkpoint/{number}"].decode()
        except (KeyError, UnicodeDecodeError):
            raise Failure("PACK-CHECKPOINT", f"checkpoint/{number}", "it is missing or not text") from None
    head, lines = open_checkpoint(note(0), key, "checkpoint/0")
    if lines > 1:  # The place for cosignatures: each line but the first is of a witness that the trust file names.
        raise Failure("PACK-CHECKPOINT", "checkpoint/0", "it has a signature line of a key that nobody trusts")
    heads.append(head)
    read_records(sections, 0, head, records)
    for (_, index), record in records.items():
        check_begin(index, record, domain, key)
    for (_, index), record in records.items():
        if record.kind == "anchor":
            checkpoint, opened = open_anchor(record.body, f"record/0/{index}", keys)
            anchored.setdefault(checkpoint, (index, opened))
    numbers = [name for name in sections if name.startswith("checkpoint/") and name != "checkpoint/0"]
    for number, text in enumerate([note(number) for number in range(1, len(numbers) + 1)], 1):
        if text not in anchored:
            raise Failure("PACK-ANCHOR", f"checkpoint/{number}", "no anchor of the pack states this checkpoint")
        used.append(anchored[text][0])
        heads.append(anchored[text][1])
        read_records(sections, number, heads[number], records)
    tiles = {number: {} for number in range(len(heads))}
    for name, content in sections.items():
        kind, number, *rest = section_key(name) + (0,)
        if kind in (RECORD, TILES) and number >= len(heads):
            raise Failure("PACK-CHECKPOINT", name, "the pack has no such checkpoint")
        if kind == TILES:
            tiles[number][Tile(*rest[:3])] = content
    entries = {}  # by ledger: its entry bundles, where they are there
    for number, under in enumerate(heads):
        bundles = {tile: data for tile, data in tiles[number].items() if tile.level == ENTRIES}
        if tiles[number]:
            check_tiles(number, under, tiles[number], bundles)
        if bundles:
            entries[number] = bundles
        for tile in tiles[number]:
            raise Failure("PACK-TILE", f"tiles/{number}/{tile}", "the checkpoint's ledger has no such tile")
    shown = check_complete(sections, question, (domain, key), heads, records, used, entries)
    for name, content in sections.items():
        kind, _, digest = name.partition("/")
        if kind == "blob":
            named = any(f'"{digest}"' in compact(record.body) for record in records.values())
            if sha256(content).hex() != digest or not named:
                raise Failure("PACK-BLOB", name, "no record names it, or its content is not what its name says")
        if kind == "certificate":
            raise Failure("PACK-CERTIFICATE", name, "certificates cannot be checked here")
    return document(question, heads, records, shown, sum(name.startswith("blob/") for name in sections))

def read_records(sections, number, under, records):
    for name in [name for name in sections if name.startswith(f"record/{number}/")]:
        content, index = sections[name], section_key(name)[2]
        entry = entry_at(content, 0)
        proof = content[2 + len(entry or b"") :]
        if entry is None or len(proof) % 32 or len(proof) > 32 * MAX_PROOF:
            raise Failure("PACK-FORMAT", name, "it is not a record and a list of hashes")
        proof = [proof[at : at + 32] for at in range(0, len(proof), 32)]
        check_inclusion(leaf_hash(entry), index, under, proof, name)
        record = records[number, index] = parse_record(entry, name)
        if record.origin != under.origin:
            raise Failure("LEDGER-RECEIPT-ORIGIN", name, f"the record is of {record.origin}")
        if not fits(record.body, record.kind):
            raise Failure("LEDGER-RECORD-SHAPE", name, f"the body is not that of a record {record.kind}")

def check_begin(index, record, domain, key):
    if record.kind == "begin" and fits(record.body, "begin", exact=False):
        if (record.body["trust_domain"], unbase64(record.body["ledger_key"])) != (domain, key.spki):
            raise Failure("PACK-TRUST", f"record/0/{index}", "the ledger began for another trust domain or key")

def open_anchor(body, where, keys):
    """The checkpoint that an anchor states, as its note and opened. `keys` has the one key of each ledger."""
    origin, spki = body["origin"], unbase64(body["ledger_key"])
    key = Key(origin, spki[-32:])
    if key.spki != spki or not is_origin(origin) or keys.setdefault(origin, key) != key:
        raise Failure("PACK-ANCHOR", where, "its key is none of a ledger, or another than an earlier anchor states")
    opened, _ = open_checkpoint(body["checkpoint"], key, where)
    if (opened.size, opened.root) != (int(body["size"]), unbase64(body["root"])):
        raise Failure("PACK-ANCHOR", where, "its size and root are not those of its checkpoint")
    return body["checkpoint"], opened

def check_complete(sections, question, trust, heads, records, used, entries):
    """Finds the answers again. What is missing or does not belong is refused; what may be missing is a doubt."""
    kind, origins, doubts, answers, extents, newest = question["kind"], [], [], set(), [], {}
    def missing(where, message, code="PACK-RECORD-MISSING"):
        raise Failure(code, where, message)
    def stray(number, index):
        missing(f"record/{number}/{index}", "neither an answer nor what one rests on", "PACK-RECORD-STRAY")
    for number, under in enumerate(heads):
        if under.origin in origins or number and not is_about(question, under.origin, False):
            missing(f"checkpoint/{number}", "a second of its ledger, or not asked about", "PACK-CHECKPOINT")
        origins.append(under.origin)
    if kind == "record" and not any(is_about(question, origin, at == 0) for at, origin in enumerate(origins)):
        missing("question.json", "the pack does not have the ledger of the record that it is about")
    for number, under in enumerate(heads):
        origin, server = under.origin, number == 0
        seen, held = Answers(question, trust[0], origin, server), {at for ledger, at in records if ledger == number}
        until = None if server else records[0, used[number - 1]].wall
        for index in sorted(held) if number not in entries else ():
            seen.see(index, records[number, index])
        for index, entry in all_entries(entries.get(number, {})):
            try:
                record = parse_record(entry)
            except Failure:
                doubts.append((origin, f"record {index} of {origin} cannot be read: it may be an answer"))
                continue
            seen.see(index, record)
            if server:
                until = record.wall
                check_begin(index, record, *trust)
                if record.kind == "anchor" and fits(record.body, "anchor", exact=False):
                    newest[record.body["origin"]] = index, int(record.body["size"])
        expected = set().union(*seen.found)
        if kind == "record" and is_about(question, origin, server):
            expected.add(question["index"])
        for index in sorted(expected - held):
            missing(f"record/{number}/{index}", "it answers the question and is not in the pack")
        for index in sorted(held - expected) if not server else ():
            stray(number, index)
        answers |= {(number, index) for index in expected}
        extents.append([number in entries, len(expected), seen.total if number in entries else None, until])
    for number, origin in enumerate(origins):
        if number not in entries and (kind == "access" or kind == "issuance" and number == 0):
            left_out = "records" if number else "records and gateways"
            doubts.append((origin, f"the entries of {origin} are not in the pack, so that {left_out} may be left out"))
    for origin, (anchor, size) in sorted(newest.items()) if kind == "access" else ():
        if origin not in origins:
            missing(f"record/0/{anchor}", f"it anchors {origin}, which the pack does not have", "PACK-LEDGER-MISSING")
        held = heads[origins.index(origin)].size
        if origin != origins[0] and held < size:
            doubts.append((origin, f"of {origin} the pack has the first {held} records, and {size} were anchored "
                           f"(server's record {anchor})"))
    needed = {*used} | {index for number, index in answers if number == 0}
    open = [(0, index) for index in sorted(needed)] + [place for place in records if place[0] > 0]
    while open:
        place = open.pop()
        origin, (places, blobs) = records[place].origin, grounds(records[place])
        rests = f"record {place[1]} of {origin} rests on"
        for index in places:
            if index >= heads[0].size:
                doubts.append((origin, f"{rests} the server's record {index}, which the checkpoint does not reach"))
            elif index not in needed:
                needed.add(index)
                if (0, index) not in records:
                    missing(f"record/0/{index}", f"{rests} it")
                open.append((0, index))
        for digest in blobs:
            if f"blob/{digest}" not in sections:
                doubts.append((origin, f"{rests} the blob {digest}, which is not in the pack"))
    for number, index in records:
        if number == 0 and index not in needed:
            stray(0, index)
    return answers, extents, doubts

def all_entries(bundles):
    for bundle in sorted(bundles):
        at, index = 0, bundle.first_record()
        while at < len(bundles[bundle]):
            entry = entry_at(bundles[bundle], at)
            yield index, entry
            at, index = at + 2 + len(entry), index + 1

# What is told.

def document(question, heads, records, shown, blobs):
    answers, extents, doubts = shown
    told = [{"ledger": record.origin, "index": index, "type": record.kind, "actor": record.actor, "body": record.body,
             "answers": (number, index) in answers} for (number, index), record in records.items()]
    doubtful = {origin for origin, _ in doubts}
    checkpoints = [{"origin": head.origin, "size": head.size, "complete": head.origin not in doubtful,
                    "entries": entries, "answers": count, "matching": matching, "until": time(until)}
                   for head, (entries, count, matching, until) in zip(heads, extents)]
    return {"verified": True, "complete": not doubts, "not_shown": [doubt for _, doubt in doubts],
            "question": compact(question), "asked": asked(question), "records": told, "checkpoints": checkpoints,
            "answers": sum(item["answers"] for item in told), "blobs": blobs}

def asked(question):
    if question["kind"] == "issuance":
        return f"the issuance of SVID {question['serial']}"
    if question["kind"] == "record":
        return f"record {question['index']} of {question['ledger'] or 'the server' + chr(39) + 's ledger'}"
    resource, newest = question.get("resource"), question.get("newest")
    text = f"what {question['identity']} did through gateways" + ("" if resource is None else f", to {resource}")
    return text + ("" if newest is None else f"; of each ledger the newest {newest} records")

def time(millis):
    """RFC 3339, in UTC. The calendar repeats every 400 years, which have 146,097 days."""
    if millis is None:
        return None
    days, millis = divmod(millis, 86_400_000)
    day = datetime.date.fromordinal(datetime.date(1970, 1, 1).toordinal() + days % 146_097)
    seconds, millis = divmod(millis, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{millis:03}Z"
    return f"{day.year + days // 146_097 * 400:04}-{day.month:02}-{day.day:02}T{clock}"

def read_file(path, limit, code):
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISFIFO(kind):
            raise Failure("CLI-FILE-KIND", path, "it is neither a file nor a pipe")
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise Failure("CLI-FILE", path, str(error)) from error
    if len(data) > limit:
        raise Failure(code, path, f"it has more than {limit} bytes")
    return data

def main():
    parser = argparse.ArgumentParser(description="Verifies a Trilith pack; see the top of this file.")
    parser.add_argument("pack")
    parser.add_argument("--trust", required=True)
    parser.add_argument("--json", action="store_true")
    arguments, status = parser.parse_args(), 1
    try:
        domain, key = read_trust(read_file(arguments.trust, MAX_TRUST, "VERIFY-TRUST-FILE"))
        pack, status = read_file(arguments.pack, MAX_PACK, "PACK-TOO-LARGE"), 3
        told = verify(pack, domain, key)
    except Failure as failure:
        told = {"verified": False, "complete": False, "code": failure.code, "where": failure.where,
                "record": failure.record, "message": failure.message}
        print("trilith_verify:", json.dumps(told), file=sys.stderr)
        print(json.dumps(told) if arguments.json and status == 3 else "NOT VERIFIED")
        return status
    # Escaped: names and questions come from whoever wrote them into a record.
    doubts = "; NOT shown to be complete: " + "; ".join(told["not_shown"])
    lines = ["verified" + (", and complete" if told["complete"] else doubts), f"  asked: {told['asked']}"]
    for head in told["checkpoints"]:
        complete = "complete" if head["complete"] else "NOT shown to be complete"
        lines.append(f"  {head['origin']} of {head['size']} records: {head['answers']} answer; {complete}")
    print(json.dumps(told) if arguments.json else "\n".join(json.dumps(line)[1:-1] for line in lines))
    return 0

if __name__ == "__main__":
    sys.exit(main())
