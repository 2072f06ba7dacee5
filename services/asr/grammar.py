"""Grammars for engines that can listen for phrases: ``ListenFor`` to JSGF (JSpeech Grammar Format 1.0). Pure.

Phrases are in JSGF expansion syntax (its section 3): words, ``(a | b)``, ``[optional]``, ``a*``, ``a+`` and the rules
of :data:`RULES` as ``<digit>``. Weights, tags and rules of one's own are not supported: an alternative without them
says the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from schemas.llm import ListenFor

DIGITS = ("zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MAX_DIGITS = 24

RULES: dict[str, str] = {
    "digit": " | ".join(DIGITS),
    "digits": "<digit>+",
    "unit": "one | two | three | four | five | six | seven | eight | nine",
    "teen": "ten | eleven | twelve | thirteen | fourteen | fifteen | sixteen | seventeen | eighteen | nineteen",
    "tens": "twenty | thirty | forty | fifty | sixty | seventy | eighty | ninety",
    "below_hundred": "<unit> | <teen> | <tens> [<unit>]",
    "below_thousand": "<below_hundred> | (a | <unit>) hundred [[and] <below_hundred>]",
    "number": "zero | <below_thousand> [thousand [[and] <below_thousand>]]",
    "ordinal": (
        "first | second | third | fourth | fifth | sixth | seventh | eighth | ninth | tenth | eleventh | twelfth | "
        "thirteenth | fourteenth | fifteenth | sixteenth | seventeenth | eighteenth | nineteenth | twentieth | "
        "twenty (first | second | third | fourth | fifth | sixth | seventh | eighth | ninth) | thirtieth | thirty first"
    ),
    "month": (
        "january | february | march | april | may | june | july | august | september | october | november | december"
    ),
    "weekday": "monday | tuesday | wednesday | thursday | friday | saturday | sunday",
    "year": "(nineteen | twenty) (<teen> | <tens> [<unit>] | oh <unit>) | two thousand [[and] <below_hundred>]",
    "date": "[the] <ordinal> [of] <month> [<year>] | <month> [the] <ordinal> [<year>]",
    "yes": "yes [please | it is | that is (correct | right)] | yeah | yep | sure | correct | that is (correct | right)",
    "no": "no [thank you | thanks | it is not | that is (wrong | not correct)] | nope | wrong",
    "yesno": "<yes> | <no>",
}
"""Rules that every phrase may use."""

_MARKS = re.compile(r"[^\w']+")
_TOKEN = re.compile(r"\s+|<([a-z_]+)>|([()\[\]|*+])|([^\s()\[\]|*+<>/{}\";=]+)")
_DIGIT_WORDS = dict(zip("0123456789", (DIGITS[0], *DIGITS[2:]), strict=True))


class GrammarError(ValueError):
    """A phrase that is not in JSGF expansion syntax; the text names the phrase and the defect."""


class Word(NamedTuple):
    """One word, in lower case."""

    text: str


class Rule(NamedTuple):
    """A reference to one of :data:`RULES`."""

    name: str


class Sequence(NamedTuple):
    """Parts one after the other."""

    parts: tuple[Node, ...]


class Choice(NamedTuple):
    """One of several."""

    options: tuple[Node, ...]


class Optional(NamedTuple):
    """A part, or nothing."""

    part: Node


class Repeat(NamedTuple):
    """A part again and again; ``sign`` is ``*`` or ``+``."""

    part: Node
    sign: str


Node = Word | Rule | Sequence | Choice | Optional | Repeat


class Grammar(NamedTuple):
    """A grammar made for one dialogue state.

    Attributes:
        jsgf: the whole grammar; its public rule also allows silence, so that noise need not become a word.
        words: every word in it.
        missing: words that the engine does not know; what needs them is left out.
        faults: phrases left out because they are not in JSGF syntax, each with the defect.
    """

    jsgf: str
    words: frozenset[str]
    missing: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def build(listen_for: ListenFor, knows: Callable[[str], bool]) -> Grammar | None:
    """A grammar of the phrases and digits that the agent expects; None where nothing is left to listen for.

    ``knows`` tells whether the engine can hear a word.
    """
    missing: dict[str, None] = {}
    faults: list[str] = []
    nodes: list[Node] = []
    for phrase in listen_for.phrases:
        try:
            node = _prune(parse(phrase), knows, missing)
        except GrammarError as error:
            faults.append(str(error))
            continue
        if node is not None:
            nodes.append(node)
    if listen_for.digits:
        nodes.append(digit_chain(min(listen_for.digits, MAX_DIGITS)))
    if not nodes:
        return None
    words: set[str] = set()
    lines = _rules_of(nodes, knows, missing, words)
    heard = " | ".join(_render(node) for node in dict.fromkeys(nodes))
    text = "\n".join(["#JSGF V1.0;", "grammar callbus;", f"public <heard> = [ {heard} ];", *lines, ""])
    return Grammar(text, frozenset(words), tuple(missing), tuple(faults))


def parse(phrase: str) -> Node:
    """The tree of one phrase.

    Raises:
        GrammarError: not in JSGF expansion syntax, or a rule that does not exist.
    """
    tokens = _tokens(phrase)
    node, rest = _choice(tokens, 0, phrase)
    if rest != len(tokens):
        raise GrammarError(f"phrase {phrase!r}: {tokens[rest]!r} closes nothing")
    return node


def digit_chain(count: int) -> Node:
    """One to ``count`` digits, never more."""
    node: Node = Rule("digit")
    for _ in range(count - 1):
        node = Sequence((Rule("digit"), Optional(node)))
    return node


def count_digits(text: str) -> int:
    """How many digits a transcript says: digit words and figures, whatever marks stand around them."""
    words = _MARKS.sub(" ", text.lower()).split()
    return sum(1 if word in DIGITS else sum(c.isdigit() for c in word) for word in words)


def _tokens(phrase: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    while at < len(phrase):
        match = _TOKEN.match(phrase, at)
        if match is None:
            raise GrammarError(f"phrase {phrase!r}: {phrase[at]!r} at {at} is not supported")
        at = match.end()
        rule, sign, word = match.groups()
        if rule is not None:
            if rule not in RULES:
                raise GrammarError(f"phrase {phrase!r}: no rule <{rule}>; there are {', '.join(sorted(RULES))}")
            tokens.append(f"<{rule}>")
        elif sign or word:
            tokens.append(sign or word.lower())
    return tokens


def _choice(tokens: list[str], at: int, phrase: str) -> tuple[Node, int]:
    options: list[Node] = []
    while True:
        node, at = _sequence(tokens, at, phrase)
        options.append(node)
        if at == len(tokens) or tokens[at] != "|":
            return (options[0] if len(options) == 1 else Choice(tuple(options))), at
        at += 1


def _sequence(tokens: list[str], at: int, phrase: str) -> tuple[Node, int]:
    parts: list[Node] = []
    while at < len(tokens) and tokens[at] not in ("|", ")", "]"):
        token = tokens[at]
        at += 1
        if token in ("(", "["):
            closing = ")" if token == "(" else "]"
            node, at = _choice(tokens, at, phrase)
            if at == len(tokens) or tokens[at] != closing:
                raise GrammarError(f"phrase {phrase!r}: {closing!r} is missing")
            at += 1
            parts.append(node if token == "(" else Optional(node))
        elif token in ("*", "+"):
            if not parts:
                raise GrammarError(f"phrase {phrase!r}: {token!r} repeats nothing")
            parts.append(Repeat(parts.pop(), token))
        elif token.startswith("<"):
            parts.append(Rule(token[1:-1]))
        else:
            parts.extend(_words(token))
    if not parts:
        raise GrammarError(f"phrase {phrase!r}: an alternative is empty")
    return (parts[0] if len(parts) == 1 else Sequence(tuple(parts))), at


def _words(token: str) -> list[Word]:
    """A token as it is spoken: figures one by one, no punctuation, hyphens apart."""
    if token.isascii() and token.isdigit():
        return [Word(_DIGIT_WORDS[figure]) for figure in token]
    bare = token.strip(".,!?:").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return [Word(part) for part in bare.split("-") if part]


def _prune(node: Node, knows: Callable[[str], bool], missing: dict[str, None]) -> Node | None:
    """The tree without what needs an unknown word; None where nothing is left."""
    if isinstance(node, Word):
        if knows(node.text):
            return node
        missing[node.text] = None
        return None
    if isinstance(node, Rule):
        return node
    if isinstance(node, Choice):
        options = [kept for option in node.options if (kept := _prune(option, knows, missing)) is not None]
        return Choice(tuple(options)) if options else None
    if isinstance(node, Sequence):
        parts: list[Node] = []
        for part in node.parts:
            kept = _prune(part, knows, missing)
            if kept is not None:
                parts.append(kept)
            elif not isinstance(part, Optional):
                return None
        return Sequence(tuple(parts)) if parts else None
    inside = _prune(node.part, knows, missing)
    return None if inside is None else node._replace(part=inside)


def _rules_of(nodes: list[Node], knows: Callable[[str], bool], missing: dict[str, None], words: set[str]) -> list[str]:
    """Lines of the rules that ``nodes`` use, directly or not; collects all words into ``words``."""
    wanted = [name for node in nodes for name in _names(node, words)]
    done: dict[str, str] = {}
    while wanted:
        name = wanted.pop()
        if name in done:
            continue
        rule = _prune(parse(RULES[name]), knows, missing)
        done[name] = "" if rule is None else f"<{name}> = {_render(rule)};"
        if rule is not None:
            wanted.extend(_names(rule, words))
    return [line or f"<{name}> = <VOID>;" for name, line in done.items()]


def _names(node: Node, words: set[str]) -> list[str]:
    if isinstance(node, Word):
        words.add(node.text)
        return []
    if isinstance(node, Rule):
        return [node.name]
    if isinstance(node, Sequence):
        inside: tuple[Node, ...] = node.parts
    elif isinstance(node, Choice):
        inside = node.options
    else:
        inside = (node.part,)
    return [name for part in inside for name in _names(part, words)]


def _render(node: Node) -> str:
    if isinstance(node, Word):
        return node.text
    if isinstance(node, Rule):
        return f"<{node.name}>"
    if isinstance(node, Sequence):
        return " ".join(_render(part) for part in node.parts)
    if isinstance(node, Choice):
        return "(" + " | ".join(_render(option) for option in node.options) + ")"
    if isinstance(node, Optional):
        return f"[{_render(node.part)}]"
    return f"({_render(node.part)}){node.sign}"
