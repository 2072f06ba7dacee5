"""Grammars that hold a model to a tool call which its schema allows (llama.cpp's GBNF). Pure.

Everything has an end: strings, lists and numbers have a largest size, so that even a model that talks nonsense closes
its brackets. What a schema says beyond this, such as ``maximum``, is checked before a tool runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from services.llm.chat.model import ToolDescription

MOST_CHARACTERS = 200
MOST_ITEMS = 8
_DEPTH = 2
"""How deep lists and objects may lie in each other where a schema allows anything."""

_BASICS = {
    "ws": '" "?',
    "hex": "[0-9a-fA-F]",
    # No lone half of a surrogate pair: it is no character.
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" ([0-9abcefABCEF] hex | [dD] [0-7]) hex hex)',
    "whole": '"0" | [1-9] [0-9]{0,14}',
    "integer": '"-"? whole',
    "number": '"-"? whole ("." [0-9]{1,6})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "string": r'"\"" char{0,@} "\""'.replace("@", str(MOST_CHARACTERS)),
    "key": r'"\"" char{1,40} "\""',
    "date": '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])',
    "time": '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("Z" | [-+] [01] [0-9] ":" [0-5] [0-9])?',
}
_FORMATS = {
    "date": r'"\"" date "\""',
    "time": r'"\"" time "\""',
    "date-time": r'"\"" date "T" time "\""',
    "uuid": r'"\"" hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12} "\""',
}
_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": " "}


class UnsupportedPatternError(ValueError):
    """A regular expression that no grammar is written for."""


def literal(text: str) -> str:
    """A text as it stands."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def tool_grammar(
    tools: Sequence[ToolDescription], *, key: str, before: str = "", after: str = "", most_calls: int = 1
) -> str:
    """The grammar of one call, or several, of these tools: ``{key: name, "arguments": {...}}``.

    Args:
        before, after: what stands around each call.
    """
    rules = _Rules()
    calls = []
    for number, tool in enumerate(tools):
        arguments = rules.add(f"arguments-{number}", rules.body(tool.parameters, tool.parameters, _DEPTH))
        name = literal(json.dumps(tool.name, ensure_ascii=False))
        head = f'"{{" ws {literal(json.dumps(key))} ":" ws {name} "," ws {literal(json.dumps("arguments"))} ":" ws'
        calls.append(rules.add(f"call-{number}", f'{head} {arguments} ws "}}"'))
    one = f"({' | '.join(calls)})"
    one = " ".join(part for part in (literal(before) if before else "", one, literal(after) if after else "") if part)
    # Many vocabularies have the white space before a word in the word's token.
    more = f' ("\\n"? {one}){{0,{most_calls - 1}}}' if most_calls > 1 else ""
    rules.rules["root"] = f"[ \\n]{{0,2}} {one}{more}"
    return rules.text()


