#!/usr/bin/env python3
"""Verifies a Trilith pack: a second reading of the format, which shares no code with `trilith verify`.

    python3 trilith_verify.py PACK --trust FILE [--json]

It opens these two files, asks no network, and needs Python 3.11 and `cryptography`. Trust comes from FILE alone:
the trust domain and the Ed25519 key of the server's ledger. The first thing that fails is named. In this order:
 1. the container: header, table, order, digest and end of each section;
 2. the question, which has one spelling and which nothing vouches for;
 3. the server's checkpoint: a C2SP signed note by the trusted key for its own origin, and beside that
    line none but those of the witnesses whom the trust file's policy names, each verified;
 4. the records of the server's ledger: RFC 6962 inclusion, one spelling of strict I-JSON, envelope, shape of the
    body by its type; a `begin` record names the trusted domain and key;
 5. the anchors among them: key, signed note, size and root of each gateway's ledger, and one key a ledger;
 6. each gateway's checkpoint, which an anchor states to the byte, and the records under it as in 4;
 7. tiles and entry bundles: all of a ledger or none, from each record up to the checkpoint's root;
 8. completeness: the answers are found again, among all entries where those are there. None is missing, and no
    record is there that neither answers nor is rested on;
 9. blobs: a record names each, by its digest.
NOT checked here: whether a decision follows from its estate (no Cedar policy is evaluated again) or a verdict from
its evidence (no quote, event log or certificate is judged again): `trilith verify` does both, and refuses what does
not with PACK-DECISION or PACK-VERDICT. Not checked by either: whether others were shown another history where the
policy's quorum is not reached, or a newer one (a pack has one checkpoint a ledger).
A pack with certificates is refused.
This file has the pack, trilith_ledger.py what ledgers are made of, trilith_witnesses.py who else saw them.

Exit: 0 verified, which is not yet complete: read the first line, or "complete"; 1 a file cannot be read, or the
trust file is none; 2 usage; 3 the pack does not verify. The codes are those of docs/reference/findings.md.
"""
import argparse, base64, collections, datetime, json, os, re, stat, sys, tomllib

sys.dont_write_bytecode = True  # nothing is written, not even beside this file
from trilith_ledger import (
    ENTRIES, RECORD, SCALARS, TILES, U64, Failure, Key, Tile, check_inclusion, check_tiles,
    compact, decimal, distinct, entry_at, fits, integer, is_origin, is_text, leaf_hash, open_checkpoint, parse_key,
    parse_record, section_key, sha256, unbase64,
)
from trilith_witnesses import ED25519, ED25519_NOTE, ML_DSA_44, judge, parse_policy

MAX_PACK, MAX_TRUST, MAX_TABLE, MAX_LINE, MAX_QUESTION, MAX_PROOF = 1 << 30, 1 << 20, 64 << 20, 4096, 4096, 64

def read_trust(data):
    """The reader's own file, never the pack's: JSON as `trilith trust` prints it, or TOML with the same fields."""
    def check(good, what):
        if not good:
            raise Failure("VERIFY-TRUST-FILE", "the trust file", f"it is not a trust file: {what}")
    try:
        text = data.decode()
        found = json.loads(text, object_pairs_hook=distinct) if text.lstrip()[:1] == "{" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        check(False, error)
    roots, known = found.pop("x509_authorities", []), {"trust_domain", "ledger_key"}
    text = found.pop("policy", None)
    check(set(found) == known and all(map(is_text, found.values())), "fields are missing, unknown or no text")
    check(isinstance(roots, list) and all(unbase64(root) is not None for root in roots), "its x509_authorities")
    domain, key = found["trust_domain"], parse_key(found["ledger_key"])
    check(key, "its ledger_key is no <origin>+<id>+<base64 of an Ed25519 key>")
    check(re.fullmatch("[a-z0-9._-]{1,255}", domain), f"{domain!r} is no trust domain")
    check(key.origin.startswith(domain + "/"), f"its ledger key is of {key.origin}, not of the trust domain {domain}")
    try:
        policy = None if text is None else parse_policy(text)
    except (ValueError, AttributeError) as error:
        check(False, f"its policy: {error}")
    own = (key.origin, ED25519_NOTE, key.raw)
    check(policy is None or not policy.logs or own in policy.logs, "its policy is of other logs than its ledger key")
    return domain, key, policy

