"""Certificates in a pack: an SVID is that of its issuance, and led to a root of the reader's trust
file when it was used. What does not hold is a Failure `PACK-CERTIFICATE`."""
from contextlib import suppress
from datetime import datetime, timezone

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID as Use

from c2sp import MALFORMED, Failure, check, inside, sha256, unbase64

RECEIPT = bytes.fromhex("0614698295f7a482a7effa8ca39a9efa92a5d2bd8a2f")  # the extension's OID
MAX_CHAIN, MAX_CERTIFICATE = 8, 64 << 10

def elements(der):
    """The DER elements that some content consists of: each whole, and its content."""
    found, at = [], 0
    while at < len(der):
        begin, length = at + 2, der[at + 1]
        if length > 128:
            begin, length = begin + length - 128, int.from_bytes(der[begin : begin + length - 128])
        end = begin + length
        check(end <= len(der))
        found.append((der[at:end], der[begin:end]))
        at = end
    return found

def encode(tag, parts):
    content = b"".join(parts)
    size = len(content).to_bytes(4).lstrip(b"\0")
    head = [len(content)] if len(content) < 128 else [128 + len(size), *size]
    return bytes([tag, *head]) + content

def committed(tbs):
    """What an issuance commits to: the digest of a TBS without the receipt, its last extension."""
    *fields, (extensions, content) = elements(elements(tbs)[0][1])
    *others, (_, last) = elements(elements(content)[0][1])
    check(extensions[0] == 0xA3 and not any(other.startswith(RECEIPT) for _, other in others))
    kept = encode(0xA3, [encode(0x30, [other for other, _ in others])])
    without = encode(0x30, [field for field, _ in fields] + [kept])
    return sha256(without if last.startswith(RECEIPT) else tbs)

def extension(certificate, kind):
    return next((one for one in certificate.extensions if isinstance(one.value, kind)), None)

def extended(certificate, *needed):
    """True if the certificate is for these uses, or does not say for which."""
    usage = extension(certificate, x509.ExtendedKeyUsage)
    return usage is None or all(one in usage.value for one in needed)

def signs(certificate):
    """True if the certificate is of an authority."""
    constraints = extension(certificate, x509.BasicConstraints)
    usage = extension(certificate, x509.KeyUsage)
    return bool(constraints and constraints.value.ca and usage and usage.value.key_cert_sign)

def key_digest(certificate):
    key = certificate.public_key()
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

def valid(certificate, at):
    return certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc

def path(certificate, authorities, roots, at, left=MAX_CHAIN):
    """From the certificate's issuer up to a root, each of them valid at that time."""
    for issuer in roots + (authorities if left else []):
        with suppress(*MALFORMED):
            check(issuer in roots or signs(issuer) and extended(issuer, Use.CLIENT_AUTH))
            check(valid(issuer, at))
            certificate.verify_directly_issued_by(issuer)
            above = [] if issuer in roots else path(issuer, authorities, roots, at, left - 1)
            return [issuer, *above]
    raise Failure("PACK-CERTIFICATE")

def is_of(svid, issuance, domain):
    """True if an SVID is that of an issuance whose digest it has."""
    usage, names = [extension(svid, kind) for kind in (x509.KeyUsage, x509.SubjectAlternativeName)]
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    times = [svid.not_valid_before_utc.timestamp(), svid.not_valid_after_utc.timestamp()]
    return (
        uris == [issuance["spiffe_id"]] and uris[0].startswith(f"spiffe://{domain}/")
        and usage is not None and usage.critical and usage.value.digital_signature
        and not (usage.value.key_cert_sign or usage.value.crl_sign or signs(svid))
        and extended(svid, Use.SERVER_AUTH, Use.CLIENT_AUTH)
        and format(svid.serial_number, "x").zfill(len(issuance["serial"])) == issuance["serial"]
        and list(map(int, times)) == [issuance["not_before"], issuance["not_after"]]
        and key_digest(svid) == unbase64(issuance["key"])
    )

def check_certificates(sections, ledgers, domain, roots):
    """The SVIDs of the pack by digest, with the issuance of each."""
    found = {name: der for name, der in sections.items() if name.startswith("certificate/")}
    for name, der in found.items():
        check("certificate/" + sha256(der).hex() == name, "PACK-CERTIFICATE", name)
    with inside(next(iter(found), ""), "PACK-CERTIFICATE"):
        roots = [x509.load_der_x509_certificate(root) for root in roots if found]
        check(roots or not found)
    records = [record for ledger in ledgers for record in ledger.records.values()]
    issued = {unbase64(record.body["tbs"]): index for index, record in ledgers[0].records.items()
              if record.kind == "issuance" and record.body["kind"] == "x509"}
    svids, authorities, used, told = {}, {}, [], {}
    for name, der in found.items():
        with inside(name, "PACK-CERTIFICATE"):
            certificate = x509.load_der_x509_certificate(der)
            digest = committed(certificate.tbs_certificate_bytes)
            check(len(der) <= MAX_CERTIFICATE and len(certificate.extensions) > 0)
            (svids if digest in issued else authorities)[name] = certificate, issued.get(digest)
    above = [authority for authority, _ in authorities.values()]
    for name, (svid, index) in svids.items():
        record = ledgers[0].records[index]
        walls = [one.wall for one in records if one.kind == "session-start"
                 and one.body["issuance"] == str(index)] or [record.wall]
        with inside(name, "PACK-CERTIFICATE"):
            check(len(above) < MAX_CHAIN and is_of(svid, record.body, domain))
            for wall in {min(walls), max(walls)}:
                at = datetime.fromtimestamp(wall // 1000, timezone.utc)
                issuer, *chain = path(svid, above, roots, at)
                check(valid(svid, at) and key_digest(issuer) == unbase64(record.body["issuer"]))
                used += [issuer, *chain]
        told[name.partition("/")[2]] = index
    for name, (authority, _) in authorities.items():
        check(authority in used and authority not in roots, "PACK-CERTIFICATE", name)
    return told
