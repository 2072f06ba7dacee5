"""Web and mail addresses as people say them: "example dot com", "jo dot doe at example dot com". Pure."""

from __future__ import annotations

import re

from services.text.rules import Rule, rule
from services.text.vocabulary import Vocabulary

_BARE_DOMAINS = "com|org|net|edu|gov|io|ai|dev|app|info|biz|uk|eu|de"
"""Ends of a domain that are taken for one without ``www.`` before it."""
_SPOKEN_WHOLE = frozenset({"co", "me"})
_TRAILING = ".,;:!?)]}'\"”’»*_"
_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)*")
_PLAIN_SEGMENT = re.compile(r"[A-Za-z]{1,20}(?:[-_][A-Za-z]{1,20}){0,4}|[0-9]{1,4}")
_SIGN = re.compile(r"[._+:-]")


def address_rules(vocabulary: Vocabulary) -> list[Rule]:
    """Rules for addresses; what a voice can't say of them is left out."""

    def mail(match: re.Match[str]) -> str:
        name, _, host = match.group().partition("@")
        return f"{_name(name, vocabulary)} {vocabulary.address['@']} {_host(host, vocabulary)}"

    def web(match: re.Match[str]) -> str:
        written = match.group()
        shown = written.rstrip(_TRAILING)
        return _address(shown, vocabulary) + written[len(shown) :]

    return [
        rule(r"(?:\bmailto:)?(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}(?!\w)", mail),
        rule(r"(?<!\w)(?:https?://|www\.)[^\s<>\"]{1,500}", web, re.IGNORECASE),
        rule(rf"(?<![\w.@-])(?:[a-z0-9-]{{1,63}}\.){{1,4}}(?:{_BARE_DOMAINS})(?![\w@-])(?:/[^\s<>\"]{{0,500}})?", web),
    ]


def _name(name: str, vocabulary: Vocabulary) -> str:
    name = name.removeprefix("mailto:")
    return " ".join(_SIGN.sub(lambda sign: f" {vocabulary.address[sign.group()]} ", name).split())


def _host(host: str, vocabulary: Vocabulary) -> str:
    parts = host.split(".")
    last = parts[-1]
    if len(parts) > 1 and len(last) == 2 and last.lower() not in _SPOKEN_WHOLE:
        parts[-1] = " ".join(last.upper())
    dash = f" {vocabulary.address['-']} "
    return f" {vocabulary.address['.']} ".join(part.replace("-", dash) for part in parts)


def _address(address: str, vocabulary: Vocabulary) -> str:
    """The host and the first plain parts of the path."""
    scheme, found, rest = address.partition("://")
    rest = rest if found else scheme
    rest = re.sub(r"\Awww\.", "", rest, flags=re.IGNORECASE)
    host = _HOST.match(rest)
    if host is None:
        return rest
    said = _host(host.group(), vocabulary)
    path = re.split(r"[?#]", rest[host.end() :], maxsplit=1)[0]
    for segment in path.lstrip(":0123456789").strip("/").split("/"):
        if not _PLAIN_SEGMENT.fullmatch(segment):
            break
        said += f" {vocabulary.address['/']} {re.sub('[-_]', ' ', segment)}"
    return said