# The container.

def line_at(data, at):
    """The three words of the line that begins here, and where the next one begins; None and 0 if it has not three."""
    end = data.find(b"\n", at, at + MAX_LINE)
    try:
        words = data[at : max(end, at)].decode().split(" ")
    except UnicodeDecodeError:
        words = []
    return (words, end + 1) if len(words) == 3 and end >= 0 else ((None,) * 3, 0)

def read_pack(pack):
    """The sections by name, in order. Every byte is under a digest that was checked, or is one."""
    (magic, length, digest), at = line_at(pack, 0)
    length = decimal(length)
    if magic != "trilith-pack/1" or length is None or length > MAX_TABLE or at + length > len(pack):
        raise Failure("PACK-FORMAT", "the header", "it is no pack of version 1")
    table, sections, last, start, at = pack[at : at + length], {}, (-1,), at + length, 0
    if sha256(table).hex() != digest:
        raise Failure("PACK-DIGEST", "the table of sections", "it does not have the digest of the header")
    while at < len(table):
        (size, digest, name), at = line_at(table, at)
        key, size = section_key(name or ""), decimal(size)
        if key is None or size is None or not SCALARS["h"](digest) or key <= last:
            raise Failure("PACK-FORMAT", "the table of sections", "a line names no section, or not in order")
        last, start, content = key, start + size, pack[start : start + size]
        if start > len(pack):
            raise Failure("PACK-FORMAT", name, "the pack ends before it does")
        if sha256(content).hex() != digest:
            raise Failure("PACK-DIGEST", name, "it does not have the digest of the table")
        sections[name] = content
    if start != len(pack):
        raise Failure("PACK-FORMAT", "the last section", f"{len(pack) - start} bytes follow it")
    return sections

# What a pack answers, and which records do.

def read_question(text):
    try:
        value = json.loads(text.decode(), parse_float=integer, parse_constant=integer)
        printable = not any(re.search("[\x00-\x1f\x7f-\x9f]", str(item)) for item in value.values())
        known = value["kind"] in ("access", "record", "issuance") and fits(value, value["kind"].title())
        if len(text) <= MAX_QUESTION and compact(value).encode() == text and printable and known:
            return value
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        pass
    raise Failure("PACK-QUESTION", "question.json", "it is missing, or no question in its one spelling")

def is_about(question, origin, server):
    """True if the question is put to this ledger."""
    if question["kind"] != "record":
        return server == (question["kind"] == "issuance")
    named = question["ledger"] == origin or not server and question["ledger"] == origin.rpartition("/")[2]
    return server if question["ledger"] in ("", "server") else named

class Answers:
    """Finds the answers in one ledger, whose records it sees in order, with what each belongs to."""
    def __init__(self, question, domain, origin, server):
        self.question = question if is_about(question, origin, server) else {"kind": "nothing"}
        identity = question.get("identity", "")
        self.identity = identity if identity.startswith("spiffe://") else f"spiffe://{domain}/{identity}"
        self.found, self.total, self.sessions, self.intents = collections.deque(), 0, {}, {}

    def see(self, index, record):
        belongs = self.answers(index, record)
        if belongs is not None:
            self.total += 1
            self.found.append({index, *belongs} - {None})
            if len(self.found) > self.question.get("newest", U64):
                self.found.popleft()

    def answers(self, index, record):
        """The session and intent that an answer belongs to; None if the record does not answer."""
        kind, body, asked = record.kind, record.body, self.question
        def text(*path):
            value = body
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            return value if is_text(value) else None
        if asked["kind"] == "record":
            return [] if index == asked["index"] else None
        if asked["kind"] == "issuance":
            issued = kind == "issuance" and fits(body, kind, exact=False) and body["serial"] == asked["serial"]
            return [] if issued else None
        if asked["kind"] != "access" or kind not in ("session-start", "session-end", "intent", "decision", "outcome"):
            return None
        if kind == "outcome":
            seq = re.fullmatch("[+]?0*([0-9]{1,20})", text("intent") or "")
            return self.intents.get(int(seq[1])) if seq else None
        start = self.sessions.get(text("session"))
        if kind == "session-start" and text("spiffe_id") == self.identity and text("session") is not None:
            self.sessions[text("session")] = index
        who = (record.actor, text("spiffe_id"), text("about", "spiffe_id"), text("target", "value"))
        if self.identity not in who and text("session") not in self.sessions:
            return None
        if kind in ("intent", "decision") and "resource" in asked and not touches(body, asked["resource"]):
            return None
        if kind == "intent":
            self.intents[record.seq] = [start, index]
        return [start]