class _Rules:
    """Rules in the making."""

    def __init__(self) -> None:
        self.rules: dict[str, str] = dict(_BASICS)
        self._references: dict[str, str] = {}

    def text(self) -> str:
        return "\n".join(f"{name} ::= {body}" for name, body in self.rules.items()) + "\n"

    def add(self, name: str, body: str) -> str:
        """A new rule; its name is made unique."""
        plain = base = re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-") or "rule"
        number = 0
        while plain in self.rules:
            number += 1
            plain = f"{base}-{number}"
        self.rules[plain] = body
        return plain

    def body(self, schema: Any, root: Any, depth: int) -> str:
        """What fits a schema. ``depth``: see :data:`_DEPTH`."""
        if not isinstance(schema, dict):
            return self._anything(depth)
        if "$ref" in schema:
            return self._reference(schema["$ref"], root, depth)
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                return f"({' | '.join(self.body(each, root, depth) for each in schema[word])})"
        if schema.get("allOf"):
            return self.body({**schema["allOf"][0], **{k: v for k, v in schema.items() if k != "allOf"}}, root, depth)
        if "const" in schema or schema.get("enum"):
            values = schema.get("enum") or [schema["const"]]
            return f"({' | '.join(literal(json.dumps(value, ensure_ascii=False)) for value in values)})"
        kind = schema.get("type", "object" if "properties" in schema else None)
        if isinstance(kind, list):
            return f"({' | '.join(self.body({**schema, 'type': each}, root, depth) for each in kind)})"
        if kind == "object":
            return self._object(schema, root, depth)
        if kind == "array":
            return self._array(schema, root, depth)
        if kind == "string":
            return self._string(schema)
        if kind in ("integer", "number") and schema.get("minimum", -1) >= 0:
            return "whole" if kind == "integer" else '(whole ("." [0-9]{1,6})?)'
        return kind if kind in ("integer", "number", "boolean", "null") else self._anything(depth)

    def _reference(self, reference: str, root: Any, depth: int) -> str:
        """A part of the schema that has a name; it may hold itself."""
        if reference not in self._references:
            target = root
            for part in reference.lstrip("#/").split("/"):
                target = target.get(part, {}) if isinstance(target, dict) else {}
            self._references[reference] = name = self.add(reference.rpartition("/")[2], '""')
            self.rules[name] = self.body(target, root, depth)
        return self._references[reference]

    def _object(self, schema: dict[str, Any], root: Any, depth: int) -> str:
        properties: dict[str, Any] = schema.get("properties") or {}
        if not properties:
            more = schema.get("additionalProperties", "properties" not in schema)
            if more is False or depth <= 0:
                return '"{" ws "}"'
            pair = self.add("pair", f'key ":" ws {self.body(more, root, depth - 1)}')
            return f'("{{" ws "}}" | "{{" ws {pair} ("," ws {pair}){{0,{MOST_ITEMS - 1}}} "}}")'
        required = set(schema.get("required", ()))
        members = [
            (
                name in required,
                f'{literal(json.dumps(name, ensure_ascii=False))} ":" ws {self.body(value, root, depth)}',
            )
            for name, value in properties.items()
        ]
        # From the last member to the first: what may follow where one has been written already, and where none has.
        after, first = '""', '""'
        for needed, member in reversed(members):
            whole_after, whole_first = f'"," ws {member} {after}', f"{member} {after}"
            after = self.add("after", whole_after if needed else f"{whole_after} | {after}")
            first = self.add("first", whole_first if needed else f"{whole_first} | {first}")
        return f'"{{" ws {first} ws "}}"'

    def _array(self, schema: dict[str, Any], root: Any, depth: int) -> str:
        least = max(0, int(schema.get("minItems", 0)))
        most = max(least, min(int(schema.get("maxItems", MOST_ITEMS)), max(MOST_ITEMS, least)))
        if most == 0 or depth < 0:
            return '"[" ws "]"'
        item = self.add("item", self.body(schema.get("items", {}), root, depth - 1))
        full = f'"[" ws {item} ("," ws {item}){{{max(0, least - 1)},{most - 1}}} ws "]"'
        return full if least else f'("[" ws "]" | {full})'

    def _string(self, schema: dict[str, Any]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        if "pattern" in schema:
            try:
                return rf'"\"" {pattern_body(schema["pattern"])} "\""'
            except UnsupportedPatternError:
                pass  # The tool's own check remains.
        least = max(0, int(schema.get("minLength", 0)))
        return self._characters(least, max(least, min(int(schema.get("maxLength", MOST_CHARACTERS)), MOST_CHARACTERS)))

    def _characters(self, least: int, most: int) -> str:
        return "string" if (least, most) == (0, MOST_CHARACTERS) else rf'"\"" char{{{least},{most}}} "\""'

    def _anything(self, depth: int) -> str:
        name = f"anything-{max(0, depth)}"
        if name not in self.rules:
            plain = ["number", "boolean", "null", "string"]
            if depth > 0:
                plain += [self._object({}, {}, depth), self._array({}, {}, depth - 1)]
            self.rules[name] = " | ".join(plain)
        return name


def pattern_body(pattern: str) -> str:
    """A regular expression as the inside of a JSON string.

    Raises:
        UnsupportedPatternError: it is more than classes, groups, alternatives and repetitions.
    """
    around = rf"char{{0,{MOST_CHARACTERS // 2}}}"
    before = "" if pattern.startswith("^") else around
    after = "" if re.search(r"(?<!\\)\$$", pattern) else around
    inner = pattern[1 if not before else 0 : -1 if not after else None]
    translated = _translate(inner)
    return " ".join(part for part in (before, f"({translated})" if translated else "", after) if part) or '""'


def _translate(pattern: str) -> str:
    parts: list[str] = []
    place = 0
    while place < len(pattern):
        character = pattern[place]
        found = re.match(r"\{(\d+)(,?)(\d*)\}|[*+?]", pattern[place:])
        if found:
            parts[-1:] = [f"{parts[-1]}{_repetition(found)}"] if parts and parts[-1] not in "(|" else _refuse(pattern)
            place += found.end()
        elif character == "[":
            found = re.match(r"\[\^?(?:\\.|[^\]\\])+\]", pattern[place:]) or _refuse(pattern)
            parts.append(_class(found[0], pattern))
            place += found.end()
        elif character == "\\":
            following = pattern[place + 1 : place + 2]
            if following in _CLASSES:
                parts.append(f"[{_CLASSES[following]}]")
            elif following.isalnum() or following in ('"', "\\", ""):
                _refuse(pattern)
            else:
                parts.append(literal(following))
            place += 2
        elif pattern.startswith("(?:", place):
            parts.append("(")
            place += 3
        elif character in "()|":
            if pattern.startswith("(?", place):
                _refuse(pattern)
            parts.append(character)
            place += 1
        elif character in '^$"{}' or not character.isprintable():
            _refuse(pattern)
        else:
            parts.append("char" if character == "." else literal(character))
            place += 1
    return " ".join(parts)


def _repetition(found: re.Match[str]) -> str:
    """At most :data:`MOST_CHARACTERS` times."""
    if found[0] in "*+?":
        return {"*": f"{{0,{MOST_CHARACTERS}}}", "+": f"{{1,{MOST_CHARACTERS}}}", "?": "?"}[found[0]]
    least = int(found[1])
    if not found[2]:
        return f"{{{least}}}"
    return f"{{{least},{int(found[3]) if found[3] else max(least, MOST_CHARACTERS)}}}"


def _class(text: str, pattern: str) -> str:
    """A class of characters, without those that would break out of a JSON string."""
    inner = text[1:-1]
    negated = inner.startswith("^")
    inner = re.sub(r"\\([dws])", lambda found: _CLASSES[found[1]], inner[1:] if negated else inner)
    if re.search(r'"|\\[a-zA-Z0-9\\]', inner) or not inner.isprintable():
        _refuse(pattern)
    # A grammar knows fewer escapes than an expression: a hyphen that stands for itself stands last.
    hyphen = "-" if r"\-" in inner else ""
    inner = re.sub(r"\\([^\[\]])", r"\1", inner.replace(r"\-", "")) + hyphen
    return rf'[^"\\\x00-\x1F\x7F{inner}]' if negated else f"[{inner}]"


def _refuse(pattern: str) -> Any:
    raise UnsupportedPatternError(f"the pattern {pattern!r} is beyond a grammar")
