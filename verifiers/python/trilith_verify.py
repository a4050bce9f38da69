#!/usr/bin/env python3
"""Verifies a Trilith pack: a second reading of the format, with no code of `trilith verify`.

    python3 trilith_verify.py PACK --trust FILE [--json]

It opens these two files and asks no network. README.md beside it lists what is checked and what is
not. Exit: 0 verified, which is not yet complete: read the first line, or "complete"; 1 no such
file, or no trust file; 2 usage; 3 the pack does not verify.
"""
import argparse, json, os, re, sys
from collections import defaultdict, deque
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import product

sys.dont_write_bytecode = True  # nothing is written, not even beside this file
from c2sp import (
    ED25519, ED25519_NOTE, ENTRIES, U64, Failure, Key, Tile, Tree, check, check_tiles, decimal,
    entries_of, inside, is_name, judge, leaf_hash, open_checkpoint, read_proof, root_from,
    roots_from, sha256, unbase64,
)
from certificates import check_certificates
from trilith_formats import (
    compact, ended, fits, follow, holds, is_link, is_text, load, open_head, open_link, parse_record,
    place, read_pack, read_trust, section_key, table,
)

MAX_PACK, MAX_TRUST, MAX_QUESTION, MAX_RANGE = 1 << 30, 1 << 20, 4096, 10_000
SAID = dict(table("messages.txt"))

# What a pack answers, and which records do.

RULES = defaultdict(list)  # by question and type of record: what is wanted, learnt and rested on
for names, rule in table("answers.txt"):
    questions, *kinds = names.split()
    for pair in product(questions.split("/"), kinds):
        RULES[pair].append(re.fullmatch("(.*?)(?:-> (.*?))?(?:<- (.*))?", rule).groups(""))

def read_question(text):
    with inside("question.json", "PACK-QUESTION"):
        value = json.loads(text.decode())
        check(fits(value, "?" + value["kind"]) and compact(value).encode() == text)
        first, last = value.get("from", 0), value.get("to", 1)
        check(first < last if value["kind"] == "period" else 0 <= last - first < MAX_RANGE)
        check(not re.search("[\x00-\x1f\x7f-\x9f]", "".join(map(str, value.values()))))
        check(len(text) <= MAX_QUESTION)
        return value

def is_about(question, origin, server):
    """True if the question is put to this ledger."""
    kind, name = question["kind"], question.get("ledger")
    if kind in ("issuance", "lifetime", "estate", "verdict"):
        return server
    if name is None:
        return kind == "period" or not server
    if server or name in ("", "server"):
        return server and kind != "session" and name in ("", "server", origin)
    return holds(origin, name) or holds(origin.rpartition("/")[2], name)

def numbered(question):
    """The places that are asked for by number."""
    first = question.get("index", question.get("from", 0))
    by_number = question["kind"] in ("record", "range", "verdict")
    return range(first, question.get("to", first) + 1) if by_number else range(0)

def texts(value, path):
    """The texts at a path of a body, as answers.txt writes it."""
    values = [value]
    for name in path.split("."):
        if name == "[]":
            values = [item for one in values if isinstance(one, list) for item in one]
        else:
            values = [one.get(name) for one in values if isinstance(one, dict)]
    return list(filter(is_text, values))

def labels(fields, items):
    """What a record bears of the items of a rule, each as its label and a text."""
    for item in items.split():
        label, path = item.split("=")
        path, _, pattern = path.partition(":")
        regex = RULES["pattern", pattern][0][0] if pattern else r"(?s)\A.*\Z"
        found = [part for text in texts(fields, path) for part in re.findall(regex, text)]
        yield from product(texts(fields, label) if "." in label else [label], found)

def touches(body, resource):
    """True if a record is about a resource, or may be: a list that was cut may have held it, and
    where columns are not named it may be each of the table."""
    columns, (table, slash, _) = texts(body, "actions.[].columns.[]"), resource.rpartition("/")
    names = texts(body, "actions.[].resources.[]") + columns
    whole = slash and any(f'"{table}/*"' in column for column in columns)
    cut = 'Column::"*"' in columns or any("more" in action for action in body["actions"])
    return whole or cut or any(name == resource or f'"{resource}"' in name for name in names)

