#!/usr/bin/env python3
"""Recomputes docs/vectors/ledger/*.json, but packs.json, with Python's standard library, from the specifications
(RFC 6962, C2SP signed-note, tlog-checkpoint, tlog-tiles, tlog-proof) and not from the Rust code.
Signatures are checked if the package `cryptography` can be imported; the output says so.

Usage: check_vectors.py DIRECTORY
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_hash(record):
    return sha256(b"\x00" + record)


def tree_root(leaves):
    """RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + tree_root(leaves[:k]) + tree_root(leaves[k:]))


def path(m, leaves):
    """RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return path(m, leaves[:k]) + [tree_root(leaves[k:])]
    return path(m - k, leaves[k:]) + [tree_root(leaves[:k])]


def subproof(m, leaves, whole):
    """RFC 6962, section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [tree_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return subproof(m, leaves[:k], whole) + [tree_root(leaves[k:])]
    return subproof(m - k, leaves[k:], False) + [tree_root(leaves[:k])]


def root_from_path(leaf, index, size, proof):
    """RFC 9162, section 2.1.3.2."""
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        assert sn != 0
        if fn & 1 or fn == sn:
            r = sha256(b"\x01" + p + r)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            r = sha256(b"\x01" + r + p)
        fn >>= 1
        sn >>= 1
    assert sn == 0
    return r


def b64(text):
    return base64.b64decode(text, validate=True)


def parse_key(vkey):
    name, key_id, encoded = vkey.split("+", 2)
    typed = b64(encoded)
    assert typed[0] == 1 and len(typed) == 33
    assert sha256(name.encode() + b"\n" + typed)[:4].hex() == key_id
    return name, bytes.fromhex(key_id), typed[1:]


def open_checkpoint(note, vkey):
    """Origin, size and root of a signed note; signatures only where they can be checked."""
    name, key_id, raw = parse_key(vkey)
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    assert signatures.endswith("\n")
    ours = []
    for line in signatures[:-1].split("\n"):
        dash, signer, encoded = line.split(" ")
        assert dash == "\u2014"
        if signer == name and b64(encoded)[:4] == key_id:
            ours.append(b64(encoded)[4:])
    assert len(ours) == 1, "exactly one signature by the ledger's key"
    if Ed25519PublicKey is not None:
        Ed25519PublicKey.from_public_bytes(raw).verify(ours[0], text.encode())
    origin, size, root = text[:-1].split("\n")
    assert origin == name and str(int(size)) == size
    return origin, int(size), b64(root)


def refuse_duplicates(pairs):
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), "duplicate key"
    return dict(pairs)


def strict(record):
    """True if Python's own JSON writer gives the same bytes back, numbers are small integers."""

    def number(text):
        assert abs(int(text)) < 2**53
        return int(text)

    def no_float(text):
        raise AssertionError("float")

    value = json.loads(
        record, object_pairs_hook=refuse_duplicates, parse_int=number, parse_float=no_float
    )
    again = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    # Python writes DEL as it stands, and so do records.
    assert again == record, "not the canonical spelling"
    fields = ["v", "type", "origin", "seq", "actor", "auth", "time"]
    fields += [name for name in ["estate", "engines", "conn"] if value.get(name)]
    assert list(value) == fields + ["body"] and value["v"] == 1
    assert isinstance(value["seq"], str) and str(int(value["seq"])) == value["seq"]
    assert list(value["time"]) == ["wall", "mono"]
    for character in record:
        code = ord(character)
        assert not 0xFDD0 <= code <= 0xFDEF and code & 0xFFFE != 0xFFFE, "noncharacter"
    return value


def check_records(vectors):
    for case in vectors["valid"]:
        strict(case["record"])
        assert leaf_hash(case["record"].encode()) == b64(case["leaf_hash"]), case["name"]
    for case in vectors["refused"]:
        if case["name"] == "unknown type":
            continue  # the list of types is not in this script
        try:
            strict(case["record"])
        except (AssertionError, ValueError):
            continue
        raise AssertionError("accepted: " + case["name"])


