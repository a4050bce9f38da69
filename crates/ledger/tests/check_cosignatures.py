"""The vectors of cosignatures, policies and witnesses, recomputed from the specifications (C2SP
tlog-cosignature, tlog-policy, tlog-witness, tlog-proof). Run by check_vectors.py.
"""

import struct

from check_vectors import (
    b64,
    leaf_hash,
    open_checkpoint,
    root_from_path,
    sha256,
    subproof,
    texts,
    tree_root,
)



def open_pack(pack):
    """The sections of a pack by name, in order."""
    head, rest = pack.split(b"\n", 1)
    magic, length, digest = head.decode().split(" ")
    assert magic == "trilith-pack/1"
    table, contents = rest[: int(length)], rest[int(length) :]
    assert len(table) == int(length) and sha256(table).hex() == digest
    sections = {}
    for line in table.decode().splitlines():
        size, digest, name = line.split(" ")
        content, contents = contents[: int(size)], contents[int(size) :]
        assert len(content) == int(size) and sha256(content).hex() == digest
        assert name not in sections
        sections[name] = content
    assert not contents
    return sections


try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None
try:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
except ImportError:
    MLDSA44PublicKey = None


class Refused(Exception):
    pass


def cosigner(vkey):
    """Name, key id, kind and raw key."""
    name, key_id, encoded = vkey.split("+", 2)
    typed = b64(encoded)
    if (typed[0], len(typed)) not in ((4, 33), (6, 1313)):
        raise Refused("not a cosigner's key")
    if sha256(name.encode() + b"\n" + typed)[:4].hex() != key_id:
        raise Refused("key id")
    return name, bytes.fromhex(key_id), typed[0], typed[1:]


def cosigned_at(note, vkey):
    """The time of that cosigner's line; None if it has none."""
    name, key_id, kind, raw = cosigner(vkey)
    text, lines = note.rsplit("\n\n", 1)
    text += "\n"
    ours = []
    for line in lines[:-1].split("\n"):
        _, signer, encoded = line.split(" ")
        if signer == name and b64(encoded)[:4] == key_id:
            ours.append(b64(encoded)[4:])
    if not ours:
        return None
    if len(ours) > 1 or len(ours[0]) != 8 + (64 if kind == 4 else 2420):
        raise Refused("a line of the wrong length, or two")
    (time,) = struct.unpack_from(">Q", ours[0])
    if kind == 4:
        message, key = f"cosignature/v1\ntime {time}\n{text}".encode(), Ed25519PublicKey
    else:
        origin, size, root = text.split("\n")[:3]
        message = b"subtree/v1\n\0" + bytes([len(name.encode())]) + name.encode()
        message += struct.pack(">Q", time) + bytes([len(origin.encode())]) + origin.encode()
        message += struct.pack(">QQ", 0, int(size)) + b64(root)
        key = MLDSA44PublicKey
    if key is not None:
        try:
            key.from_public_bytes(raw).verify(ours[0][8:], message)
        except Exception as error:
            raise Refused("signature") from error
    return time


def check_cosignatures(vectors):
    for case in vectors["valid"]:
        open_checkpoint(case["note"], vectors["log_key"])
        assert cosigned_at(case["note"], case["key"]) == case["time"], case["name"]
    for case in vectors["refused"]:
        if None in (Ed25519PublicKey, MLDSA44PublicKey):
            continue
        try:
            cosigned_at(case["note"], case["key"])
        except Refused:
            continue
        raise AssertionError("accepted: " + case["name"])


class Policy:
    """Reads a policy; `reached` takes the names of the witnesses that have cosigned."""

    def __init__(self, text):
        self.parties, self.keys, members, quorums = {}, {}, set(), []
        seen = set()
        for line in text.split("\n"):
            if any(ord(c) < 0x20 and c != "\t" or ord(c) == 0x7F for c in line):
                raise Refused("control character")
            items = line.replace("\t", " ").split()
            if not items or items[0].startswith("#"):
                continue
            word, rest = items[0], items[1:]
            if word == "witness" and len(rest) in (2, 3):
                self.define(rest[0], None)
                key = cosigner(rest[1])
                if key[3] in seen:
                    raise Refused("one key twice")
                seen.add(key[3])
                self.keys[rest[0]] = rest[1]
            elif word == "group" and len(rest) > 2:
                name, threshold, listed = rest[0], rest[1], rest[2:]
                for member in listed:
                    if member not in self.parties or member in members:
                        raise Refused("member " + member)
                    members.add(member)
                number = {"any": "1", "all": str(len(listed))}.get(threshold, threshold)
                if str(int(number)) != number or not 1 <= int(number) <= len(listed):
                    raise Refused("threshold")
                self.define(name, (int(number), listed))
            elif word == "quorum" and len(rest) == 1:
                if rest[0] != "none" and rest[0] not in self.parties:
                    raise Refused("quorum of nothing")
                quorums.append(rest[0])
            elif word != "log":
                raise Refused("line")
        if len(quorums) != 1:
            raise Refused("quorums")
        self.quorum = quorums[0]

    def define(self, name, party):
        if name == "none" or name in self.parties:
            raise Refused("name")
        self.parties[name] = party

    def reached(self, cosigned):
        def witnessed(name):
            if self.parties[name] is None:
                return name in cosigned
            threshold, listed = self.parties[name]
            return sum(map(witnessed, listed)) >= threshold

        return self.quorum == "none" or witnessed(self.quorum)

    def judge(self, note):
        cosigned = [name for name, key in self.keys.items() if cosigned_at(note, key) is not None]
        return self.reached(cosigned), [self.keys[name].split("+")[0] for name in cosigned]


