#!/usr/bin/env python3
"""Verifies a Trilith pack: a second reading of the format, which shares no code with `trilith verify`.

    python3 trilith_verify.py PACK --trust FILE [--json]

It opens these two files, asks no network, and needs Python 3.11 and `cryptography`. Trust comes from FILE alone: the
trust domain, the key of the server's ledger, root certificates, and the policy of witnesses if there is one. In this
order, as far as the first thing that fails, which is named by a code of docs/reference/findings.md:
 1. the container: header, table, order, digest and end of each section;
 2. the question, which has one spelling and which nothing vouches for;
 3. the server's checkpoint: a signed note by the trusted key, and no other line but those of the witnesses;
 4. its records: RFC 6962 inclusion, one spelling of strict I-JSON, envelope, form of the body by its type;
 5. the anchors among them: key, signed note, size and root of each gateway's ledger, and one key a ledger;
 6. each gateway's checkpoint, which an anchor states to the byte, and the records under it as in 4;
 7. tiles and entry bundles: all of a ledger or none, from each record up to the checkpoint's root;
 8. completeness: the answers are found again, among all entries where those are there. None is missing, and no
    record is there that neither answers nor is rested on;
 9. blobs: a record names each, by its digest. What an erasure says to be gone is so by the server's word: what two
    authors signed of it is looked at by `trilith verify` alone;
10. certificates: each is that of an issuance of the pack, which led to a root of FILE when it was used, or is of an
    authority between the two.
NOT checked here: whether a decision follows from its estate or a verdict from its evidence, which `trilith verify`
makes again (PACK-DECISION, PACK-VERDICT); nor by either, whether there is a newer history or another one, which
witnesses would see.
Beside this file lie c2sp.py, the standards that a pack is built on, trilith_formats.py, how a pack and a record are
read, trust.py, the reader's own file, certificates.py, and lineage.py, how a ledger goes on as another log.
Exit: 0 verified, which is not yet complete: read the first line, or "complete"; 1 no such file, or no trust file;
2 usage; 3 the pack does not verify.
"""
import argparse, json, os, re, sys
from collections import deque

sys.dont_write_bytecode = True  # nothing is written, not even beside this file
from certificates import check_certificates
from c2sp import (
    ED25519, ED25519_NOTE, ENTRIES, U64, Failure, Key, Tile, check_inclusion, check_tiles, decimal, entries_of,
    hashes_of, is_origin, judge, open_checkpoint, sha256, unbase64,
)
from lineage import follow, holds, is_link, open_head, place, read_links
from trilith_formats import (
    RECORD, TILES, check_misbehaviour, compact, fits, integer, is_text, parse_record, read_pack,
    section_key, time,
)
from trust import read_trust

MAX_PACK, MAX_TRUST, MAX_QUESTION, MAX_PROOF, MAX_RANGE = 1 << 30, 1 << 20, 4096, 64, 10_000

# What a pack answers, and which records do.

def read_question(text):
    try:
        value = json.loads(text.decode(), parse_float=integer, parse_constant=integer)
        printable = not any(re.search("[\x00-\x1f\x7f-\x9f]", str(item)) for item in value.values())
        first, last = value.get("from", 0), value.get("to", 1)
        bounded = first < last if value["kind"] == "period" else 0 <= last - first < MAX_RANGE
        if len(text) <= MAX_QUESTION and compact(value).encode() == text and printable and bounded:
            if fits(value, "?" + value["kind"]):
                return value
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        pass
    raise Failure("PACK-QUESTION", "question.json", "it is missing, or no question in its one spelling")

def is_about(question, origin, server):
    """True if the question is put to this ledger."""
    kind, name = question["kind"], question.get("ledger")
    if kind in ("issuance", "lifetime", "estate", "verdict"):
        return server
    if name is None:
        return kind == "period" or not server
    if server or name in ("", "server"):
        return server and kind != "session" and name in ("", "server", origin)
    return name in (origin, origin.rpartition("/")[2])

def is_followed(question):
    """True if it is put to gateways' ledgers up to their newest anchors, which the server's entries name."""
    return question["kind"] in ("access", "session", "period")

def needs_entries(question, origin, server):
    """True if it takes all entries of this ledger to see that no answer is missing."""
    by_place = question["kind"] in ("record", "range")
    return not by_place and (is_about(question, origin, server) or server and is_followed(question))

