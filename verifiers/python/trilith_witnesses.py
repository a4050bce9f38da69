"""Who else saw a checkpoint, for trilith_verify.py: trust policies (c2sp.org/tlog-policy) and the lines of their
witnesses (c2sp.org/tlog-cosignature), by Ed25519 and by ML-DSA-44. What is no policy is raised as a ValueError.
"""
import re
from collections import namedtuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from trilith_ledger import U64, Failure, decimal, is_origin, sha256, unbase64

MAX_POLICY, MAX_EACH = 256 << 10, 32
ED25519_NOTE, ED25519, ML_DSA_44 = 0x01, 0x04, 0x06
LENGTHS = {ED25519_NOTE: 32, ED25519: 32, ML_DSA_44: 1312}

class Cosigner(namedtuple("Cosigner", "name kind raw")):
    id = property(lambda self: sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.raw)[:4])

# `parties` has, by name, a witness's place or a group's threshold and members; `quorum` is a name, or None.
Policy = namedtuple("Policy", "logs witnesses parties quorum")

def expect(good, what):
    if not good:
        raise ValueError(what)

def parse_cosigner(text, kinds):
    name, id, encoded = (text.split("+", 2) + ["", ""])[:3]
    typed = unbase64(encoded) or b"\0"
    expect(typed[0] in kinds and len(typed) == 1 + LENGTHS[typed[0]] and is_origin(name), "a key of no known kind")
    key = Cosigner(name, typed[0], typed[1:])
    expect(key.id.hex() == id, "a key whose id is another")
    return key

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
            policy.logs.append(parse_cosigner(items[0], LENGTHS))
        elif kind == "witness":
            expect(len(items) in (2, 3) and items[0] not in {"none", *policy.parties}, "witness <name> <vkey> [<url>]")
            policy.parties[items[0]] = len(policy.witnesses)
            policy.witnesses.append(parse_cosigner(items[1], (ED25519, ML_DSA_44)))
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
        name, origin = witness.name.encode(), origin.encode()
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
        ours = [signature for name, id, signature in signatures if (name, id) == (witness.name, witness.id)]
        times = [verify_line(witness, text, line) for line in ours]
        if len(ours) > 1 or None in times:
            raise Failure("LEDGER-NOTE-SIGNATURE", where, f"the line of {witness.name} does not verify")
        found.append(bool(ours))
        lines += [(witness, time) for time in times]
    reached = {}
    for name, party in policy.parties.items():
        is_witness = isinstance(party, int)
        reached[name] = found[party] if is_witness else sum(reached[one] for one in party[1]) >= party[0]
    return lines, policy.quorum is None or reached[policy.quorum]