def check_policies(vectors):
    for case in vectors["judged"]:
        policy = Policy(case["policy"])
        for note in case["notes"]:
            assert policy.judge(note["note"]) == (note["reached"], note["witnesses"]), case["name"]
    for case in vectors["refused"]:
        try:
            Policy(case["policy"])
        except Refused:
            continue
        raise AssertionError("accepted: " + case["name"])


def request(body):
    """Old size, proof and note of an add-checkpoint request."""
    head, note = body.split("\n\n", 1)
    first, *proof = head.split("\n")
    word, old = first.split(" ")
    assert word == "old" and str(int(old)) == old
    return int(old), [b64(line) for line in proof], note


def prove(text, leaf, log_key, policy):
    """A tlog-proof of that leaf, under the policy's quorum."""
    head, rest = text.split("\n\n", 1)
    first, index, *proof = head.split("\n")
    assert first == "c2sp.org/tlog-proof@v1" and index.startswith("index ")
    _, size, root = open_checkpoint(rest, log_key)
    assert policy.judge(rest)[0]
    assert root_from_path(leaf, int(index[6:]), size, [b64(line) for line in proof]) == root


def check_witness(vectors):
    for case in vectors["requests"]:
        old, proof, note = request(case["body"])
        _, size, root = open_checkpoint(note, vectors["log_key"])
        leaves = [leaf_hash(text) for text in texts(size)]
        assert tree_root(leaves) == root
        assert proof == (subproof(old, leaves, True) if old else [])
    ok, conflict, _ = vectors["answers"]
    whole = note + ok["body"]
    assert all(cosigned_at(whole, key) for key in vectors["witnesses"])
    assert conflict["body"] == "5\n" and conflict["content_type"] == "text/x.tlog.size"
    policy = Policy(vectors["trust"]["policy"])
    leaf = b64(vectors["tlog_proof"]["leaf_hash"])
    prove(vectors["tlog_proof"]["proof"], leaf, vectors["log_key"], policy)

    pack = vectors["pack"]
    note = open_pack(b64(pack["pack"]))["checkpoint/0"].decode()
    open_checkpoint(note, pack["trust"]["ledger_key"])
    reached, witnesses = Policy(pack["trust"]["policy"]).judge(note)
    assert reached and witnesses == pack["witnesses"]
    # A pack has the ledger's line and those of the policy's witnesses, and no other.
    assert note.rsplit("\n\n", 1)[1].count("\n") == 1 + len(witnesses)


def check_peers(vectors):
    for exchange in vectors["exchanges"]:
        _, _, note = request(exchange["request"])
        if exchange["status"] == 200:
            keys = [vectors["witnesses"][name] for name in ("witness_ml_dsa_44", "witness_ed25519")]
            assert all(cosigned_at(note + exchange["answer"], key) for key in keys)
    for key in vectors["witnesses"].values():
        assert cosigned_at(vectors["foreign_checkpoint"], key)
    assert cosigned_at(vectors["ml_dsa_44_checkpoint"], vectors["pq_log"]["key"])
    lines = [f"witness {name} {key}\n" for name, key in vectors["witnesses"].items()]
    policy = Policy("".join(lines) + "group g 2 " + " ".join(vectors["witnesses"]) + "\nquorum g\n")
    proof = vectors["tlog_proof"]
    prove(proof["proof"], leaf_hash(proof["record"].encode()), vectors["log"]["key"], policy)


CHECKS = {
    "cosignatures": check_cosignatures,
    "policies": check_policies,
    "witness": check_witness,
    "peers": check_peers,
}


def told():
    return "not checked" if MLDSA44PublicKey is None else "checked"
