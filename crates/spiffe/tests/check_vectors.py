#!/usr/bin/env python3
"""Takes docs/vectors/svid/receipts.json apart with Python's standard library: X.690 and what the README
there says, not the Rust code. Signatures of certificates are the business of any X.509 library.

Usage: check_vectors.py DIRECTORY
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys


def b64(text):
    return base64.b64decode(text, validate=True)


def element(data, at=0):
    """Tag, content, and the offset after the element at `at` (definite lengths only)."""
    tag, length, at = data[at], data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(data[at : at + count], "big")
        at += count
    assert at + length <= len(data)
    return tag, data[at : at + length], at + length


def elements(data):
    at, found = 0, []
    while at < len(data):
        begin = at
        tag, content, at = element(data, at)
        found.append((tag, content, data[begin:at]))
    return found


def encode(tag, content):
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def oid(dotted):
    first, second, *rest = map(int, dotted.split("."))
    out = b""
    for number in [first * 40 + second, *rest]:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | number & 0x7F)
        out += bytes(reversed(groups))
    return encode(6, out)


def take_apart(certificate, extension):
    """The receipt and the TBS without it; `None` and the TBS if there is none."""
    tag, content, end = element(certificate)
    assert tag == 0x30 and end == len(certificate)
    tbs = elements(content)[0]
    fields = elements(tbs[1])
    tag, explicit, _ = fields[-1]
    assert tag == 0xA3
    extensions = elements(element(explicit)[1])
    (_, last, _) = extensions[-1]
    parts = elements(last)
    if parts[0][2] != oid(extension):
        return None, tbs[2]
    assert [tag for tag, _, _ in parts] == [6, 4], "not critical, one OCTET STRING"
    kept = b"".join(whole for _, _, whole in extensions[:-1])
    head = b"".join(whole for _, _, whole in fields[:-1])
    # The extension's value holds the receipt as an OCTET STRING of its own.
    tag, receipt, end = element(parts[1][1])
    assert tag == 4 and end == len(parts[1][1])
    return receipt, encode(0x30, head + encode(0xA3, encode(0x30, kept)))


def record_of(receipt):
    assert receipt[0] == 1
    (length,) = struct.unpack_from(">H", receipt, 1)
    return json.loads(receipt[3 : 3 + length])


def main():
    if len(sys.argv) != 2 or not pathlib.Path(sys.argv[1]).is_dir():
        sys.exit("usage: check_vectors.py DIRECTORY, which is docs/vectors/svid")
    path = pathlib.Path(sys.argv[1]) / "receipts.json"
    vectors = json.loads(path.read_text(encoding="utf-8"))
    for case in vectors["valid"]:
        receipt, tbs = take_apart(b64(case["chain"][0]), vectors["extension"])
        assert receipt == b64(case["receipt"])
        assert tbs == b64(case["tbs_without_receipt"])
        body = record_of(receipt)["body"]
        assert b64(body["tbs"]) == hashlib.sha256(tbs).digest()
        assert (body["spiffe_id"], body["serial"]) == (case["spiffe_id"], case["serial"])
    for case in vectors["refused"]:
        receipt, tbs = take_apart(b64(case["chain"][0]), vectors["extension"])
        if case["name"] == "no receipt":
            assert receipt is None
        elif case["name"].startswith("a genuine receipt"):
            assert b64(record_of(receipt)["body"]["tbs"]) != hashlib.sha256(tbs).digest()
    print("all vectors hold")


if __name__ == "__main__":
    main()