class Answers:
    """Finds the answers in one ledger, whose records it sees in order, with what each rests on."""
    def __init__(self, question, domain):
        self.question, self.found, self.total = question, deque(), 0
        fields = {name: str(value) for name, value in question.items()}
        if not fields.get("identity", "spiffe://").startswith("spiffe://"):
            fields["identity"] = f"spiffe://{domain}/{fields['identity']}"
        known = RULES.get(("known", question["kind"]), [("",)])[0][0]
        self.known = {label: set() for label in labels(fields, known)}

    def see(self, index, record):
        question, kind, belongs = self.question, self.question["kind"], {index}
        answers = index in numbered(question)
        if kind == "period":
            answers = question["from"] <= record.wall < question["to"]
        asked = question.get("resource") if record.kind in ("intent", "decision") else None
        if asked is not None and not touches(record.body, asked):
            return
        fields = {**record.body, "@": "", "@actor": record.actor, "@seq": str(record.seq)}
        fields["@index"] = str(index)
        for wanted, learnt, grounds in RULES.get((kind, record.kind), ()):
            found = [label for label in labels(fields, wanted) if label in self.known]
            if wanted.strip() and not found:
                continue
            rests, answers = list(labels(fields, grounds)), answers or bool(found)
            places = set().union(*(self.known.get(label, ()) for label in found + rests))
            named = [decimal(text) for label, text in rests if label == "place"]
            places |= {place for place in named if place is not None and place < index}
            belongs |= places
            for label, text in labels(fields, learnt):
                self.known[label, text] = places | {index}
                if label[0] == "!":
                    self.known.pop((label[1:], text), None)
        if answers:
            self.total += 1
            self.found.append(belongs)
            if len(self.found) > question.get("newest", U64):
                self.found.popleft()

# The parts of a pack.

def read_note(sections, number):
    with inside(f"checkpoint/{number}", "PACK-CHECKPOINT"):
        return sections[f"checkpoint/{number}"].decode()

def readable(entry):
    """The record that an entry is; None if it is none."""
    with suppress(Failure, TypeError):
        return parse_record(entry)

class Ledger:
    """One ledger of a pack, with the records under its checkpoint. `anchor` is the place of the
    server's record that states the checkpoint; `entries` are all records, if the pack has them:
    None for one that is no record or has not the shape of its type."""
    def __init__(self, sections, number, head, anchor=None):
        self.number, self.head, self.anchor = number, head, anchor
        self.records, self.tiles, self.entries = {}, {}, None
        for name, content in sections.items():
            if name.startswith(f"tiles/{number}/"):
                self.tiles[section_key(name)[2]] = content
            if name.startswith(f"record/{number}/"):
                with inside(name):
                    self.read_record(section_key(name)[2], content)

    def read_record(self, index, content):
        entry, end = next(entries_of(content), (None, 0))
        check(entry is not None, "PACK-FORMAT")
        proof = read_proof(content[end:])
        check(index < self.head.size, "LEDGER-PROOF-INDEX")
        root = root_from(leaf_hash(entry), index, self.head.size, proof)
        check(root == self.head.root, "LEDGER-PROOF-ROOT")
        record = self.records[index] = parse_record(entry)
        check(holds(self.head.origin, record.origin), "LEDGER-RECEIPT-ORIGIN")
        check(fits(record.body, record.kind), "LEDGER-RECORD-SHAPE")

    def read_tiles(self):
        bundles = sorted(tile for tile in self.tiles if tile.level == ENTRIES)
        found = [entry for bundle in bundles for entry, _ in entries_of(self.tiles[bundle])]
        if self.tiles:
            self.hashes = check_tiles(self.number, self.head, self.tiles, bundles)
        for tile in self.tiles:
            raise Failure("PACK-TILE", f"tiles/{self.number}/{tile}")
        if bundles:
            read = map(readable, found)
            self.entries = [one if one and fits(one.body, one.kind) else None for one in read]
            self.tree = Tree()

def check_begin(index, record, domain, key):
    if record.kind == "begin":
        same = unbase64(record.body["ledger_key"]) == key.spki or place(key.origin)[1] > 1
        check(same and record.body["trust_domain"] == domain, "PACK-TRUST", f"record/0/{index}")

