"""The standards that a Trilith pack is built on, for trilith_verify.py: signed notes, checkpoints, the Merkle tree and
its tiles, witnesses and their policies, as c2sp.org has them. Nothing here is Trilith's, and no file is opened. Where a
form has two spellings, the second is refused. What does not hold is raised as a Failure with its code.
"""
import hashlib, re
from base64 import b64decode, b64encode
from collections import namedtuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_NOTE, MAX_SIGNATURES, MAX_POLICY, MAX_EACH, MAX_ENTRY, U64 = 256 << 10, 64, 256 << 10, 32, 16 << 10, 2**64

class Failure(Exception):
    """The first thing that does not hold: code, section, and the place of the record that is concerned, if one is."""
    def __init__(self, code, where, message, record=None):
        super().__init__(message)
        self.code, self.where, self.message, self.record = code, where, message, record

# Scalars, each in its one spelling.

def decimal(text):
    good = isinstance(text, str) and re.fullmatch("0|[1-9][0-9]{0,19}", text) and int(text) < U64
    return int(text) if good else None

def unbase64(text):
    try:
        data = b64decode(text, validate=True) if isinstance(text, str) else None
        return data if data is not None and b64encode(data).decode() == text else None
    except ValueError:
        return None

def sha256(data):
    return hashlib.sha256(data).digest()

def hashes_of(data):
    return [data[at : at + 32] for at in range(0, len(data), 32)]

def has_noncharacter(text):
    return not text.isascii() and any(0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE for c in text)

def is_name(text):
    return re.fullmatch(r'[^\s+"\\\x00-\x1f\x7f]+', text) is not None and not has_noncharacter(text)

def is_origin(name):
    return is_name(name) and len(name.encode()) <= 255

# Keys, notes and checkpoints: c2sp.org/signed-note and c2sp.org/tlog-checkpoint.

ED25519_NOTE, ED25519, ML_DSA_44 = 0x01, 0x04, 0x06
LENGTHS = {ED25519_NOTE: 32, ED25519: 32, ML_DSA_44: 1312}

class Key(namedtuple("Key", "origin kind raw")):
    id = property(lambda self: sha256(self.origin.encode() + b"\n" + bytes([self.kind]) + self.raw)[:4])
    spki = property(lambda self: bytes.fromhex("302a300506032b6570032100") + self.raw)  # RFC 8410, of Ed25519

Checkpoint = namedtuple("Checkpoint", "origin size root")

def expect(good, what):
    if not good:
        raise ValueError(what)

def parse_key(text, kinds=(ED25519_NOTE,)):
    """A key as C2SP tools write it, `<origin>+<id>+<base64>`."""
    origin, id, encoded = (text.split("+", 2) + ["", ""])[:3]
    typed = unbase64(encoded) or b"\0"
    expect(typed[0] in kinds and len(typed) == 1 + LENGTHS[typed[0]] and is_origin(origin), "a key of no known kind")
    key = Key(origin, typed[0], typed[1:])
    expect(key.id.hex() == id, "a key whose id is another")
    return key

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

# The Merkle tree (RFC 6962, section 2.1) and its tiles (c2sp.org/tlog-tiles).

def node_hash(left, right):
    return sha256(b"\x01" + left + right)

def root_over(hashes):
    while len(hashes) > 1:  # the last one, if it has no neighbour, moves up as it is
        hashes = [node_hash(*hashes[at : at + 2]) if at + 1 < len(hashes) else hashes[at]
                  for at in range(0, len(hashes), 2)]
    return hashes[0] if hashes else sha256(b"")

def root_from(leaf, index, size, proof, where):
    """The root of the tree of so many records in which this one stands at `index`."""
    if (size == 1) != (not proof):
        raise Failure("LEDGER-PROOF-LENGTH", where, "the proof is not as long as these sizes need")
    if size == 1:
        return leaf
    left = 1 << (size - 1).bit_length() - 1  # records in the left half
    if index < left:
        return node_hash(root_from(leaf, index, left, proof[:-1], where), proof[-1])
    return node_hash(proof[-1], root_from(leaf, index - left, size - left, proof[:-1], where))

def check_inclusion(record, index, under, proof, where):
    if index >= under.size:
        raise Failure("LEDGER-PROOF-INDEX", where, f"the ledger has {under.size} records")
    if root_from(sha256(b"\x00" + record), index, under.size, proof, where) != under.root:
        raise Failure("LEDGER-PROOF-ROOT", where, "the proof leads to another root than the checkpoint's")

ENTRIES = 256  # as a level: behind all levels of hashes

class Tile(namedtuple("Tile", "level index width")):
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

def entries_of(bundle):
    """The entries of a bundle, each with where it ends; None for one that the bundle ends within."""
    at = 0
    while at < len(bundle):
        begin, at = at + 2, at + 2 + int.from_bytes(bundle[at : at + 2])
        yield (bundle[begin:at] if at <= len(bundle) else None), at

