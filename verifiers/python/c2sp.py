"""The standards beneath a Trilith pack, as c2sp.org has them: signed notes, checkpoints, the Merkle
tree and its tiles, witnesses and their policies. A form that has two spellings is read in one."""
import hashlib, re
from base64 import b64decode, b64encode
from collections import namedtuple
from contextlib import contextmanager
from functools import reduce
from itertools import zip_longest

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_NOTE, MAX_SIGNATURES, MAX_EACH, MAX_ENTRY, MAX_PROOF = 256 << 10, 64, 32, 16 << 10, 64
U64 = 2**64
NONCHARACTER = re.compile("[\ufdd0-\ufdef%s]" % "".join(
    chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17)))

class Failure(ValueError):
    """The first thing that does not hold: its code, in which section, about which record if any."""
    def __init__(self, code, where="", record=None):
        super().__init__(code)
        self.code, self.where, self.record = code, where, record

def check(good, code="", where="", record=None):
    if not good:
        raise Failure(code, where, record)

MALFORMED = (Exception,)  # what reads foreign bytes here, x509 above all, raises what it likes
@contextmanager
def inside(where, code=None):
    """What fails in here fails in this section; and with this code, if one is given."""
    try:
        yield
    except MALFORMED if code else Failure as error:
        failure = Failure(code, where) if code else error
        failure.where = failure.where or where
        raise failure from None

def sha256(data):
    return hashlib.sha256(data).digest()
def decimal(text):
    good = isinstance(text, str) and re.fullmatch("0|[1-9][0-9]{0,19}", text)
    return int(text) if good and int(text) < U64 else None
def unbase64(text, length=None):
    try:
        data = b64decode(text, validate=True)
    except MALFORMED:
        return None
    return data if b64encode(data).decode() == text and length in (None, len(data)) else None
def is_name(text, longest=MAX_NOTE):
    plain = re.fullmatch(r'[^\s+"\\\x00-\x1f\x7f]+', text) and not NONCHARACTER.search(text)
    return bool(plain) and len(text.encode()) <= longest

# Keys, notes and checkpoints: c2sp.org/signed-note and c2sp.org/tlog-checkpoint.

ED25519_NOTE, ED25519, ML_DSA_44 = 0x01, 0x04, 0x06
LENGTHS = {ED25519_NOTE: 32, ED25519: 32, ML_DSA_44: 1312}
Checkpoint = namedtuple("Checkpoint", "origin size root")

class Key(namedtuple("Key", "origin kind raw")):
    id = property(lambda key: sha256(key.origin.encode() + b"\n" + bytes([key.kind]) + key.raw)[:4])
    spki = property(lambda key: bytes.fromhex("302a300506032b6570032100") + key.raw)  # of Ed25519
    def verify(self, message, signature):
        """Raises if this is no signature by this key."""
        public = Ed25519PublicKey
        if self.kind == ML_DSA_44:  # here, since who trusts no such witness needs no newer package
            from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey as public
        public.from_public_bytes(self.raw).verify(signature, message)
    def among(self, lines):
        """The signatures of a note's lines that bear the name of this key."""
        return [signature for name, id, signature in lines if (name, id) == (self.origin, self.id)]

def parse_key(text, kinds=(ED25519_NOTE,)):
    """A key as C2SP tools write it, `<origin>+<id>+<base64>`."""
    origin, id, encoded = text.split("+", 2)
    kind, *raw = unbase64(encoded)
    key = Key(origin, kind, bytes(raw))
    check(kind in kinds and len(raw) == LENGTHS[kind])
    check(key.id.hex() == id and is_name(origin, 255))
    return key

def open_checkpoint(note, key):
    """What `key` signed for its own ledger, and the note's lines as (name, id, signature)."""
    with inside("", "LEDGER-NOTE-FORMAT"):
        form = "(?s)(.*\n)\n((?:\u2014 [^\n ]+ [^\n ]+\n)+)"
        text, block = re.fullmatch(form, note).groups()
        lines = [(name, unbase64(typed)) for name, typed in re.findall("\u2014 (.*) (.*)\n", block)]
        lines = [(name, typed[:4], typed[4:]) for name, typed in lines]
        check(all(is_name(name) and signature for name, _, signature in lines))
        check(len(lines) <= MAX_SIGNATURES and len(note.encode()) <= MAX_NOTE)
        check(not re.search("[\x00-\x09\x0b-\x1f]", note))
    check(ours := key.among(lines), "LEDGER-NOTE-UNSIGNED")
    with inside("", "LEDGER-NOTE-SIGNATURE"):
        key.verify(text.encode(), *ours)
    with inside("", "LEDGER-CHECKPOINT-FORMAT"):
        origin, size, root, end = text.split("\n")
        head = Checkpoint(origin, decimal(size), unbase64(root, 32))
        check(None not in head and end == "" and is_name(origin, 255))
    check(origin == key.origin, "LEDGER-CHECKPOINT-ORIGIN")
    return head, lines

