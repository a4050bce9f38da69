#!/usr/bin/env python3
"""What verifiers/python/trilith_verify.py says of packs that a test sends: a line of JSON with the text of a trust
file and the pack's length, then the pack; a line of JSON comes back. One process judges thousands.

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
            told = verifier.verify(pack, *verifier.read_trust(asked["trust"].encode()))
        except verifier.Failure as failure:
            told = {"code": failure.code, "where": failure.where, "record": failure.record}
        except Exception:  # a defect, which the test shows
            told = {"crashed": traceback.format_exc()}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