def numbered(question):
    """The places that are asked for by number."""
    first = question.get("index", question.get("from"))
    by_number = question["kind"] in ("record", "range", "verdict")
    return range(first, question.get("to", first) + 1) if by_number else range(0)

IN_SESSION = ("session-start", "session-end", "intent", "decision")

class Answers:
    """Finds the answers in one ledger, whose records it sees in order, with what each belongs to."""
    def __init__(self, question, domain, origin, server):
        identity = question.get("identity", "")
        self.identity = identity if identity.startswith("spiffe://") else f"spiffe://{domain}/{identity}"
        self.question, self.found, self.total = question, deque(), 0
        self.look = getattr(self, "of_" + question["kind"]) if is_about(question, origin, server) else lambda *_: None
        # Sessions of the identity, by name, and its intents; the newest place of each version of the estate.
        self.sessions, self.intents, self.versions = {}, {}, {}
        # Whether the session that is asked for is open; what has come to belong to the answer.
        self.open, self.names = False, set()

    def see(self, index, record):
        def text(*path):
            value = record.body
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            return value if is_text(value) else None
        belongs = self.look(index, record, text)
        if belongs is not None:
            self.total += 1
            self.found.append({index, *belongs} - {None})
            if len(self.found) > self.question.get("newest", U64):
                self.found.popleft()

    # Each of the following: what an answer belongs to; None if the record does not answer.

    def of_record(self, index, record, text):
        """With its session's beginning, and an outcome's intent, where these are seen before it."""
        places, kind, start = numbered(self.question), record.kind, self.sessions.get(text("session"))
        if kind == "session-start" and text("session") is not None and index < places.stop:
            self.sessions[text("session")], start = index, None
        if kind == "intent":
            self.intents[record.seq] = [start, index]
        seq = re.fullmatch("[+]?0*([0-9]{1,20})", text("intent") or "") if kind == "outcome" else None
        belongs = self.intents.get(int(seq[1]), []) if seq else [start] if kind in IN_SESSION else []
        return belongs if index in places else None

    of_range = of_record

    def of_period(self, index, record, text):
        return [] if self.question["from"] <= record.wall < self.question["to"] else None

    def of_issuance(self, index, record, text):
        issued = record.kind == "issuance" and fits(record.body, "issuance", exact=False)
        return [] if issued and record.body["serial"] == self.question["serial"] else None

    def of_access(self, index, record, text):
        kind, resource = record.kind, self.question.get("resource")
        if kind == "outcome":
            seq = re.fullmatch("[+]?0*([0-9]{1,20})", text("intent") or "")
            return self.intents.get(int(seq[1])) if seq else None
        if kind not in IN_SESSION:
            return None
        start = self.sessions.get(text("session"))
        if kind == "session-start" and text("spiffe_id") == self.identity and text("session") is not None:
            self.sessions[text("session")] = index
        who = (record.actor, text("spiffe_id"), text("about", "spiffe_id"), text("target", "value"))
        if self.identity not in who and text("session") not in self.sessions:
            return None
        if kind in ("intent", "decision") and resource is not None and not touches(record.body, resource):
            return None
        if kind == "intent":
            self.intents[record.seq] = [start, index]
        return [start]

    def of_session(self, index, record, text):
        kind, own = record.kind, text("session") == self.question["session"]
        if kind in ("gap", "stop", "start"):  # what the ledger says of itself while the session is open
            answers, self.open = self.open, self.open and kind != "start"
            return [] if answers else None
        if kind == "outcome":
            return [] if text("intent") in self.names else None
        if kind in ("session-start", "session-end") and own:
            self.open = kind == "session-start"
        if kind == "intent" and own:
            self.names.add(str(record.seq))
        return [] if own and kind in IN_SESSION else None

    def of_lifetime(self, index, record, text):
        """`names` has its serials and machines, as a revocation names them."""
        kind, own, node = record.kind, text("spiffe_id") == self.identity, text("node") or ""
        target, chain = (text("target", "kind"), text("target", "value")), record.body.get("chain")
        if kind == "issuance" and own:
            self.names |= {("serial", text("serial")), ("machine", text("node"))}
        answers = {
            "issuance": own, "assume-refused": own, "admin": text("resource") == "identity:" + self.identity,
            "revocation": None not in target and target in {("identity", self.identity), *self.names},
            "delegation": isinstance(chain, list) and self.identity in chain,
        }
        on_machine = not self.names.isdisjoint({("machine", node), ("machine", node.rpartition("/")[2])})
        answers |= dict.fromkeys(("verdict", "attested", "node-state", "lock", "readmit"), on_machine)
        rests_on = earlier(record, index) if kind in ("assume-refused", "node-state") else None
        return [rests_on] if answers.get(kind) else None

    def of_estate(self, index, record, text):
        """`names` has the places of this version, as acts name them."""
        kind, version, asked = record.kind, text("version"), self.question["version"]
        if kind == "estate-version":
            before = self.versions.get(text("parent"))
            self.versions |= {} if version is None else {version: index}
            self.names |= {f"estate:{index}"} if version == asked else set()
            return [before] if version == asked else None
        about = text("resource") in self.names or (text("detail") or "").startswith("version " + asked)
        answers = {"proof": version == asked, "invariant-approval": version == asked, "admin": about,
                   "revocation": asked in (text("reason") or "")}
        return [] if answers.get(kind) else None

    def of_verdict(self, index, record, text):
        rests_on = earlier(record, index) if record.kind in ("issuance", "assume-refused", "node-state") else None
        at = index if record.kind == "verdict" else rests_on
        return [rests_on] if at == self.question["index"] else None

