"""An independent check of a ledger's tiles, written from the C2SP specifications and RFC 6962 alone.

It shares no code and no language with the ledger: signed notes, checkpoints, entry bundles and hash tiles
are read again here. Prints one JSON line and exits with 0 if the folder holds the ledger that the
checkpoint commits to, 1 if not, 2 on wrong usage.

Usage: tiles.py FOLDER VKEY [CHECKPOINT_FILE]

FOLDER holds `checkpoint` and `tile/`; VKEY is `<origin>+<8 hex digits>+<base64>`. Partial tiles that the
checkpoint needs may be absent from the folder only if the full tile of the same name is there.
"""

import base64
import hashlib
import json
import pathlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256


class Broken(Exception):
    """The folder is not the ledger that the checkpoint commits to."""


def open_note(note, vkey):
    """The text of a note that the key signed."""
    name, key_id, encoded = vkey.split("+", 2)
    typed = base64.b64decode(encoded, validate=True)
    if typed[:1] != b"\x01" or len(typed) != 33:
        raise Broken("the key is not Ed25519")
    if hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4].hex() != key_id:
        raise Broken("the key's id is not that of its name and bytes")
    text, _, lines = note.rpartition("\n\n")
    text += "\n"
    for line in lines.splitlines():
        dash, signer, value = line.split(" ", 2)
        signature = base64.b64decode(value, validate=True)
        if dash == "\u2014" and signer == name and signature[:4].hex() == key_id:
            try:
                Ed25519PublicKey.from_public_bytes(typed[1:]).verify(signature[4:], text.encode())
            except InvalidSignature as error:
                raise Broken("the checkpoint's signature does not verify") from error
            return name, text
    raise Broken("the checkpoint is not signed by the key")


def tile_name(level, index, width):
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    name = f"tile/{level}/" + "/".join(reversed(groups))
    return name if width == WIDTH else f"{name}.p/{width}"


def read_tile(folder, level, index, width):
    for candidate in (width, WIDTH):
        path = folder / tile_name(level, index, candidate)
        if path.is_file():
            return path.read_bytes()
    raise Broken(f"{tile_name(level, index, width)} is absent")


def entries(folder, size):
    """Every record, in order."""
    for index in range((size + WIDTH - 1) // WIDTH):
        width = min(WIDTH, size - index * WIDTH)
        bundle = read_tile(folder, "entries", index, width)
        offset = 0
        for _ in range(width):
            length = int.from_bytes(bundle[offset : offset + 2], "big")
            entry = bundle[offset + 2 : offset + 2 + length]
            if len(entry) != length:
                raise Broken(f"entry bundle {index} ends too early")
            offset += 2 + length
            yield entry


def leaf_hash(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def tree_hash(leaves):
    """RFC 6962, section 2.1, over leaf hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


def check_hash_tiles(folder, leaves):
    """Every hash tile that a ledger of this size has, recomputed from the level below."""
    level, hashes, count = 0, leaves, 0
    while hashes:
        for index in range((len(hashes) + WIDTH - 1) // WIDTH):
            wanted = hashes[index * WIDTH : (index + 1) * WIDTH]
            found = read_tile(folder, level, index, len(wanted))
            if found[: 32 * len(wanted)] != b"".join(wanted):
                raise Broken(f"{tile_name(level, index, len(wanted))} does not hold the hashes below it")
            count += 1
        full = len(hashes) // WIDTH
        hashes = [tree_hash(hashes[i * WIDTH : (i + 1) * WIDTH]) for i in range(full)]
        level += 1
    return count


def check(folder, vkey, note):
    name, text = open_note(note, vkey)
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] != "" or lines[0] != name:
        raise Broken("the checkpoint is not origin, size and root")
    size, root = int(lines[1]), base64.b64decode(lines[2], validate=True)
    records = list(entries(folder, size))
    leaves = [leaf_hash(record) for record in records]
    if tree_hash(leaves) != root:
        raise Broken("the entries do not hash to the checkpoint's root")
    tiles = check_hash_tiles(folder, leaves)
    for index, record in enumerate(records):
        document = json.loads(record)
        if (document["v"], document["origin"], document["seq"]) != (1, name, str(index)):
            raise Broken(f"record {index} is not in its place")
    return {"origin": name, "size": size, "root": root.hex(), "hash_tiles": tiles}


def main():
    if len(sys.argv) not in (3, 4):
        sys.stderr.write(__doc__)
        return 2
    folder = pathlib.Path(sys.argv[1])
    note = pathlib.Path(sys.argv[3]) if len(sys.argv) == 4 else folder / "checkpoint"
    try:
        print(json.dumps({"ok": True, **check(folder, sys.argv[2], note.read_text("utf-8"))}))
    except (Broken, OSError, ValueError, KeyError) as error:
        print(json.dumps({"ok": False, "error": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