def check_commitments(vectors):
    for case in vectors["commitments"]:
        parts = [
            vectors["context"].encode(),
            bytes.fromhex(case["salt"]),
            case["field"].encode(),
            case["value"].encode(),
        ]
        data = b"".join(struct.pack(">I", len(part)) + part for part in parts)
        assert sha256(data) == b64(case["commitment"])


def texts(size):
    return [b"record %d" % n for n in range(size)]


def check_tree(vectors):
    assert b64(vectors["empty_root"]) == sha256(b"")
    leaves = [leaf_hash(text) for text in texts(len(vectors["roots"]))]
    for size, root in enumerate(vectors["roots"]):
        assert tree_root(leaves[:size]) == b64(root), size
    for case in vectors["inclusion"]:
        proof = [b64(line) for line in case["proof"]]
        part = leaves[: case["size"]]
        assert path(case["index"], part) == proof, case
        found = root_from_path(leaves[case["index"]], case["index"], case["size"], proof)
        assert found == tree_root(part), case
    for case in vectors["consistency"]:
        proof = [b64(line) for line in case["proof"]]
        old = case["old"]
        assert (subproof(old, leaves[: case["new"]], True) if old else []) == proof, case


def tile_path(kind, index, width):
    groups = ["%03d" % (index % 1000)]
    index //= 1000
    while index:
        groups.insert(0, "x%03d" % (index % 1000))
        index //= 1000
    return "tile/%s/%s" % (kind, "/".join(groups)) + ("" if width == 256 else ".p/%d" % width)