def earlier(record, index):
    """The place of the verdict that a record names, if that is before it."""
    place = decimal(record.body.get("verdict"))
    return place if place is not None and place < index else None

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
    elif kind in ("estate-version", "proof", "invariant-approval", "erasure"):
        blobs = [body.get("subject", body.get("blob"))]
    elif kind == "misbehaviour":
        blobs = [body["first"]["note"], body["second"]["note"]]
    return [int(place) for place in places if place is not None], [blob["sha256"] for blob in blobs if blob]

# The whole.

def verify(pack, domain, key, policy=None, roots=(), links=()):
    """What a pack shows to whoever trusts these: as `trilith verify --json` says it."""
    try:
        return read_and_check(pack, domain, key, policy, roots, links)
    except Failure as failure:  # a section that holds a record or a tile tells which record is concerned
        kind, _, *place = section_key(failure.where) or (None, None)
        if failure.record is None and kind in (RECORD, TILES):
            failure.record = place[0] if kind == RECORD else Tile(*place).first_record()
        raise

def read_and_check(pack, domain, key, policy, roots, links):
    sections = read_pack(pack)
    question = read_question(sections.get("question.json", b""))
    records, heads, anchored, keys, used = {}, [], {}, {}, []
    def note(number):
        try:
            return sections[f"checkpoint/{number}"].decode()
        except (KeyError, UnicodeDecodeError):
            raise Failure("PACK-CHECKPOINT", f"checkpoint/{number}", "it is missing or not text") from None
    logs, _ = follow(key, links, read_links(sections), "checkpoint/0")
    (key, _), trusted = logs[0], logs[-1][0]
    head, text, lines = open_head(note(0), logs, "checkpoint/0")
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
        kind, number, *rest = section_key(name)
        if kind in (RECORD, TILES) and number >= len(heads):
            raise Failure("PACK-CHECKPOINT", name, "the pack has no such checkpoint")
        if kind == TILES:
            tiles[number][Tile(*rest)] = content
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
            raw = bytes.fromhex(digest)  # an issuance names the opening of its commitment in base64
            named = any(f'"{digest}"' in compact(record.body) or unbase64(record.body.get("commit")) == raw
                        for record in records.values())
            if sha256(content).hex() != digest or not named:
                raise Failure("PACK-BLOB", name, "no record names it, or its content is not what its name says")
    certificates = check_certificates(sections, records, domain, roots)
    for (number, index), record in records.items():
        if record.kind == "misbehaviour":
            check_misbehaviour(record.body, sections, f"record/{number}/{index}")
    (answers, extents, doubts, erased), doubtful = shown, {origin for origin, _ in shown[2]}
    told = [{"ledger": record.origin, "index": index, "type": record.kind, "actor": record.actor, "body": record.body,
             "answers": (number, index) in answers} for (number, index), record in records.items()]
    checkpoints = [{"origin": head.origin, "size": head.size, "complete": head.origin not in doubtful, **extent}
                   for head, extent in zip(heads, extents)]
    not_shown = [doubt for _, doubt in doubts]
    if not reached:  # It says nothing of what is in the ledger, and so stands beside what is told of each.
        few = f"the checkpoint of {trusted.origin} is cosigned by {len(cosigned)} of the trust file's witnesses, which is "
        not_shown.insert(0, few + "not its quorum, so that others may be shown another ledger")
    lines = [{"name": witness.origin, "key_id": witness.id.hex(), "time": time(1000 * at or None),
              "kind": "ed25519" if witness.kind == ED25519 else "ml-dsa-44"} for witness, at in cosigned]
    return {"verified": True, "complete": not not_shown, "not_shown": not_shown, "question": compact(question),
            "records": told, "checkpoints": checkpoints, "answers": sum(item["answers"] for item in told),
             "erased": erased, "blobs": sum(name.startswith("blob/") for name in sections),
            "certificates": [{"sha256": sha256, "issuance": index} for sha256, index in certificates.items()],
            "quorum": {"reached": reached, "cosignatures": lines} if policy else None}

