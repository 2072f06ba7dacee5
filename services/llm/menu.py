"""What the keys of a telephone stand for where speech is not understood: a state of a script as a menu. Pure.

A state's own ``keys`` come first. Where it has none, its intents are numbered: yes is 1 and no is 2 where both are
understood there, and the others follow in the order of ``listen``; a wish to speak to somebody is 0.
"""

from __future__ import annotations

from typing import NamedTuple

from services.llm.agent_file import Agent
from services.text.courtesies import courtesies

SPEAK_TO_AGENT = "speak_to_agent"
"""Name of the intent of a caller who wants a person: key 0 where it is understood and 0 is free."""

YES, NO = "yes", "no"


class Menu(NamedTuple):
    """Keys and what they stand for.

    Attributes:
        lines: key and title, in the order in which they are told.
        digits: so many digits are awaited; 0: a single key.
    """

    lines: tuple[tuple[str, str], ...] = ()
    digits: int = 0


def keys_of(agent: Agent, name: str) -> dict[str, str]:
    """Key -> intent in a state that waits for the caller."""
    state, known = agent.states[name], agent.intents_of[name]
    keys = dict(state.keys)
    if not keys and state.collect is None:
        others = [intent for intent in known if intent not in (YES, NO, SPEAK_TO_AGENT)]
        numbered = [intent for intent in (YES, NO) if intent in known] + others
        keys = {str(number): intent for number, intent in enumerate(numbered[:9], 1)}
    if SPEAK_TO_AGENT in known and SPEAK_TO_AGENT not in keys.values():
        keys.setdefault("0", SPEAK_TO_AGENT)
    return keys


def menu_of(agent: Agent, name: str) -> Menu | None:
    """The menu of a state, of the start where there is no state yet; None: it is no state of this script, or waits for
    nobody."""
    name = name or agent.head.start
    if name not in agent.states or not agent.states[name].waits:
        return None
    collect = agent.states[name].collect
    lines = tuple((key, _title(agent, intent)) for key, intent in keys_of(agent, name).items())
    return Menu(lines, collect.digits if collect is not None else 0)


def _title(agent: Agent, intent: str) -> str:
    texts = courtesies(agent.head.language)
    usual = {YES: texts.yes, NO: texts.no, SPEAK_TO_AGENT: texts.person}
    return agent.intents[intent].title or usual.get(intent) or intent.replace("_", " ")
