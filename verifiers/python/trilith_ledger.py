"""What Trilith's ledgers are made of, for trilith_verify.py: keys and signed notes, records, the Merkle tree and its
tiles, as crates/ledger documents them and docs/vectors/ledger shows them. No file is opened here. Where a form has
two spellings, the second is refused. What does not hold is raised as a Failure, with its code.
"""
import base64, collections, hashlib, json, re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_NOTE, MAX_SIGNATURES, MAX_RECORD, MAX_DEPTH, MAX_KEYS, U64 = 256 << 10, 64, 16 << 10, 16, 512, 2**64

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
    """What `key` signed for its own ledger, and the note's text and lines."""
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
    return Checkpoint(lines[0], size, root), text, signatures

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
verdict: node=s outcome=affirmed/refused facts_blob=Blob|null evidence=[Evidence] facts=[Fact] \
findings=[Finding] ar4si?=s
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
intent: session=s statement=s actions=[Action] decision=s policies=[s] \
coverage=complete/parsed-only/blind more_policies?=More claimed_on_behalf_of?=[s] on_behalf_of?=[OnBehalfOf]
outcome: intent=d result=s sqlstate=s|null rows=d|null tag=s|null transaction?=s
decision: session=s statement=s actions=[Action] decision=s allow=t policies=[s] findings=[s] \
coverage=complete/parsed-only/blind more_policies?=More about?=About \
claimed_on_behalf_of?=[s] on_behalf_of?=[OnBehalfOf]
session-start: session=s spiffe_id=s serial=s issuance=d|null resource=s role=s application=s \
claimed_on_behalf_of?=[s] on_behalf_of?=[OnBehalfOf]
session-end: session=s reason=s detail=s operations=d
anchor: gateway=s origin=s ledger_key=b size=d root=g checkpoint=s
admin: principal=s action=s resource=s allow=t policies=[s] detail=s
snapshot: size=d root=g state=Blob format=s
retention: minimum_index=d snapshot=d policy=s by=s
recovery: old_size=d old_root=g old_checkpoint=s|null new_size=d new_root=g reason=s by=s obeyed=d|null
seal-approval: ring=s epoch=d label=s pcrs=[Pcr] policy=h policy_ref=h key=b signature=b
delegation: jti=s tbs=g issuer=g not_before=n not_after=n chain=[s] rests_on?=[s] actions=[s]|null resources=[s]|null \
node=s
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
About: spiffe_id=s issuance?=d stated?={v} claimed_on_behalf_of?=[s] on_behalf_of?=[OnBehalfOf]
OnBehalfOf: spiffe_id=s jti=s
Pcr: index=u sha256=h
AuthorSignature: author=s key=b expires=n signature=b
Access: kind=s identity=s resource?=s newest?=w
Record: kind=s ledger=s index=w
Issuance: kind=s serial=s
Session: kind=s ledger=s session=s
Lifetime: kind=s identity=s
Range: kind=s ledger=s from=w to=w
Period: kind=s ledger?=s from=w to=w
Estate: kind=s version=h
Verdict: kind=s index=w""".splitlines()}
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

# The names of a pack's sections; here because a failure tells from one which record it is about.
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