def touches(body, resource):
    """True if a record is about a resource, or may be: a list that was cut may have held it."""
    actions = body["actions"] if isinstance(body.get("actions"), list) else []
    actions = [action for action in actions if isinstance(action, dict)]
    lists = [action["resources"] for action in actions if isinstance(action.get("resources"), list)]
    names = [name for names in lists + [[body.get("resource")]] for name in names if is_text(name)]
    return any("more" in action for action in actions) or any(
        name == resource or f'"{resource}"' in name for name in names)

def grounds(record):
    """What a record rests on: places in the server's ledger, and blobs."""
    body, kind, places, blobs = record.body, record.kind, [record.estate], []
    if kind == "decision":
        body = body.get("about", {})
    for field, of in (("session-start", "issuance"), ("decision", "issuance"), ("issuance", "verdict"),
                      ("estate-version", "proof_index"), ("proof", "approval_index")):
        places += [body.get(of)] if kind == field else []
    if kind == "verdict":
        blobs = body["evidence"] + [body["facts_blob"]]
    elif kind in ("estate-version", "proof", "invariant-approval"):
        blobs = [body["subject" if kind == "invariant-approval" else "blob"]]
    return [int(place) for place in places if place is not None], [blob["sha256"] for blob in blobs if blob]

# The whole.