# The Merkle tree (RFC 6962, section 2.1) and its tiles (c2sp.org/tlog-tiles).

def leaf_hash(entry):
    return sha256(b"\x00" + entry)
def node_hash(left, right):
    return sha256(b"\x01" + left + right)
def hashes_of(data):
    return [data[at : at + 32] for at in range(0, len(data), 32)]
def left_of(size):
    return 1 << (size - 1).bit_length() - 1  # so many records stand in the left half

class Tree:
    """A tree that grows: the roots of its full subtrees, the largest first."""
    def __init__(self, hashes=()):
        self.size, self.roots = 0, []
        self.grow(hashes)
    def grow(self, hashes):
        for hash in hashes:
            for _ in range((self.size ^ self.size + 1).bit_length() - 1):
                hash = node_hash(self.roots.pop(), hash)
            self.roots.append(hash)
            self.size += 1
        return self
    def root(self):
        over = lambda right, left: node_hash(left, right)
        return reduce(over, reversed(self.roots)) if self.roots else sha256(b"")

def read_proof(data):
    check(len(data) % 32 == 0 and len(data) <= 32 * MAX_PROOF, "PACK-FORMAT")
    return hashes_of(data)

def root_from(leaf, index, size, proof):
    """The root of the tree of so many records in which this one stands at `index`."""
    check((size == 1) == (not proof), "LEDGER-PROOF-LENGTH")
    if size == 1:
        return leaf
    left = left_of(size)
    if index < left:
        return node_hash(root_from(leaf, index, left, proof[:-1]), proof[-1])
    return node_hash(proof[-1], root_from(leaf, index - left, size - left, proof[:-1]))

def roots_from(old, size, proof, root=None):
    """The roots of the tree of `old` records and of the one of `size` that it grew to; `root` is
    that of the first, while it is a subtree of both."""
    if old == size:
        check(len(proof) == (0 if root else 1))
        return [root or proof[0]] * 2
    left, *proof, last = left_of(size), *proof
    if old <= left:
        before, after = roots_from(old, left, proof, root)
        return before, node_hash(after, last)
    before, after = roots_from(old - left, size - left, proof)
    return node_hash(last, before), node_hash(last, after)

ENTRIES = 256  # as a level: behind all levels of hashes
class Tile(namedtuple("Tile", "level index width")):
    def __str__(self):
        *upper, last = f"{self.index:,}".split(",")
        groups = "".join(f"x{group:0>3}/" for group in upper) + f"{last:0>3}"
        level = "entries" if self.level == ENTRIES else self.level
        return f"tile/{level}/{groups}" + ("" if self.width == 256 else f".p/{self.width}")
    def first_record(self):
        shift = 8 * (self.level % ENTRIES + 1)
        return U64 - 1 if shift >= 64 else (self.index << shift) % U64

def parse_tile(path):
    found = re.fullmatch("tile/(entries|[1-5]?[0-9]|6[0-3])/([x0-9/]{3,34})([.]p/[0-9]+)?", path)
    level, index, width = found.groups(".p/256") if found else ("0", "", ".p/0")
    level, index = ENTRIES if level == "entries" else int(level), re.sub("[x/]", "", index)
    tile = Tile(level, int(index or U64), int(width[3:7]))
    return tile if tile.index < U64 and 1 <= tile.width <= 256 and str(tile) == path else None

def entries_of(bundle):
    """The entries of a bundle, each with its end; None for one that ends behind the bundle."""
    at = 0
    while at < len(bundle):
        begin, at = at + 2, at + 2 + int.from_bytes(bundle[at : at + 2])
        yield (bundle[begin:at] if at <= len(bundle) else None), at