def check_tiles(vectors):
    records = texts(vectors["size"])
    hashes = [leaf_hash(record) for record in records]
    assert tree_root(hashes) == b64(vectors["root"])
    content = {}
    for index in range(0, len(records), 256):
        bundle = records[index : index + 256]
        name = tile_path("entries", index // 256, len(bundle))
        content[name] = b"".join(struct.pack(">H", len(entry)) + entry for entry in bundle)
    level = 0
    while hashes:
        above = []
        for index in range(0, len(hashes), 256):
            tile = hashes[index : index + 256]
            content[tile_path(level, index // 256, len(tile))] = b"".join(tile)
            if len(tile) == 256:
                above.append(tree_root(tile))
        hashes = above
        level += 1
    for tile in vectors["tiles"]:
        data = content[tile["path"]]
        assert len(data) == tile["bytes"], tile
        assert hashlib.sha256(data).hexdigest() == tile["sha256"], tile
    for case in vectors["paths"]:
        assert tile_path(case["level"], case["index"], 256) == case["path"]


def check_notes(vectors):
    _, _, raw = parse_key(vectors["key"])
    assert b64(vectors["public_key"])[-32:] == raw
    for note in vectors["valid"]:
        _, size, root = open_checkpoint(note, vectors["key"])
        assert size == 5 and root == tree_root([leaf_hash(text) for text in texts(5)])
    for case in vectors["refused"]:
        if Ed25519PublicKey is None and case["name"] == "changed size":
            continue
        try:
            open_checkpoint(case["note"], vectors["key"])
        except Exception:  # any refusal will do
            continue
        raise AssertionError("accepted: " + case["name"])


def check_receipts(vectors):
    for case in vectors["valid"]:
        data = b64(case["receipt"])
        assert data[0] == 1
        (length,) = struct.unpack_from(">H", data, 1)
        record, at = data[3 : 3 + length], 3 + length
        index, count = struct.unpack_from(">QB", data, at)
        at += 9
        proof = [data[at + 32 * n : at + 32 * (n + 1)] for n in range(count)]
        at += 32 * count
        (length,) = struct.unpack_from(">H", data, at)
        note = data[at + 2 :].decode()
        assert len(data) == at + 2 + length
        assert record.decode() == case["record"] and index == case["index"]
        assert leaf_hash(record) == b64(case["leaf_hash"])
        origin, size, root = open_checkpoint(note, vectors["key"])
        assert root_from_path(leaf_hash(record), index, size, proof) == root
        assert strict(case["record"])["origin"] == origin
        lines = ["c2sp.org/tlog-proof@v1", "index %d" % index]
        lines += [base64.b64encode(hash).decode() for hash in proof]
        assert case["tlog_proof"] == "\n".join(lines) + "\n\n" + note


def check_upkeep(vectors):
    leaves = [b64(leaf) for leaf in vectors["leaves"]]
    for case in vectors["valid"]:
        body = strict(case["record"])["body"]
        assert leaf_hash(case["record"].encode()) == b64(case["leaf_hash"]), case["name"]
        if case["name"] == "snapshot":
            assert tree_root(leaves[: int(body["size"])]) == b64(body["root"])
            blob = b64(vectors["snapshot_blob"])
            assert sha256(blob).hex() == body["state"]["sha256"]
            assert str(len(blob)) == body["state"]["length"]
        if "old_size" in body:
            _, size, root = open_checkpoint(body["old_checkpoint"], vectors["key"])
            assert (size, root) == (int(body["old_size"]), b64(body["old_root"]))
            assert root == tree_root(leaves[:size])
            assert tree_root(leaves[: int(body["new_size"])]) == b64(body["new_root"])


def subtree_proof(start, end, leaves, whole=True):
    """SUBTREE_PROOF of draft-ietf-plants-merkle-tree-certs, section 4.4, as it is written there."""
    if (start, end) == (0, len(leaves)):
        return [] if whole else [tree_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if end <= k:
        return subtree_proof(start, end, leaves[:k], whole) + [tree_root(leaves[k:])]
    if k <= start:
        return subtree_proof(start - k, end - k, leaves[k:], whole) + [tree_root(leaves[:k])]
    assert start == 0
    return subtree_proof(0, end - k, leaves[k:], False) + [tree_root(leaves[:k])]


def check_mirror(vectors):
    """c2sp.org/tlog-mirror, "add-entries"."""
    start, end = vectors["upload_start"], vectors["upload_end"]
    entries = [b"entry %d" % number for number in range(end)]
    leaves = [leaf_hash(entry) for entry in entries]
    assert tree_root(leaves) == b64(vectors["root"])
    origin, ticket = vectors["origin"].encode(), vectors["ticket"].encode()
    header = struct.pack(">H", len(origin)) + origin + struct.pack(">QQ", start, end)
    assert header + struct.pack(">H", len(ticket)) + ticket == b64(vectors["header"])
    firsts = range(start - start % 256, end, 256)
    assert [package["first"] for package in vectors["packages"]] == list(firsts)
    for package, first in zip(vectors["packages"], firsts):
        ours, upto = max(first, start), min(first + 256, end)
        assert (package["start"], package["end"]) == (ours, upto)
        proof = subtree_proof(first, upto, leaves)
        sent = b"".join(struct.pack(">H", len(one)) + one for one in entries[ours:upto])
        assert sent + bytes([len(proof)]) + b"".join(proof) == b64(package["package"])
    size, first, known = vectors["info"].splitlines()
    assert (size, first) == (str(end), "256") and b64(known) == ticket


def main():
    if len(sys.argv) != 2 or not pathlib.Path(sys.argv[1]).is_dir():
        sys.exit("usage: check_vectors.py DIRECTORY, which is docs/vectors/ledger")
    # Behind this file's own functions, which it uses.
    import check_cosignatures

    directory = pathlib.Path(sys.argv[1])
    checks = {
        "records": check_records,
        "commitments": check_commitments,
        "tree": check_tree,
        "tiles": check_tiles,
        "notes": check_notes,
        "receipts": check_receipts,
        "upkeep": check_upkeep,
        "mirror": check_mirror,
        **check_cosignatures.CHECKS,
    }
    # Packs are judged by verifiers/python.
    assert sorted([*checks, "packs"]) == sorted(file.stem for file in directory.glob("*.json"))
    for name, check in checks.items():
        check(json.loads((directory / name).with_suffix(".json").read_text(encoding="utf-8")))
        print(name, "ok")
    signatures = "not checked" if Ed25519PublicKey is None else "checked"
    print("all vectors hold; signatures", signatures + ", of ML-DSA", check_cosignatures.told())


if __name__ == "__main__":
    main()
