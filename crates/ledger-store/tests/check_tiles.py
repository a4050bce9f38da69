#!/usr/bin/env python3
"""Checks a directory of C2SP tlog-tiles (checkpoint, tile/<L>/<N>, tile/entries/<N>) with Python's
standard library: every entry against its leaf hash, every tile against the one above, all against
the root of the checkpoint; its signature too if `cryptography` can be imported.

Usage: check_tiles.py DIRECTORY [<origin>+<key id>+<base64 key>]
"""

import base64
import hashlib
import pathlib
import struct
import sys

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def subtree(hashes):
    """RFC 6962, section 2.1."""
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return node(subtree(hashes[:k]), subtree(hashes[k:]))


def path(kind, index, width):
    groups = ["%03d" % (index % 1000)]
    index //= 1000
    while index:
        groups.insert(0, "x%03d" % (index % 1000))
        index //= 1000
    return "tile/%s/%s" % (kind, "/".join(groups)) + ("" if width == 256 else ".p/%d" % width)


def read_checkpoint(directory, vkey):
    note = (directory / "checkpoint").read_bytes().decode()
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    origin, size, root = text[:-1].split("\n")
    if vkey and Ed25519PublicKey is not None:
        name, key_id, key = vkey.split("+", 2)
        for line in signatures[:-1].split("\n"):
            _, signer, encoded = line.split(" ")
            signature = base64.b64decode(encoded)
            if signer == name and signature[:4].hex() == key_id:
                break
        else:
            raise SystemExit("the root of the checkpoint is not signed by " + name)
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:])
        try:
            public.verify(signature[4:], text.encode())
        except Exception:
            raise SystemExit("the root of the checkpoint has a false signature")
    return origin, int(size), base64.b64decode(root)


def tile(directory, kind, index, width):
    name = path(kind, index, width)
    data = (directory / name).read_bytes()
    if len(data) != width * 32:
        raise SystemExit("%s has %d bytes" % (name, len(data)))
    return name, [data[at : at + 32] for at in range(0, len(data), 32)]


def check_entries(directory, index, hashes):
    name = path("entries", index, len(hashes))
    data, at = (directory / name).read_bytes(), 0
    for offset, expected in enumerate(hashes):
        try:
            (length,) = struct.unpack_from(">H", data, at)
        except struct.error:
            raise SystemExit("%s ends before record %d" % (name, index * 256 + offset))
        entry = data[at + 2 : at + 2 + length]
        if hashlib.sha256(b"\x00" + entry).digest() != expected:
            raise SystemExit("record %d in %s is not its leaf" % (index * 256 + offset, name))
        at += 2 + length
    if at != len(data):
        raise SystemExit("%s has %d bytes too many" % (name, len(data) - at))


def main():
    directory = pathlib.Path(sys.argv[1])
    _, size, root = read_checkpoint(directory, sys.argv[2] if len(sys.argv) > 2 else None)
    level, count, below, edges = 0, size, None, []
    while count:
        above, edge = [], []
        for index in range((count + 255) // 256):
            width = min(256, count - index * 256)
            name, hashes = tile(directory, level, index, width)
            if below is None:
                check_entries(directory, index, hashes)
            elif hashes != below[index * 256 : index * 256 + width]:
                raise SystemExit("%s is not what the tiles below it give" % name)
            if width == 256:
                above.append(subtree(hashes))
            else:
                edge = hashes
        edges.append(edge)
        below, count, level = above, count // 256, level + 1
    # The edges of all levels, from the right: smaller subtrees lie to the right of larger ones.
    found = None
    for edge in edges:
        peaks = []
        while edge:
            k = 1 << (len(edge).bit_length() - 1)
            peaks.append(subtree(edge[:k]))
            edge = edge[k:]
        for peak in reversed(peaks):
            found = peak if found is None else node(peak, found)
    if found is None:
        found = hashlib.sha256(b"").digest()
    if found != root:
        raise SystemExit("the tiles give another root than the checkpoint")
    print("%d records under the root %s" % (size, root.hex()))


if __name__ == "__main__":
    main()