def check_tiles(number, under, tiles, with_entries):
    """Every tile of a ledger and, with entries, every record. What is used is taken out of `tiles`."""
    def fail(code, tile, record=None):
        raise Failure(code, f"tiles/{number}/{tile}", "missing, or not what the rest of the tree says", record)
    def take(tile):
        return tiles.pop(tile) if tile in tiles else fail("LEDGER-TILE-MISSING", tile)
    below, leaves = [], []  # roots of the full tiles one level down; hashes of all records
    for level in range(8):
        count, above = under.size >> 8 * level, []
        for index in range(-(-count // 256)):
            tile = Tile(level, index, min(256, count - 256 * index))
            bundle, first = tile._replace(level=ENTRIES), 256 * index
            data = take(tile)
            if len(data) != 32 * tile.width:
                fail("LEDGER-TILE-CORRUPT", tile)
            found = hashes_of(data)
            if level == 0 and with_entries:
                check_bundle(take(bundle), found, lambda at: fail("LEDGER-BUNDLE-CORRUPT", bundle, first + at))
            for at, hash in enumerate(found if level else [], first):
                if below[at : at + 1] != [hash]:
                    fail("LEDGER-TILE-CORRUPT", tile, Tile(level - 1, at, 256).first_record())
            above += [root_over(found)] if tile.width == 256 else []
            leaves += [] if level else found
        below = above
    if root_over(leaves) != under.root:
        raise Failure("LEDGER-TILE-ROOT", f"checkpoint/{number}", "the tiles lead to another root")

def check_bundle(bundle, hashes, fail):
    entries, longest = entries_of(bundle), 0
    for at, hash in enumerate(hashes):
        entry, _ = next(entries, (None, 0))
        if entry is None or sha256(b"\x00" + entry) != hash:
            fail(at)
        longest = max(longest, len(entry))
    if next(entries, None) or longest > MAX_ENTRY:
        fail(len(hashes))

# Who else saw a checkpoint: c2sp.org/tlog-policy and c2sp.org/tlog-cosignature.

# `parties` has, by name, a witness's place or a group's threshold and members; `quorum` is a name, or None.
Policy = namedtuple("Policy", "logs witnesses parties quorum")

def parse_policy(text):
    """Reads a policy. Members stand on a line before their group, and each counts in one way only."""
    policy, quorums, members = Policy([], [], {}, None), [], set()
    expect(len(text.encode()) <= MAX_POLICY, "it is too long")
    expect(not re.search("[\x00-\x08\x0b-\x1f\x7f]", text), "octets that are no text")
    for line in text.split("\n"):
        kind, *items = re.split("[ \t]+", line.strip(" \t"))
        if kind == "" or kind.startswith("#"):
            continue
        if kind == "log":
            expect(len(items) in (1, 2), "log <vkey> [<url>]")
            policy.logs.append(parse_key(items[0], LENGTHS))
        elif kind == "witness":
            expect(len(items) in (2, 3) and items[0] not in {"none", *policy.parties}, "witness <name> <vkey> [<url>]")
            policy.parties[items[0]] = len(policy.witnesses)
            policy.witnesses.append(parse_key(items[1], (ED25519, ML_DSA_44)))
        elif kind == "group":
            name, threshold, *listed = items + [""] * (2 - len(items))
            expect(listed and name not in {"none", *policy.parties}, "group <name> all|any|<k> <name>...")
            expect(all(one in policy.parties for one in listed), "a member that no line before defines")
            expect(len(set(listed)) == len(listed) and not members & set(listed), "a member twice")
            members |= set(listed)
            needed = {"any": 1, "all": len(listed)}.get(threshold, decimal(threshold)) or 0
            expect(1 <= needed <= len(listed), "a threshold that the members do not reach")
            policy.parties[name] = (needed, listed)
        else:
            expect(kind == "quorum" and len(items) == 1 and not quorums, "log, witness, group or one quorum")
            expect(items[0] == "none" or items[0] in policy.parties, "a quorum that no line before defines")
            quorums += items
    for keys in (policy.logs, policy.witnesses):
        expect(len({key.raw for key in keys}) == len(keys) <= MAX_EACH, "a key twice, or too many")
    expect(len(policy.parties) - len(policy.witnesses) <= MAX_EACH and quorums, "no quorum, or too many groups")
    return policy._replace(quorum=None if quorums == ["none"] else quorums[0])

def verify_line(witness, text, line):
    """The time that a witness's line over a checkpoint states; None if it does not verify."""
    time, signature = int.from_bytes(line[:8]), line[8:]
    origin, size, root = text[:-1].split("\n")
    if len(line) < 8 or time >= U64 // 2:
        return None
    message = f"cosignature/v1\ntime {time}\n{text}".encode()
    try:
        if witness.kind == ED25519:
            Ed25519PublicKey.from_public_bytes(witness.raw).verify(signature, message)
            return time
        # Only here, so that who trusts no such witness needs no such version of the package.
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
        name, origin = witness.origin.encode(), origin.encode()
        message = b"subtree/v1\n\0" + bytes([len(name)]) + name + time.to_bytes(8) + bytes([len(origin)]) + origin
        message += bytes(8) + int(size).to_bytes(8) + unbase64(root)
        MLDSA44PublicKey.from_public_bytes(witness.raw).verify(signature, message)
        return time
    except (InvalidSignature, ValueError):
        return None

def judge(policy, text, signatures, where):
    """The verified lines of the policy's witnesses, in its order, and whether they are enough."""
    found, lines = [], []
    for witness in policy.witnesses:
        ours = [signature for name, id, signature in signatures if (name, id) == (witness.origin, witness.id)]
        times = [verify_line(witness, text, line) for line in ours]
        if len(ours) > 1 or None in times:
            raise Failure("LEDGER-NOTE-SIGNATURE", where, f"the line of {witness.origin} does not verify")
        found.append(bool(ours))
        lines += [(witness, time) for time in times]
    reached = {}
    for name, party in policy.parties.items():
        is_witness = isinstance(party, int)
        reached[name] = found[party] if is_witness else sum(reached[one] for one in party[1]) >= party[0]
    return lines, policy.quorum is None or reached[policy.quorum]
