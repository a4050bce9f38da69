"""Certificates in a Trilith pack, for trilith_verify.py: an SVID is that of its issuance, and led to a root of the
reader's trust file when it was used. Names that certificates constrain, the lengths of paths and which algorithms sign
are looked at by `trilith verify` alone. What does not hold is raised as a Failure with its code.
"""
from datetime import datetime, timezone

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from c2sp import Failure, sha256, unbase64

RECEIPT = bytes.fromhex("0614698295f7a482a7effa8ca39a9efa92a5d2bd8a2f")  # the extension's OID
MAX_CHAIN, MAX_CERTIFICATE = 8, 64 << 10

def element(data, at):
    """Where the content of the DER element at `at` begins, and where it ends."""
    begin, length = at + 2, data[at + 1]
    if length > 128:
        begin, length = begin + length - 128, int.from_bytes(data[begin : begin + length - 128])
    if begin + length > len(data):
        raise ValueError("an element ends behind its place")
    return begin, begin + length

def encode(tag, content):
    size = len(content).to_bytes(max(1, (len(content).bit_length() + 7) // 8))
    return bytes([tag]) + (size if len(content) < 128 else bytes([128 + len(size)]) + size) + content

def committed(tbs):
    """What an issuance commits to: the digest of a TBS without the receipt, which is the last of the extensions."""
    begin, end = element(tbs, 0)
    fields, last = tbs[begin:end], 0
    while element(fields, last)[1] < len(fields):
        last = element(fields, last)[1]
    begin, end = element(fields, element(fields, last)[0])
    if fields[last] != 0xA3:
        raise ValueError("no extensions")
    extensions, at = fields[begin:end], 0
    while at < len(extensions):
        begin, end = element(extensions, at)
        if extensions[begin:end].startswith(RECEIPT):
            if end < len(extensions):
                raise ValueError("the receipt is not the last extension")
            return sha256(encode(0x30, fields[:last] + encode(0xA3, encode(0x30, extensions[:at]))))
        at = end
    return sha256(tbs)

def extension(certificate, kind, critical=False):
    """The content of an extension; None without it, and where it has to be critical and is not."""
    try:
        found = certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
    return found.value if found.critical or not critical else None

def extended(certificate, *needed):
    """True if the certificate is for these uses, or does not say for which."""
    usage = extension(certificate, x509.ExtendedKeyUsage)
    return usage is None or all(one in usage for one in needed)

def signs(authority):
    """True if the certificate is of an authority."""
    constraints, usage = (extension(authority, kind) for kind in (x509.BasicConstraints, x509.KeyUsage))
    return constraints is not None and constraints.ca and usage is not None and usage.key_cert_sign

def key_digest(certificate):
    return sha256(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

def path(certificate, authorities, roots, at, left=MAX_CHAIN):
    """The authorities from this certificate's issuer up to a root, each of which is valid at that time; None if no
    path leads there."""
    for issuer in roots + (authorities if left else []):
        try:
            valid = issuer.not_valid_before_utc <= at <= issuer.not_valid_after_utc
            fit = issuer in roots or signs(issuer) and extended(issuer, ExtendedKeyUsageOID.CLIENT_AUTH)
            if not valid or not fit:
                continue
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            continue
        above = [] if issuer in roots else path(issuer, authorities, roots, at, left - 1)
        if above is not None:
            return [issuer, *above]
    return None

def is_of(svid, issuance, domain):
    """True if an SVID is that of an issuance whose digest it has."""
    usage, names = extension(svid, x509.KeyUsage, critical=True), extension(svid, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    times = [int(time.timestamp()) for time in (svid.not_valid_before_utc, svid.not_valid_after_utc)]
    return (
        uris == [issuance["spiffe_id"]] and uris[0].startswith(f"spiffe://{domain}/") and not signs(svid)
        and usage is not None and usage.digital_signature and not usage.key_cert_sign and not usage.crl_sign
        and extended(svid, ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
        and format(svid.serial_number, "x").zfill(len(issuance["serial"])) == issuance["serial"]
        and times == [issuance["not_before"], issuance["not_after"]]
        and key_digest(svid) == unbase64(issuance["key"])
    )

def check_certificates(sections, records, domain, roots):
    """The SVIDs of the pack by digest, with the issuance of each."""
    def fail(name, what):
        raise Failure("PACK-CERTIFICATE", name, what)
    found = {name: content for name, content in sections.items() if name.startswith("certificate/")}
    for name, der in found.items():
        if "certificate/" + sha256(der).hex() != name:
            fail(name, "its content does not have the digest that is its name")
    try:
        roots = [x509.load_der_x509_certificate(root) for root in roots] if found else []
    except ValueError:
        roots = []
    if found and not roots:
        fail(next(iter(found)), "the trust file has no root certificates, or one that cannot be read")
    issued, sessions, svids, authorities, used, told = {}, {}, {}, {}, [], {}
    for (number, index), record in records.items():
        if record.kind == "session-start" and record.body.get("issuance") is not None:
            sessions.setdefault(int(record.body["issuance"]), []).append(record.wall)
        if record.kind == "issuance" and number == 0 and record.body["kind"] == "x509":
            issued[unbase64(record.body["tbs"])] = index, record
    for name, der in found.items():
        try:
            certificate = x509.load_der_x509_certificate(der)
            digest = committed(certificate.tbs_certificate_bytes)
            if len(der) > MAX_CERTIFICATE or len(certificate.extensions) == 0:
                raise ValueError("it is too long, or has no extensions")
        except (ValueError, IndexError) as error:
            fail(name, f"it cannot be read: {error}")
        kind = svids if digest in issued else authorities
        kind[name] = certificate, digest
    above = [certificate for certificate, _ in authorities.values()]
    for name, (svid, digest) in svids.items():
        index, record = issued[digest]
        if len(above) >= MAX_CHAIN or not is_of(svid, record.body, domain):
            fail(name, "it is another than the issuance says, or too many are beside it")
        walls = sessions.get(index, [record.wall])
        for wall in {min(walls), max(walls)}:
            at = datetime.fromtimestamp(wall // 1000, timezone.utc)
            chain = path(svid, above, roots, at)
            if not svid.not_valid_before_utc <= at <= svid.not_valid_after_utc or chain is None:
                fail(name, "it was not valid when it was used, or leads to no root of the trust file")
            if key_digest(chain[0]) != unbase64(record.body["issuer"]):
                fail(name, "another authority issued it than the issuance says")
            used += chain[:-1]  # the last is a root, which the trust file has and no pack needs
        told[name.partition("/")[2]] = index
    for name, (authority, _) in authorities.items():
        if authority not in used:
            fail(name, "no issuance of the pack commits to it, and no SVID of the pack rests on it")
    return told
