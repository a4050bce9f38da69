#!/usr/bin/env python3
"""Judges a page that `--html` wrote, by two parsers: it is well-formed XML, a browser's rules read the same elements,
nothing runs or loads, and every link leads to a part of the page. Prints its text, and the text of what is marked bad.

Usage: judge_page.py PAGE
"""

import html.parser
import json
import sys
import xml.etree.ElementTree

ELEMENTS = set(
    "html head meta title style body h1 h2 h3 h4 p div span strong code pre bdi a ul li table thead tbody tr th td "
    "dl dt dd".split()
)
ATTRIBUTES = set("lang charset name content http-equiv class role id href scope".split())
VOID = {"meta"}


class Page(html.parser.HTMLParser):
    """As browsers read it: elements, attributes and text in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.seen, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, sorted(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID, f"<{tag} /> stays open in HTML"
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError("a comment")

    def handle_pi(self, data):
        raise AssertionError("a processing instruction")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        source = file.read()
    page = Page()
    page.feed(source)
    page.close()
    assert page.open == [], page.open
    tree = xml.etree.ElementTree.fromstring(source)
    elements = list(tree.iter())
    assert page.seen == [(element.tag, sorted(element.attrib.items())) for element in elements]
    ids = [element.attrib["id"] for element in elements if "id" in element.attrib]
    assert len(set(ids)) == len(ids), "an id twice"
    for element in elements:
        assert element.tag in ELEMENTS, element.tag
        assert set(element.attrib) <= ATTRIBUTES, element.attrib
        link = element.attrib.get("href")
        assert link is None or link[:1] == "#" and link[1:] in ids, link
    policy = [element for element in elements if element.attrib.get("http-equiv") == "Content-Security-Policy"]
    assert [element.attrib["content"] for element in policy] == ["default-src 'none'; style-src 'unsafe-inline'"]
    bad = ["".join(element.itertext()) for element in elements if "bad" in element.attrib.get("class", "").split()]
    print(json.dumps({"text": "".join(page.text), "bad": bad}))


if __name__ == "__main__":
    main()