def stated_key(body):
    spki = unbase64(body["ledger_key"])
    key = Key(body["origin"], ED25519_NOTE, spki[-32:])
    check(key.spki == spki and is_name(key.origin, 255), "PACK-ANCHOR")
    return key

def stated_tree(said):
    return int(said["size"]), unbase64(said["root"])

def shown(key, first, second):
    """What two notes by a key show of its ledger. Either may be a link by which that went on as a
    new log, in place of a note. With the trees that they state: the size and root of each."""
    def opened(note):
        if not note.startswith('{"'):
            return None, open_checkpoint(note, key)[0][1:]
        old, *link = open_link(load(note))
        check(old == key)
        return link, link[1]
    (one, older), (other, newer) = opened(first), opened(second)
    if one and other:
        return "succession" if one != other else None, older, newer
    if one or other:
        end, head = (older, newer) if one else (newer, older)
        return "ended" if head[0] >= end[0] and head != end else None, older, newer
    kind = "fork" if older[0] == newer[0] else "rollback" if older[0] > newer[0] else "unproven"
    shows = older != newer and (older[0] > 0 or kind == "fork")
    return kind if shows else None, older, newer

def check_misbehaviour(body, sections):
    """What a record says of two notes is what they show, if both are in the pack."""
    stated = [body["first"], body["second"]]
    notes = [sections.get(f"blob/{said['note']['sha256']}") for said in stated]
    if None not in notes:
        kind, *trees = shown(stated_key(body), *(note.decode() for note in notes))
        check(trees == list(map(stated_tree, stated)) and kind == body["kind"])
        check((kind in ("fork", "ended", "succession")) == body["proved"])

# The whole.

def verify(pack, *trust):
    """What a pack shows to whoever trusts these: as `trilith verify --json` says it."""
    try:
        return Pack(pack, *trust).told
    except Failure as failure:  # a section with a record or a tile tells which record is concerned
        if failure.record is None and failure.where.startswith(("record/", "tiles/")):
            at = section_key(failure.where)[2]
            failure.record = at.first_record() if isinstance(at, Tile) else at
        raise