def check_tiles(number, head, tiles, with_entries):
    """Every tile of a ledger and, with entries, every record, whose hashes come back; takes out of
    `tiles` what it uses."""
    def checked(good, code, tile, record=None):
        check(good, f"LEDGER-{code}", f"tiles/{number}/{tile}", record)
    def take(tile):
        checked(tile in tiles, "TILE-MISSING", tile)
        return tiles.pop(tile)
    hashes = [[] for _ in range(9)]  # by level: of records, then the roots of the full tiles below
    for level, expected in enumerate(hashes[:8]):
        count = head.size >> 8 * level
        for first in range(0, count, 256):
            tile = Tile(level, first // 256, min(256, count - first))
            found = hashes_of(take(tile))
            checked(list(map(len, found)) == [32] * tile.width, "TILE-CORRUPT", tile)
            if level == 0:
                expected += found
            if level == 0 and with_entries:
                bundle = tile._replace(level=ENTRIES)
                entries = [entry for entry, _ in entries_of(take(bundle))]
                for at, (entry, hash) in enumerate(zip_longest(entries, found), first):
                    good = entry is not None and leaf_hash(entry) == hash
                    checked(good, "BUNDLE-CORRUPT", bundle, at)
                fit = max(map(len, entries)) <= MAX_ENTRY
                checked(fit, "BUNDLE-CORRUPT", bundle, first + tile.width)
            for at, hash in enumerate(found, first):
                record = Tile(level - 1, at, 256).first_record()
                checked(hash == expected[at], "TILE-CORRUPT", tile, record)
            hashes[level + 1] += [Tree(found).root()] if tile.width == 256 else []
    check(Tree(hashes[0]).root() == head.root, "LEDGER-TILE-ROOT", f"checkpoint/{number}")
    return hashes[0]

# Who else saw a checkpoint: c2sp.org/tlog-policy and c2sp.org/tlog-cosignature.

# `groups` has, by name, a threshold and its members, groups before it. A witness is one of its key.
Policy = namedtuple("Policy", "logs witnesses groups quorum")

def parse_policy(text):
    """Reads a policy. Each member counts in one way only."""
    check(len(text.encode()) <= MAX_NOTE and not re.search("[\x00-\x08\x0b-\x1f\x7f]", text))
    logs, witnesses, groups, members, quorums = [], [], {"none": (0, [])}, [], []
    for line in text.split("\n"):
        kind, *items = re.split("[ \t]+", line.strip(" \t"))
        new, count = bool(items) and items[0] not in groups, len(items)
        if kind == "log" and count in (1, 2):
            logs.append(parse_key(items[0], LENGTHS))
        elif kind == "witness" and count in (2, 3) and new:
            witnesses.append(parse_key(items[1], (ED25519, ML_DSA_44)))
            groups[items[0]] = 1, witnesses[-1:]
        elif kind == "group" and count > 2 and new:
            name, threshold, *listed = items
            needed = {"any": 1, "all": len(listed)}.get(threshold, decimal(threshold)) or 0
            check(set(listed) <= set(groups) - {"none"} and 1 <= needed <= len(listed))
            groups[name], members = (needed, listed), members + listed
        elif kind == "quorum" and count == 1 and not new:
            quorums += items
        else:
            check(kind == "" or kind.startswith("#"))
    for keys in (logs, witnesses):
        check(len({key.raw for key in keys}) == len(keys) <= MAX_EACH)
    check(len(set(members)) == len(members) and len(groups) - 1 - len(witnesses) <= MAX_EACH)
    quorum, = quorums
    return Policy(logs, witnesses, groups, quorum)

def cosigned(witness, head, line):
    """The time that a witness's line over a checkpoint states."""
    time, signature = line[:8], line[8:]
    check(len(time) == 8 and time < b"\x80")
    text = f"{head.origin}\n{head.size}\n{b64encode(head.root).decode()}\n"
    message = f"cosignature/v1\ntime {int.from_bytes(time)}\n{text}".encode()
    if witness.kind == ML_DSA_44:
        names = [name.encode() for name in (witness.origin, head.origin)]
        name, origin = [bytes([len(name)]) + name for name in names]
        message = b"subtree/v1\n\0" + name + time + origin + bytes(8)
        message += head.size.to_bytes(8) + head.root
    witness.verify(message, signature)
    return int.from_bytes(time)

def judge(policy, head, lines):
    """The policy's witnesses with the times of their lines, and whether they are enough."""
    with inside("", "LEDGER-NOTE-SIGNATURE"):
        ours = [(witness, line) for witness in policy.witnesses for line in witness.among(lines)]
        check(len(dict(ours)) == len(ours))
        seen = [(witness, cosigned(witness, head, line)) for witness, line in ours]
    reached = dict.fromkeys(dict(seen), True)
    for name, (needed, members) in policy.groups.items():
        reached[name] = sum(reached.get(member, False) for member in members) >= needed
    return seen, reached[policy.quorum]