def verify(pack, domain, key, policy=None):
    """What a pack shows to whoever trusts `key` for `domain`, and `policy`: as `trilith verify --json` says it."""
    sections = read_pack(pack)
    question = read_question(sections.get("question.json", b""))
    records, heads, anchored, keys, used = {}, [], {}, {}, []
    def note(number):
        try:
            return sections[f"checkpoint/{number}"].decode()
        except (KeyError, UnicodeDecodeError):
            raise Failure("PACK-CHECKPOINT", f"checkpoint/{number}", "it is missing or not text") from None
    head, text, lines = open_checkpoint(note(0), key, "checkpoint/0")
    cosigned, reached = judge(policy, text, lines, "checkpoint/0") if policy else ([], True)
    if len(lines) != 1 + len(cosigned):
        raise Failure("PACK-CHECKPOINT", "checkpoint/0", "it has a signature line of a key that nobody trusts")
    heads.append(head)
    read_records(sections, 0, head, records)
    for (_, index), record in records.items():
        check_begin(index, record, domain, key)
    for (_, index), record in records.items():
        if record.kind == "anchor":
            checkpoint, opened = open_anchor(record.body, f"record/0/{index}", keys)
            anchored.setdefault(checkpoint, (index, opened))
    numbers = [name for name in sections if name.startswith("checkpoint/") and name != "checkpoint/0"]
    for number, text in enumerate([note(number) for number in range(1, len(numbers) + 1)], 1):
        if text not in anchored:
            raise Failure("PACK-ANCHOR", f"checkpoint/{number}", "no anchor of the pack states this checkpoint")
        used.append(anchored[text][0])
        heads.append(anchored[text][1])
        read_records(sections, number, heads[number], records)
    tiles = {number: {} for number in range(len(heads))}
    for name, content in sections.items():
        kind, number, *rest = section_key(name) + (0,)
        if kind in (RECORD, TILES) and number >= len(heads):
            raise Failure("PACK-CHECKPOINT", name, "the pack has no such checkpoint")
        if kind == TILES:
            tiles[number][Tile(*rest[:3])] = content
    entries = {}  # by ledger: its entry bundles, where they are there
    for number, under in enumerate(heads):
        bundles = {tile: data for tile, data in tiles[number].items() if tile.level == ENTRIES}
        if tiles[number]:
            check_tiles(number, under, tiles[number], bundles)
        if bundles:
            entries[number] = bundles
        for tile in tiles[number]:
            raise Failure("PACK-TILE", f"tiles/{number}/{tile}", "the checkpoint's ledger has no such tile")
    shown = check_complete(sections, question, (domain, key), heads, records, used, entries)
    for name, content in sections.items():
        kind, _, digest = name.partition("/")
        if kind == "blob":
            commit = base64.b64encode(sha256(content)).decode()  # An issuance names what opens its commitment.
            named = any(f'"{digest}"' in compact(record.body) or record.body.get("commit") == commit
                        for record in records.values())
            if sha256(content).hex() != digest or not named:
                raise Failure("PACK-BLOB", name, "no record names it, or its content is not what its name says")
        if kind == "certificate":
            raise Failure("PACK-CERTIFICATE", name, "certificates cannot be checked here")
    blobs = sum(name.startswith("blob/") for name in sections)
    told = document(question, heads, records, shown, blobs)
    if not reached:  # It says nothing of what is in the ledger, and so stands beside what is told of each.
        few = f"the checkpoint of {key.origin} is cosigned by {len(cosigned)} of the trust file's witnesses, which is "
        told["not_shown"].insert(0, few + "not its quorum, so that others may be shown another ledger")
    kinds = {ED25519: "ed25519", ML_DSA_44: "ml-dsa-44"}
    lines = [{"name": witness.name, "key_id": witness.id.hex(), "kind": kinds[witness.kind],
              "time": time(1000 * at) if at else None} for witness, at in cosigned]
    quorum = {"reached": reached, "cosignatures": lines} if policy else None
    return told | {"complete": not told["not_shown"], "quorum": quorum}

def read_records(sections, number, under, records):
    for name in [name for name in sections if name.startswith(f"record/{number}/")]:
        content, index = sections[name], section_key(name)[2]
        entry = entry_at(content, 0)
        proof = content[2 + len(entry or b"") :]
        if entry is None or len(proof) % 32 or len(proof) > 32 * MAX_PROOF:
            raise Failure("PACK-FORMAT", name, "it is not a record and a list of hashes")
        proof = [proof[at : at + 32] for at in range(0, len(proof), 32)]
        check_inclusion(leaf_hash(entry), index, under, proof, name)
        record = records[number, index] = parse_record(entry, name)
        if record.origin != under.origin:
            raise Failure("LEDGER-RECEIPT-ORIGIN", name, f"the record is of {record.origin}")
        if not fits(record.body, record.kind):
            raise Failure("LEDGER-RECORD-SHAPE", name, f"the body is not that of a record {record.kind}")

def check_begin(index, record, domain, key):
    if record.kind == "begin" and fits(record.body, "begin", exact=False):
        if (record.body["trust_domain"], unbase64(record.body["ledger_key"])) != (domain, key.spki):
            raise Failure("PACK-TRUST", f"record/0/{index}", "the ledger began for another trust domain or key")

def open_anchor(body, where, keys):
    """The checkpoint that an anchor states, as its note and opened. `keys` has the one key of each ledger."""
    origin, spki = body["origin"], unbase64(body["ledger_key"])
    key = Key(origin, spki[-32:])
    if key.spki != spki or not is_origin(origin) or keys.setdefault(origin, key) != key:
        raise Failure("PACK-ANCHOR", where, "its key is none of a ledger, or another than an earlier anchor states")
    opened, _, _ = open_checkpoint(body["checkpoint"], key, where)
    if (opened.size, opened.root) != (int(body["size"]), unbase64(body["root"])):
        raise Failure("PACK-ANCHOR", where, "its size and root are not those of its checkpoint")
    return body["checkpoint"], opened

