"""The reader's own file, never the pack's: whose ledger it is, and whom its reader trusts."""
import json, re, tomllib

from c2sp import Failure, parse_key, parse_policy, unbase64
from lineage import follow
from trilith_formats import distinct, is_text

def read_trust(data):
    """The reader's own file, never the pack's: JSON as `trilith trust` prints it, or TOML with the same fields."""
    def check(good, what):
        if not good:
            raise Failure("VERIFY-TRUST-FILE", "the trust file", f"it is not a trust file: {what}")
    try:
        text = data.decode()
        found = json.loads(text, object_pairs_hook=distinct) if text.lstrip()[:1] == "{" else tomllib.loads(text)
        roots, policy, links = found.pop("x509_authorities", []), found.pop("policy", None), found.pop("lineage", [])
        check(set(found) == {"trust_domain", "ledger_key"} and all(map(is_text, found.values())), "its fields")
        check(isinstance(roots, list) and all(unbase64(root) is not None for root in roots), "its x509_authorities")
        domain, key = found["trust_domain"], parse_key(found["ledger_key"])
        policy = None if policy is None else parse_policy(policy)
    except (ValueError, RecursionError, AttributeError) as error:
        check(False, error)
    check(re.fullmatch("[a-z0-9._-]{1,255}", domain), f"{domain!r} is no trust domain")
    check(key.origin.startswith(domain + "/"), f"its ledger key is of {key.origin}, not of the trust domain {domain}")
    check(policy is None or not policy.logs or key in policy.logs, "its policy is of other logs than its ledger key")
    check(isinstance(links, list), "its lineage")
    try:
        logs, links = follow(key, [], [("the trust file", link) for link in links], "the trust file")
    except Failure as error:
        check(False, f"its lineage: {error}")
    check(logs[-1][0] == key, "its lineage does not end with its ledger key")
    return domain, key, policy, [unbase64(root) for root in roots], links