class Pack:
    def __init__(self, pack, domain, key, policy=None, roots=(), links=()):
        self.domain, self.doubts, self.erased, self.anchors = domain, [], [], []
        self.sections = sections = read_pack(pack)
        self.question = question = read_question(sections.get("question.json", b""))
        note, found = read_note(sections, 0), []
        for name in [name for name in sections if name.startswith("record/0/")]:
            record = readable(next(entries_of(sections[name]), (None,))[0])
            if record and record.kind == "key-rotation" and is_link(record.body):
                with inside(name):
                    found.append(open_link(record.body))
        with inside("checkpoint/0"):
            keys, trees = follow(key, found, links)
            head, lines = open_head(note, keys, trees)
            seen, reached = judge(policy, head, lines) if policy else ([], True)
            check(len(lines) == 1 + len(seen), "PACK-CHECKPOINT")
        self.check_lineage(head, keys, trees)
        self.key, self.ledgers = keys[0], [Ledger(sections, 0, head)]
        self.server = self.ledgers[0].records
        self.read_gateways()
        for ledger in self.ledgers:
            ledger.read_tiles()
            ledger.about = is_about(question, ledger.head.origin, ledger.number == 0)
        self.check_asked()
        for ledger in self.ledgers:
            self.find_answers(ledger)
        self.look_for_more()
        self.check_grounds()
        records = [record for ledger in self.ledgers for record in ledger.records.values()]
        blobs = {name: name[5:] for name in sections if name.startswith("blob/")}
        for name, digest in blobs.items():
            named = any(f'"{digest}"' in compact(record.body) or opening(record) == digest
                        for record in records)
            check(named and sha256(sections[name]).hex() == digest, "PACK-BLOB", name)
        certificates = check_certificates(sections, self.ledgers, domain, roots)
        for ledger in self.ledgers:
            for index, record in ledger.records.items():
                if record.kind == "misbehaviour":
                    with inside(f"record/{ledger.number}/{index}", "PACK-MISBEHAVIOUR"):
                        check_misbehaviour(record.body, sections)
        if not reached:  # it says nothing of what is in the ledger, and so stands beside the rest
            self.doubts.insert(0, ("", SAID["quorum"].format(keys[-1].origin, len(seen))))
        not_shown = [doubt for _, doubt in self.doubts]
        told = [{"ledger": record.origin, "index": index, "type": record.kind,
                 "actor": record.actor, "body": record.body, "answers": index in ledger.answers}
                for ledger in self.ledgers for index, record in ledger.records.items()]
        self.told = {
            "verified": True, "complete": not not_shown, "not_shown": not_shown,
            "question": compact(question), "records": told, "erased": self.erased,
            "checkpoints": [
                {"origin": ledger.head.origin, "size": ledger.head.size, **ledger.extent,
                 "complete": ledger.head.origin not in dict(self.doubts)}
                for ledger in self.ledgers],
            "answers": sum(item["answers"] for item in told),
            "blobs": len(blobs),
            "certificates": [{"sha256": name, "issuance": at} for name, at in certificates.items()],
            "quorum": {"reached": reached, "cosignatures": [
                {"name": witness.origin, "key_id": witness.id.hex(),
                 "kind": "ed25519" if witness.kind == ED25519 else "ml-dsa-44",
                 "time": time(1000 * at or None)} for witness, at in seen]} if policy else None,
        }

    def doubt(self, origin, name, *values):
        self.doubts.append((origin, SAID[name].format(origin, *values)))

    def check_lineage(self, head, keys, trees):
        """The server's checkpoint holds each tree that a link of its ledger names."""
        at, asked = [key.origin for key in keys].index(head.origin), set()
        for size, root in dict.fromkeys(ended(trees[log:]) for log in range(at)):
            name = f"extends/0/{size}"
            with inside(name):
                proof = read_proof(self.sections.get(name, b""))
            with inside(name, "PACK-LINEAGE"):
                check(size <= head.size and (size or root == Tree().root() and not proof))
                roots = roots_from(size, head.size, proof, root) if size else (root, head.root)
                check(tuple(roots) == (root, head.root))
            asked |= {name} if 0 < size < head.size else set()
        for name in [name for name in self.sections if name.startswith("extends/")]:
            check(name in asked, "PACK-LINEAGE", name)

    def read_gateways(self):
        """The gateways' checkpoints: an anchor states each to the byte, with one key a ledger."""
        keys, anchored, self.links = {}, {}, {}
        for index, record in self.server.items():
            check_begin(index, record, self.domain, self.key)
        for index, record in self.server.items():
            if is_link(record.body, "gateway-ledger"):
                with inside(f"record/0/{index}"):
                    self.links[index] = open_link(record.body, "gateway-ledger")
        for index, record in self.server.items():
            if record.kind == "anchor":
                with inside(f"record/0/{index}"):
                    key, body = stated_key(record.body), record.body
                    check(keys.setdefault(key.origin, key) == key, "PACK-ANCHOR")
                    links = [link for link in self.links.values() if line(link[1]) == line(key)]
                    logs, trees = follow(key, links)
                    head, _ = open_head(body["checkpoint"], logs, trees, whole=False)
                    same = head.origin == key.origin and head[1:] == stated_tree(body)
                    check(same, "PACK-ANCHOR")
                    anchored.setdefault(body["checkpoint"], (head, index, logs[0]))
        numbers = [name for name in self.sections if re.match("checkpoint/[^0]", name)]
        notes = [read_note(self.sections, number) for number in range(1, len(numbers) + 1)]
        for number, note in enumerate(notes, 1):
            check(note in anchored, "PACK-ANCHOR", f"checkpoint/{number}")
            head, index, first = anchored[note]
            check(place(first.origin)[1] == 1, "PACK-ANCHOR", f"checkpoint/{number}")
            self.ledgers.append(Ledger(self.sections, number, head, index))
        for name in [name for name in self.sections if name.startswith(("record/", "tiles/"))]:
            check(section_key(name)[1] < len(self.ledgers), "PACK-CHECKPOINT", name)

    def check_asked(self):
        """Each ledger of the pack is asked about, and is there once."""
        lines, question = [line(ledger.head) for ledger in self.ledgers], self.question
        for number, ledger in enumerate(self.ledgers):
            good = lines.index(lines[number]) == number and (number == 0 or ledger.about)
            check(good, "PACK-CHECKPOINT", f"checkpoint/{number}")
        named = question.get("ledger") is not None or question["kind"] == "record"
        good = not named or any(ledger.about for ledger in self.ledgers)
        check(good, "PACK-RECORD-MISSING", "question.json")

    def find_answers(self, ledger):
        """The answers are found again; of a gateway's ledger the pack has nothing else."""
        question, origin, number = self.question, ledger.head.origin, ledger.number
        seen, held = Answers(question, self.domain), ledger.records
        whole = ledger.entries is not None
        until = self.server[ledger.anchor].wall if number else None
        for index, record in enumerate(ledger.entries) if whole else held.items():
            if record is None:
                self.doubt(origin, "unreadable", index)
                continue
            if ledger.about:
                seen.see(index, record)
            if whole and ledger.about and (question["kind"], record.kind) == ("access", "gap"):
                self.doubt(origin, "gap", index)
            if whole and number == 0:
                until = record.wall
                self.of_server(index, record)
        ledger.answers = set().union(*seen.found, numbered(question) if ledger.about else ())
        lacks, strays = ledger.answers - set(held), set(held) - ledger.answers if number else set()
        check(not lacks, "PACK-RECORD-MISSING", f"record/{number}/{min(lacks, default=0)}")
        check(not strays, "PACK-RECORD-STRAY", f"record/{number}/{min(strays, default=0)}")
        if number == 0 and question["kind"] == "verdict":
            good = held[question["index"]].kind == "verdict"
            check(good, "PACK-RECORD-MISSING", f"record/0/{question['index']}")
        ledger.extent = {"entries": whole, "answers": len(ledger.answers), "until": time(until),
                         "matching": seen.total if whole else None}

    def of_server(self, index, record):
        """What the server's entries say of ledgers."""
        body, server = record.body, self.ledgers[0]
        check_begin(index, record, self.domain, self.key)
        followed = record.kind == "anchor" and self.is_followed()
        if followed and is_about(self.question, body["origin"], False):
            self.anchors.append((index, body))
        if record.kind == "misbehaviour" and body["proved"] and body["kind"] != "ended":
            for ledger in self.ledgers:
                if line(ledger.head) == place(body["origin"])[0]:
                    self.doubt(ledger.head.origin, "misbehaved", index)
        if record.kind == "recovery" and self.needs_entries(server):
            self.doubt(server.head.origin, "recovered", index)

    def is_followed(self):
        """True if gateways' ledgers are asked about as far as they were anchored."""
        return self.question["kind"] in ("access", "session", "period")

    def needs_entries(self, ledger):
        asked = ledger.about or ledger.number == 0 and self.is_followed()
        return asked and self.question["kind"] not in ("record", "range")

    def look_for_more(self):
        """Where the pack has not all entries, or a gateway's ledger not up to its newest anchor,
        which is of all that was anchored of it before."""
        for ledger in self.ledgers:
            if ledger.entries is None and self.needs_entries(ledger):
                left_out = "records" if ledger.number else "records and gateways"
                self.doubt(ledger.head.origin, "entries", left_out)
        ledgers, keys, newest = {line(ledger.head): ledger for ledger in self.ledgers[1:]}, {}, {}
        for index, body in self.anchors:
            size, key, first = int(body["size"]), body["ledger_key"], place(body["origin"])[0]
            good = keys.setdefault(body["origin"], key) == key
            good = good and newest.get(first, (0,))[0] <= size
            newest[first], ledger = (size, index, body["origin"]), ledgers.get(first)
            if good and ledger and ledger.entries is not None and size <= ledger.head.size:
                ledger.tree.grow(ledger.hashes[ledger.tree.size : size])
                good = ledger.tree.root() == unbase64(body["root"])
            check(good, "PACK-ANCHOR", f"record/0/{index}")
        for first, (size, index, origin) in sorted(newest.items()):
            there = first in ledgers or origin == self.ledgers[0].head.origin
            check(there, "PACK-LEDGER-MISSING", f"record/0/{index}")
            if first in ledgers and ledgers[first].head.size < size:
                head = ledgers[first].head
                self.doubt(head.origin, "later", head.size, size, index)

    def check_grounds(self):
        """What records rest on is in the pack, and these are all of the server's records there."""
        server, first = self.server, self.ledgers[0]
        needed = {*first.answers, *(ledger.anchor for ledger in self.ledgers[1:])}
        needed |= {index for index, record in server.items() if is_link(record.body)}
        lines = [line(ledger.head) for ledger in self.ledgers[1:]]
        needed |= {index for index, link in self.links.items() if line(link[1]) in lines}
        left = [(first, index) for index in sorted(needed)]
        left += [(ledger, index) for ledger in self.ledgers[1:] for index in ledger.records]
        erasures = [(at, digest) for at, record in server.items() if record.kind == "erasure"
                    for digest in texts(record.body, "erased.[].sha256")]
        while left:
            ledger, index = left.pop()
            record = ledger.records[index]
            rules = RULES.get(("grounds", record.kind), [("",)])[0][0]
            named = list(labels(record.body, rules))
            places = [record.estate] if record.estate is not None else []
            for at in places + [int(text) for label, text in named if label == "place"]:
                if at >= first.head.size:
                    self.doubt(record.origin, "beyond", index, at)
                elif at not in needed:
                    check(at in server, "PACK-RECORD-MISSING", f"record/0/{at}")
                    needed.add(at)
                    left.append((first, at))
            blobs = [text for label, text in named if label == "blob"]
            digests = blobs + [opening(record)] if record.kind == "issuance" else blobs
            for digest in [digest for digest in digests if f"blob/{digest}" not in self.sections]:
                # What was named after an erasure was not erased by it.
                by = next((at for at, gone in erasures
                           if gone == digest and (ledger.number or at > index)), None)
                if by is not None:
                    told = {name: server[by].body[name] for name in ("by", "reason")}
                    told |= {"sha256": digest, "record": by, "time": time(server[by].wall)}
                    self.erased.append({"ledger": record.origin, "index": index, **told})
                    left += [(first, by)] if by not in needed else []
                    needed.add(by)
                elif digest in blobs:
                    self.doubt(record.origin, "blob", index, digest)
        for index in server:
            check(index in needed, "PACK-RECORD-STRAY", f"record/0/{index}")