def check_complete(sections, question, trust, heads, records, used, entries):
    """Finds the answers again. What is missing or does not belong is refused; what may be missing is a doubt."""
    kind, origins, doubts, answers, extents, newest = question["kind"], [], [], set(), [], {}
    def missing(where, message, code="PACK-RECORD-MISSING"):
        raise Failure(code, where, message)
    def stray(number, index):
        missing(f"record/{number}/{index}", "neither an answer nor what one rests on", "PACK-RECORD-STRAY")
    for number, under in enumerate(heads):
        if under.origin in origins or number and not is_about(question, under.origin, False):
            missing(f"checkpoint/{number}", "a second of its ledger, or not asked about", "PACK-CHECKPOINT")
        origins.append(under.origin)
    if kind == "record" and not any(is_about(question, origin, at == 0) for at, origin in enumerate(origins)):
        missing("question.json", "the pack does not have the ledger of the record that it is about")
    for number, under in enumerate(heads):
        origin, server = under.origin, number == 0
        seen, held = Answers(question, trust[0], origin, server), {at for ledger, at in records if ledger == number}
        until = None if server else records[0, used[number - 1]].wall
        for index in sorted(held) if number not in entries else ():
            seen.see(index, records[number, index])
        for index, entry in all_entries(entries.get(number, {})):
            try:
                record = parse_record(entry)
            except Failure:
                doubts.append((origin, f"record {index} of {origin} cannot be read: it may be an answer"))
                continue
            seen.see(index, record)
            if server:
                until = record.wall
                check_begin(index, record, *trust)
                if record.kind == "anchor" and fits(record.body, "anchor", exact=False):
                    newest[record.body["origin"]] = index, int(record.body["size"])
        expected = set().union(*seen.found)
        if kind == "record" and is_about(question, origin, server):
            expected.add(question["index"])
        for index in sorted(expected - held):
            missing(f"record/{number}/{index}", "it answers the question and is not in the pack")
        for index in sorted(held - expected) if not server else ():
            stray(number, index)
        answers |= {(number, index) for index in expected}
        extents.append([number in entries, len(expected), seen.total if number in entries else None, until])
    for number, origin in enumerate(origins):
        if number not in entries and (kind == "access" or kind == "issuance" and number == 0):
            left_out = "records" if number else "records and gateways"
            doubts.append((origin, f"the entries of {origin} are not in the pack, so that {left_out} may be left out"))
    for origin, (anchor, size) in sorted(newest.items()) if kind == "access" else ():
        if origin not in origins:
            missing(f"record/0/{anchor}", f"it anchors {origin}, which the pack does not have", "PACK-LEDGER-MISSING")
        held = heads[origins.index(origin)].size
        if origin != origins[0] and held < size:
            doubts.append((origin, f"of {origin} the pack has the first {held} records, and {size} were anchored "
                           f"(server's record {anchor})"))
    needed = {*used} | {index for number, index in answers if number == 0}
    open = [(0, index) for index in sorted(needed)] + [place for place in records if place[0] > 0]
    while open:
        place = open.pop()
        origin, (places, blobs) = records[place].origin, grounds(records[place])
        rests = f"record {place[1]} of {origin} rests on"
        for index in places:
            if index >= heads[0].size:
                doubts.append((origin, f"{rests} the server's record {index}, which the checkpoint does not reach"))
            elif index not in needed:
                needed.add(index)
                if (0, index) not in records:
                    missing(f"record/0/{index}", f"{rests} it")
                open.append((0, index))
        for digest in blobs:
            if f"blob/{digest}" not in sections:
                doubts.append((origin, f"{rests} the blob {digest}, which is not in the pack"))
    for number, index in records:
        if number == 0 and index not in needed:
            stray(0, index)
    return answers, extents, doubts

def all_entries(bundles):
    for bundle in sorted(bundles):
        at, index = 0, bundle.first_record()
        while at < len(bundles[bundle]):
            entry = entry_at(bundles[bundle], at)
            yield index, entry
            at, index = at + 2 + len(entry), index + 1

