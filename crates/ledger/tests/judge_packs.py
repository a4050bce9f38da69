#!/usr/bin/env python3
"""What verifiers/python/trilith_verify.py says of packs that a test sends: a line of JSON with what to trust
and the pack's length, then the pack; a line of JSON comes back. One process judges thousands.

Usage: judge_packs.py VERIFIER
"""

import importlib.util
import json
import sys
import traceback


def main():
    spec = importlib.util.spec_from_file_location("trilith_verify", sys.argv[1])
    verifier = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(verifier)
    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        pack = sys.stdin.buffer.read(asked["length"])
        try:
            told = verifier.verify(pack, asked["trust_domain"], verifier.parse_key(asked["ledger_key"]))
        except verifier.Failure as failure:
            told = {"code": failure.code, "where": failure.where, "record": failure.record}
        except Exception:  # a defect, which the test shows
            told = {"crashed": traceback.format_exc()}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
