"""How a ledger goes on as another log: links that the key of the log which ended and the key of the one which goes on
have both signed. Who knows one of the keys learns the others from the links, whoever hands them over."""
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from c2sp import Failure, decimal, entries_of, open_checkpoint, parse_key, unbase64
from trilith_formats import fits, parse_record

CONTEXT = "trilith-ledger-succession-v1"
MAX_LINKS = 256

def place(origin):
    """The name of the first log of the lineage, and which of it this one is: `example.org/server@2` is the second."""
    first, _, number = origin.rpartition("@")
    number = decimal(number) if first else None
    return (first, number) if number is not None and number > 1 else (origin, 1)

def holds(log, origin):
    """Whether a record of `origin` may stand in `log`: one of its own, or of a log that it goes on from."""
    (ours, number), (theirs, earlier) = place(log), place(origin)
    return log == origin or ours == theirs and earlier < number

def is_link(body):
    return isinstance(body, dict) and body.get("what") == "ledger"

def signed(key, text, signature):
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(unbase64(signature) or b"", text.encode())
        return True
    except (InvalidSignature, ValueError):
        return False

def open_link(body, where):
    """The two keys, and the tree that both logs have: its size and root."""
    wrong = Failure("LEDGER-LINK-FORMAT", where, "not the rotation of a ledger's key")
    try:
        context, before, after, size, root, end = body["statement"].split("\n")
        old, new, number = parse_key(before), parse_key(after), decimal(size)
        ordered = place(old.origin)[0] == place(new.origin)[0] and place(old.origin)[1] < place(new.origin)[1]
        if (
            (context, end) != (CONTEXT, "") or number is None or len(unbase64(root) or b"") != 32 or not ordered
            or not is_link(body) or not fits(body, "key-rotation", exact=False) or (unbase64(body["old"]), unbase64(body["new"])) != (old.spki, new.spki)
            or old.raw == new.raw or None in (body["old_signature"], body["new_signature"])
        ):
            raise wrong
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise wrong from error
    for key, signature in ((old, body["old_signature"]), (new, body["new_signature"])):
        if not signed(key, body["statement"], signature):
            raise Failure("LEDGER-LINK-SIGNATURE", where, f"the statement is not signed by {key.origin}")
    return old, new, number, root

def follow(key, known, links, where):
    """The logs of the lineage of `key`, the oldest first: each key, and the tree that its log ended with, size and root.
    `known` is what was followed before; what `links` add leads on from that. With the links that lead there."""
    opened = {}
    for at, body in [*(("the trust file", link) for link in known), *links]:
        opened.setdefault(open_link(body, at), body)
    if len(links) > MAX_LINKS:
        raise Failure("LEDGER-LINK-FORMAT", where, f"a lineage has at most {MAX_LINKS} links")
    while before := [link[0] for link in opened if link[1] == key]:
        key = before[0]
    logs, led = [[key, None]], []
    while after := [link for link in opened if link[0] == logs[-1][0]]:
        if len(after) > 1:
            raise Failure("LEDGER-LINEAGE-FORKED", where, f"{logs[-1][0].origin} goes on as two logs")
        for log in logs:  # what a later log gave up of an earlier one's is not in the tree
            log[1] = after[0][2:] if log[1] is None or after[0][2] <= log[1][0] else log[1]
        logs.append([after[0][1], None])
        led.append(opened[after[0]])
    return logs, led

def open_head(note, logs, where):
    """What the newest log signed, or of an earlier one the whole tree that its link names: below that a key that was
    replaced can have signed anything since. With the note's text and lines."""
    named = [log for log in logs if log[0].origin == note.split("\n")[0]]
    key, end = named[0] if named else logs[-1]
    head, text, lines = open_checkpoint(note, key, where)
    if end is not None and head.size > end[0]:
        raise Failure("LEDGER-CHECKPOINT-ENDED", where, f"{head.origin} ended with {end[0]} records")
    if end is not None and head.size < end[0]:
        raise Failure("LEDGER-CHECKPOINT-FORMER", where, f"nothing shows that it is of what {head.origin} ended with")
    if end is not None and head.root != unbase64(end[1]):
        raise Failure("LEDGER-CHECKPOINT-END-FORKED", where, f"{head.origin} ended with another root")
    return head, text, lines

def read_links(sections):
    """The links of the pack's records, which vouch for themselves."""
    found = []
    for name in [name for name in sections if name.startswith("record/0/")]:
        try:
            record = parse_record(next(entries_of(sections[name]))[0])
        except (Failure, StopIteration, TypeError):
            continue
        if record.kind == "key-rotation" and fits(record.body, record.kind, exact=False) and is_link(record.body):
            found.append((name, record.body))
    return found
