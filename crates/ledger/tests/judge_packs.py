#!/usr/bin/env python3
"""What verifiers/python says of packs that a test sends: a line of JSON with what to trust
and the pack's length, then the pack; a line of JSON comes back. One process judges thousands.

Usage: judge_packs.py FOLDER
"""

import json
import sys
import traceback


def trust(standards, verifier, asked):
    policy = asked["policy"] and standards.parse_policy(asked["policy"])
    links = list(map(verifier.open_link, asked["lineage"]))
    return asked["trust_domain"], standards.parse_key(asked["ledger_key"]), policy, (), links


def main():
    sys.dont_write_bytecode = True
    sys.path.insert(0, sys.argv[1])
    import c2sp as standards
    import trilith_verify as verifier

    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        pack = sys.stdin.buffer.read(asked["length"])
        try:
            told = verifier.verify(pack, *trust(standards, verifier, asked))
        except verifier.Failure as failure:
            told = {"code": failure.code, "where": failure.where, "record": failure.record}
        except Exception:  # a defect, which the test shows
            told = {"crashed": traceback.format_exc()}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