def read_records(sections, number, under, records):
    for name in [name for name in sections if name.startswith(f"record/{number}/")]:
        content, index = sections[name], section_key(name)[2]
        entry, end = next(entries_of(content), (None, 0))
        proof = content[end:]
        if entry is None or len(proof) % 32 or len(proof) > 32 * MAX_PROOF:
            raise Failure("PACK-FORMAT", name, "it is not a record and a list of hashes")
        check_inclusion(entry, index, under, hashes_of(proof), name)
        record = records[number, index] = parse_record(entry, name)
        if not holds(under.origin, record.origin):
            raise Failure("LEDGER-RECEIPT-ORIGIN", name, f"the record is of {record.origin}")
        if not fits(record.body, record.kind):
            raise Failure("LEDGER-RECORD-SHAPE", name, f"the body is not that of a record {record.kind}")

def check_begin(index, record, domain, key):
    if record.kind == "begin" and fits(record.body, "begin", exact=False):
        same = unbase64(record.body["ledger_key"]) == key.spki or place(key.origin)[1] > 1
        if record.body["trust_domain"] != domain or not same:
            raise Failure("PACK-TRUST", f"record/0/{index}", "the ledger began for another trust domain or key")

def open_anchor(body, where, keys):
    """The checkpoint that an anchor states, as its note and opened. `keys` has the one key of each ledger."""
    origin, spki = body["origin"], unbase64(body["ledger_key"])
    key = Key(origin, ED25519_NOTE, spki[-32:])
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
    named = question.get("ledger") is not None or kind == "record"
    if named and not any(is_about(question, origin, at == 0) for at, origin in enumerate(origins)):
        missing("question.json", "the pack does not have the ledger of the record that it is about")
    for number, under in enumerate(heads):
        origin, server = under.origin, number == 0
        seen, held = Answers(question, trust[0], origin, server), {at for ledger, at in records if ledger == number}
        until = None if server else records[0, used[number - 1]].wall
        for index in sorted(held) if number not in entries else ():
            seen.see(index, records[number, index])
        bundles = entries.get(number, {})
        all_entries = [entry for bundle in sorted(bundles) for entry, _ in entries_of(bundles[bundle])]
        for index, entry in enumerate(all_entries):
            try:
                record = parse_record(entry)
            except Failure:
                doubts.append((origin, f"record {index} of {origin} cannot be read: it may be an answer"))
                continue
            seen.see(index, record)
            if kind == "access" and record.kind == "gap" and is_about(question, origin, server):
                doubts.append((origin, f"record {index} of {origin} is a gap: what was done before it and not yet "
                               "recorded may be missing"))
            if server:
                until = record.wall
                check_begin(index, record, *trust)
                if record.kind == "anchor" and fits(record.body, "anchor", exact=False):
                    newest[record.body["origin"]] = index, int(record.body["size"])
        expected = set().union(*seen.found)
        if is_about(question, origin, server):
            expected.update(numbered(question))
        for index in sorted(expected - held):
            missing(f"record/{number}/{index}", "it answers the question and is not in the pack")
        for index in sorted(held - expected) if not server else ():
            stray(number, index)
        if kind == "verdict" and server and records[0, question["index"]].kind != "verdict":
            missing(f"record/0/{question['index']}", "the question is about a verdict, and this record is none")
        answers |= {(number, index) for index in expected}
        extents.append({"entries": number in entries, "answers": len(expected), "until": time(until),
                        "matching": seen.total if number in entries else None})
    for number, origin in enumerate(origins):
        if number not in entries and needs_entries(question, origin, number == 0):
            left_out = "records" if number else "records and gateways"
            doubts.append((origin, f"the entries of {origin} are not in the pack, so that {left_out} may be left out"))
    for origin, (anchor, size) in sorted(newest.items()) if is_followed(question) else ():
        if not is_about(question, origin, False):
            continue
        if origin not in origins:
            missing(f"record/0/{anchor}", f"it anchors {origin}, which the pack does not have", "PACK-LEDGER-MISSING")
        held = heads[origins.index(origin)].size
        if origin != origins[0] and held < size:
            doubts.append((origin, f"of {origin} the pack has the first {held} records, and {size} were anchored "
                           f"(server's record {anchor})"))
    needed = {*used} | {index for number, index in answers if number == 0}
    needed |= {index for (number, index), record in records.items() if number == 0 and is_link(record.body)}
    open = [(0, index) for index in sorted(needed)] + [place for place in records if place[0] > 0]
    erased, erasures = [], [(at, item["sha256"]) for (ledger, at), record in records.items()
                            if ledger == 0 and record.kind == "erasure" for item in record.body["erased"]]
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
        opening = [unbase64(records[place].body["commit"]).hex()] if records[place].kind == "issuance" else []
        for digest in [digest for digest in blobs + opening if f"blob/{digest}" not in sections]:
            by = next((at for at, gone in erasures if gone == digest and (place[0] > 0 or at > place[1])), None)
            if by is not None:  # what was named after an erasure was not erased by it
                wall, said = records[0, by].wall, records[0, by].body
                erased.append({"ledger": origin, "index": place[1], "sha256": digest, "record": by,
                               "time": time(wall), "by": said["by"], "reason": said["reason"]})
                open += [] if by in needed else [(0, by)]
                needed.add(by)
            elif digest in blobs:
                doubts.append((origin, f"{rests} the blob {digest}, which is not in the pack"))
    for number, index in records:
        if number == 0 and index not in needed:
            stray(0, index)
    return answers, extents, doubts, erased