# What is told.

def document(question, heads, records, shown, blobs):
    answers, extents, doubts = shown
    told = [{"ledger": record.origin, "index": index, "type": record.kind, "actor": record.actor, "body": record.body,
             "answers": (number, index) in answers} for (number, index), record in records.items()]
    doubtful = {origin for origin, _ in doubts}
    checkpoints = [{"origin": head.origin, "size": head.size, "complete": head.origin not in doubtful,
                    "entries": entries, "answers": count, "matching": matching, "until": time(until)}
                   for head, (entries, count, matching, until) in zip(heads, extents)]
    return {"verified": True, "complete": not doubts, "not_shown": [doubt for _, doubt in doubts],
            "question": compact(question), "asked": asked(question), "records": told, "checkpoints": checkpoints,
            "answers": sum(item["answers"] for item in told), "blobs": blobs}

def asked(question):
    if question["kind"] == "issuance":
        return f"the issuance of SVID {question['serial']}"
    if question["kind"] == "record":
        return f"record {question['index']} of {question['ledger'] or 'the server' + chr(39) + 's ledger'}"
    resource, newest = question.get("resource"), question.get("newest")
    text = f"what {question['identity']} did through gateways" + ("" if resource is None else f", to {resource}")
    return text + ("" if newest is None else f"; of each ledger the newest {newest} records")

def time(millis):
    """RFC 3339, in UTC. The calendar repeats every 400 years, which have 146,097 days."""
    if millis is None:
        return None
    days, millis = divmod(millis, 86_400_000)
    day = datetime.date.fromordinal(datetime.date(1970, 1, 1).toordinal() + days % 146_097)
    seconds, millis = divmod(millis, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{millis:03}Z"
    return f"{day.year + days // 146_097 * 400:04}-{day.month:02}-{day.day:02}T{clock}"

def read_file(path, limit, code):
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISFIFO(kind):
            raise Failure("CLI-FILE-KIND", path, "it is neither a file nor a pipe")
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise Failure("CLI-FILE", path, str(error)) from error
    if len(data) > limit:
        raise Failure(code, path, f"it has more than {limit} bytes")
    return data

def main():
    parser = argparse.ArgumentParser(description="Verifies a Trilith pack; see the top of this file.")
    parser.add_argument("pack")
    parser.add_argument("--trust", required=True)
    parser.add_argument("--json", action="store_true")
    arguments, status = parser.parse_args(), 1
    try:
        trust = read_trust(read_file(arguments.trust, MAX_TRUST, "VERIFY-TRUST-FILE"))
        pack, status = read_file(arguments.pack, MAX_PACK, "PACK-TOO-LARGE"), 3
        told = verify(pack, *trust)
    except Failure as failure:
        told = {"verified": False, "complete": False, "code": failure.code, "where": failure.where,
                "record": failure.record, "message": failure.message}
        if arguments.json and status == 3:
            print(json.dumps(told))
        place = "" if failure.record is None else f", record {failure.record}"
        print(plain(f"trilith_verify: {failure.code}: {failure.where}{place}: {failure.message}"), file=sys.stderr)
        return status
    lines = ["verified" + (", and complete" if told["complete"] else "; NOT shown to be complete:")]
    lines += [*told["not_shown"], f"asked: {told['asked']}"]
    for head in told["checkpoints"]:
        complete = "complete" if head["complete"] else "NOT shown to be complete"
        until = "" if head["until"] is None else f", as of {head['until']}"
        lines.append(f"{head['origin']} of {head['size']} records{until}: {head['answers']} answer; {complete}")
    lines.append("not recomputed: whether decisions and verdicts follow from what they name; `trilith verify` does that")
    print(json.dumps(told) if arguments.json else "\n  ".join(map(plain, lines)))
    return 0

def plain(text):
    """As it is printed: names and questions come from whoever wrote them, and do not act on a terminal."""
    return json.dumps(text)[1:-1].replace('\\"', '"')

if __name__ == "__main__":
    sys.exit(main())
