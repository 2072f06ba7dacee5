"""An agent that a language model plays: its file, checked and made ready. Pure but for reading nothing at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.llm import ListenFor
from services.llm import phrases
from services.llm.agent_file import AgentFileError, Document, ModelSection
from services.llm.manners import Manners
from services.llm.matching import Matcher

STATE = "model"
"""Name of the only state that such an agent has."""


class ChatAgent(NamedTuple):
    """An agent that is ready to be played.

    Attributes:
        listen_for: what asr may expect after an answer that asks for no digits; ``hints``: name in [model.digits] ->
            what it may expect after one that does.
        matcher: finds the intent of what a caller said among ``intents``; None: the file has none.
    """

    path: str
    name: str
    language: str
    model: ModelSection
    manners: Manners
    listen_for: ListenFor
    hints: Mapping[str, ListenFor]
    intents: tuple[str, ...]
    matcher: Matcher | None


def build_chat_agent(document: Document, engine: str) -> ChatAgent:
    """An agent out of a document whose sections are sound; ``engine``: who asks, for the error's text.

    Raises:
        AgentFileError: there is no [model], or a phrase can't be read.
    """
    model = document.model
    if model is None:
        raise AgentFileError(
            f"{document.path}: section [model] is missing: the engine {engine!r} needs its instructions "
            "(docs/agents.md); write one, or choose the engine 'scripted'"
        )
    head = document.head
    texts = model.phrases
    if texts is None:
        texts = tuple(text for intent in document.intents.values() for text in intent.phrases)
        place = "[intents]"
    else:
        place = "[model] phrases"
    rendered = _render(document, place, texts)
    hints = {name: _hint(document, name, hint.count, hint.phrases, rendered) for name, hint in model.digits.items()}
    ways = {name: _ways(document, name, intent.phrases) for name, intent in document.intents.items()}
    # In a script only an intent that leads somewhere is a subject: yes and no are none.
    subjects = tuple(name for name, intent in document.intents.items() if intent.go or not document.states)
    return ChatAgent(
        path=document.path,
        name=head.name,
        language=head.language,
        model=model,
        manners=Manners(head.fillers, head.away, head.away_goodbye, head.language),
        listen_for=ListenFor(state=STATE, phrases=rendered),
        hints=hints,
        intents=subjects,
        matcher=Matcher(ways, document.matching.threshold, document.matching.ignore) if ways else None,
    )


def _hint(document: Document, name: str, count: int, own: Iterable[str], others: tuple[str, ...]) -> ListenFor:
    """Where anything may be said no phrase is listed: a list would exclude the rest."""
    texts = (" ".join([phrases.DIGIT] * count), *_render(document, f"[model.digits.{name}] phrases", own))
    listed = (*texts, *(text for text in others if text not in texts)) if others else ()
    return ListenFor(state=STATE, phrases=listed, digits=count)


def _render(document: Document, place: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Phrases with their rules put in."""
    try:
        return tuple(dict.fromkeys(phrases.render(phrases.parse(text, document.rules)) for text in texts))
    except phrases.PhraseError as error:
        raise AgentFileError(f"{document.path}: {place}: {error}") from None


def _ways(document: Document, name: str, texts: Iterable[str]) -> list[tuple[str, ...]]:
    try:
        return [way for text in texts for way in phrases.expand(text, phrases.parse(text, document.rules))]
    except phrases.PhraseError as error:
        raise AgentFileError(f"{document.path}: [intents.{name}]: {error}") from None