def line(log):
    """What a ledger is known by, however often its key is replaced, of its key or checkpoint."""
    return place(log.origin)[0]

def opening(record):
    """The digest of what an issuance's commitment opens to."""
    return (unbase64(record.body.get("commit")) or b"").hex()

def time(millis):
    """RFC 3339, in UTC; the number itself where no calendar reaches; None of None."""
    with suppress(OverflowError, TypeError):
        moment = datetime(1970, 1, 1) + timedelta(milliseconds=millis)
        return moment.isoformat(timespec="milliseconds") + "Z"
    return millis and str(millis)

# The command.

def read_file(path, limit, code):
    with inside(path, "CLI-FILE"), open(path, "rb") as file:
        data = file.read(limit + 1)
    check(len(data) <= limit, code, path)
    return data

def plain(text):
    """As it is printed: what others wrote does not act on a terminal."""
    return json.dumps(text)[1:-1].replace('\\"', '"')

def main():
    as_written = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
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
                "record": failure.record, "message": SAID[failure.code]}
        if arguments.json and status == 3:
            print(json.dumps(told))
        record = "" if failure.record is None else f", record {failure.record}"
        said = f"trilith_verify: {failure.code}: {failure.where}{record}: {told['message']}"
        print(plain(said), file=sys.stderr)
        return status
    lines = [SAID["complete" if told["complete"] else "doubted"], *told["not_shown"]]
    lines += [f"asked: {told['question']}", SAID["again"]]
    lines += [SAID["erased"].format(**one) for one in told["erased"]]
    lines += [f"{name}: {compact(told[name])}"
              for name in ("checkpoints", "certificates", "quorum") if told[name]]
    try:
        print(json.dumps(told) if arguments.json else "\n  ".join(map(plain, lines)), flush=True)
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0

if __name__ == "__main__":
    sys.exit(main())