# What is told.

def read_file(path, limit, code):
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise Failure("CLI-FILE", path, str(error)) from error
    if len(data) > limit:
        raise Failure(code, path, f"it has more than {limit} bytes")
    return data

def main():
    example = "Example: python3 trilith_verify.py agent.pack --trust trust.json"
    parser = argparse.ArgumentParser(description="Verifies a Trilith pack; see the top of this file.", epilog=example)
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
    lines += [*told["not_shown"], f"asked: {told['question']}", "made again: nothing; trilith verify does"]
    names = "record {index} of {ledger} names {sha256}, erased by record {record} on {time} ({by}): {reason}"
    lines += [names.format(**one) for one in told["erased"]]
    if told["erased"]:
        lines.append("that this might go is the server's word: what authors signed of it, trilith verify looks at")
    for head in told["checkpoints"]:
        complete = "complete" if head["complete"] else "NOT shown to be complete"
        until = "" if head["until"] is None else f", as of {head['until']}"
        lines.append(f"{head['origin']} of {head['size']} records{until}: {head['answers']} answer; {complete}")
    lines += [f"certificate {one['sha256']}: of issuance {one['issuance']}" for one in told["certificates"]]
    lines += [f"cosigned by {one['name']} at {one['time']}" for one in (told["quorum"] or {}).get("cosignatures", [])]
    try:
        print(json.dumps(told) if arguments.json else "\n  ".join(map(plain, lines)), flush=True)
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0

def plain(text):
    """As it is printed: names and questions come from whoever wrote them, and do not act on a terminal."""
    return json.dumps(text)[1:-1].replace('\\"', '"')

if __name__ == "__main__":
    sys.exit(main())
