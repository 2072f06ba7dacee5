"""A call without an engine of some stage: the offer of a person, keys in place of speech, the end of a mute call."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bus import metrics
from config.settings import FailoverSection, LlmSection, Settings
from schemas.base import Event
from schemas.call import CallTransferred, TransferResult
from schemas.control import Hangup, Transfer
from schemas.failure import Failure
from schemas.llm import LlmDone, LlmSentence, NextStep, utterance_of
from schemas.playout import PlayoutFinished, PlayoutStarted
from schemas.session import Stage
from schemas.tts import TtsDone
from services.llm.call import LlmCall
from services.llm.degraded import PREFIX, plain_slots
from services.llm.engine import Engine, load_engine
from services.llm.failover import FailoverEngine
from services.text.courtesies import COURTESIES, courtesies
from tests.services.llm.harness import World, hangups
from tests.services.llm.test_failover import virtual
from tests.services.llm.thinkers import Thinker, panel

pytestmark = pytest.mark.unit

TARGET = "sip:colleague@example.net"
EN = courtesies("en")
OFFER = [EN.cannot_help, *EN.offer]
WRONG = list(EN.wrong)
LATER = list(EN.later)
DEAD = [OSError("x")]


def settings(target: str = TARGET, **llm: Any) -> Settings:
    return Settings(llm=LlmSection(filler_ms=0, **llm), failover=FailoverSection(transfer_target=target))


class Desk:
    """A call of two engines that a test lets fail."""

    def __init__(self, world: World, engines: tuple[Thinker, ...]) -> None:
        self.world = world
        self.engines = engines
        self.call: LlmCall

    def down(self) -> None:
        for engine in self.engines:
            engine.always = DEAD

    def up(self) -> None:
        for engine in self.engines:
            engine.always = None

    @property
    def asked(self) -> int:
        return sum(len(engine.requests) for engine in self.engines)


async def desk(target: str = TARGET, *, world: World | None = None, alone: bool = False) -> Desk:
    world = world or World()
    await world.begin()
    engines = (Thinker("a"),) if alone else (Thinker("a"), Thinker("b"))
    made = Desk(world, engines)
    engine: Engine = engines[0] if alone else panel(*engines)
    made.call = await world.work(engine, settings=settings(target))
    await world.answer()
    return made


async def bank(target: str = "", *, world: World | None = None, epoch: int = 1) -> tuple[World, LlmCall]:
    """A call of the example bank, whose script is the only engine."""
    fresh = world is None
    world = world or World()
    if fresh:
        await world.begin()
    call = await world.work(settings=settings(target), epoch=epoch)
    if fresh:
        await world.answer()
    return world, call


async def unheard(world: World, turn: int) -> list[str]:
    world.end_turn(turn, "", why="unheard")
    await world.rest()
    return world.answer_to(turn)


def marks(world: World, turn: int) -> dict[str, str]:
    slots = world.done(turn).slots
    return {name.removeprefix(PREFIX): value for name, value in slots.items() if name.startswith(PREFIX)}


def counted(stage: str, what: str) -> float:
    labels = {"stage": stage, "what": what}
    return metrics.REGISTRY.get_sample_value("callbus_degraded_total", labels) or 0.0


# -- no engine of llm --------------------------------------------------------------------------------------------------


@virtual
async def test_a_person_is_offered_and_the_conversation_stays_where_it_was():
    before = counted("llm", "offer")
    at = await desk()
    assert at.world.done(0).listen_for.state == "after_0"
    at.down()
    assert await at.world.say(1, "where is my card") == OFFER
    done = at.world.done(1)
    assert (done.listen_for.state, done.listen_for.digits, done.then) == ("after_0", 1, NextStep.LISTEN)
    assert {"yes [please | thank you]", "no [thank you | thanks]"} < set(done.listen_for.phrases)
    assert plain_slots(done.slots) == {}
    assert marks(at.world, 1) == {"down": "1", "turn": "1", "offer": "1"}
    assert counted("llm", "offer") == before + 1
    failures = [(event.code, event.stage, event.caller_hears) for event in at.world.of(Failure)]
    assert failures == [("stage_down", "llm", "the offer of a person")]


@virtual
async def test_who_says_yes_is_handed_over_also_if_an_engine_is_back():
    for number, (text, digits) in enumerate([("yes please", ""), ("", "1"), ("Okay.", "")]):
        at = await desk()
        at.world.transfers = True
        at.down()
        await at.world.say(1, "where is my card")
        at.up()
        asked = at.asked
        assert await at.world.say(2, text, digits) == [EN.moment], number
        assert at.asked == asked, "no engine is asked"
        assert at.world.done(2).then is NextStep.TRANSFER
        (command,) = [each for each in at.world.commands if isinstance(each, Transfer)]
        assert command.target == TARGET


@virtual
async def test_who_says_no_gets_the_answer_that_was_owed_if_an_engine_is_back():
    at = await desk()
    at.down()
    await at.world.say(1, "where is my card")
    at.up()
    assert await at.world.say(2, "no thank you") == ["a one.", "a two."]
    request = at.engines[0].requests[-1]
    assert (request.turn, request.text, request.state, request.slots) == (2, "where is my card", "after_0", {})
    assert marks(at.world, 2) == {}, "all is as before"
    assert not [each for each in at.world.commands if isinstance(each, Transfer | Hangup)]


@virtual
async def test_who_says_no_while_they_are_down_hears_goodbye():
    for digits in ("", "2"):
        at = await desk()
        at.down()
        await at.world.say(1, "where is my card")
        assert await at.world.say(2, "" if digits else "no", digits) == LATER
        assert at.world.done(2).then is NextStep.HANG_UP
        assert hangups(at.world.commands) == 1


@virtual
async def test_an_offer_that_was_not_heard_is_not_taken():
    at = await desk()
    at.world.plays = False
    at.down()
    await at.world.say(1, "where is my card")
    at.world.recorder.record(PlayoutStarted(**at.world.base(), utterance_id=100, media_time_ms=0))
    await at.world.interrupt(1, 0, 300)
    at.up()
    assert await at.world.say(2, "yes") == ["a one.", "a two."], "it was said to whatever the caller meant"
    at.down()
    await at.world.say(3, "hello")
    await at.world.interrupt(3, 2, 20)
    assert await at.world.say(4, "yes") == [EN.moment], "this one was: only the rest was cut"


@virtual
async def test_what_is_neither_yes_nor_no_is_for_an_engine_and_the_offer_is_made_twice():
    at = await desk()
    at.down()
    assert await at.world.say(1, "where is my card") == OFFER
    assert await at.world.say(2, "please say that again") == OFFER
    assert await at.world.say(3, "hello") == LATER
    at = await desk()
    at.down()
    await at.world.say(1, "where is my card")
    at.up()
    assert await at.world.say(2, "what is my balance") == ["a one.", "a two."]
    assert at.engines[0].requests[-1].text == "what is my balance"


@virtual
async def test_without_a_person_there_is_an_apology_and_then_a_goodbye():
    at = await desk("")
    at.down()
    assert await at.world.say(1, "hello") == WRONG
    assert await at.world.say(2, "hello") == LATER
    assert hangups(at.world.commands) == 1
    at = await desk("")
    at.down()
    await at.world.say(1, "hello")
    at.up()
    assert await at.world.say(2, "hello") == ["a one.", "a two."]
    at.down()
    assert await at.world.say(3, "hello") == WRONG, "two in a row, and no others, end the call"


@virtual
async def test_an_engine_that_is_alone_may_fail_once():
    at = await desk(alone=True)
    at.down()
    assert [await at.world.say(turn, "hello") for turn in (1, 2)] == [WRONG, OFFER]
    at = await desk("", alone=True)
    at.down()
    assert [await at.world.say(turn, "hello") for turn in (1, 2, 3)] == [WRONG, WRONG, LATER]


@virtual
async def test_a_person_who_can_not_be_reached_is_not_offered_again():
    at = await desk()
    at.world.transfers = True
    at.down()
    await at.world.say(1, "hello")
    await at.world.say(2, "yes")
    failed = CallTransferred(**at.world.base(), target_kind="sip", accepted=False, result=TransferResult.FAILED)
    at.world.recorder.record(failed)
    await at.world.rest()
    beside = [s for s in at.world.of(LlmSentence) if s.utterance_id == utterance_of(2, 1)]
    assert [s.text for s in beside] == [EN.not_transferred]
    at.up()
    await at.world.say(3, "hello")
    assert "transfer_target" not in at.engines[0].requests[-1].slots
    at.down()
    at = await desk()
    at.world.transfers = True
    at.down()
    await at.world.say(1, "hello")
    await at.world.say(2, "yes")
    at.world.recorder.record(msgspec.structs.replace(failed, **at.world.base()))
    await at.world.rest()
    assert await at.world.say(3, "hello") == LATER


@virtual
async def test_a_successor_goes_on_with_the_offer():
    at = await desk()
    at.down()
    await at.world.say(1, "where is my card")
    await at.world.kill(at.call)
    at.world.transfers = True
    fresh = Thinker("a")
    await at.world.work(panel(fresh, Thinker("b")), epoch=2, settings=settings())
    assert await at.world.say(2, "yes") == [EN.moment]
    assert fresh.requests == []
    assert [each.target for each in at.world.commands if isinstance(each, Transfer)] == [TARGET]


@virtual
async def test_a_successor_ends_an_offer_that_was_begun():
    """Of the dead worker's answer only the failure and the first sentence have come through."""
    world = World()
    await world.begin()
    first = await world.work(panel(Thinker("a"), Thinker("b")), settings=settings())
    await world.answer()
    await world.kill(first)
    world.end_turn(1, "where is my card")
    base = {**world.base(), "epoch": 1}
    told: list[Event] = [
        Failure(**base, code="stage_down", stage=Stage.LLM, worker="llm-1", number=0, turn=1),
        LlmSentence(**base, turn=1, utterance_id=100, index=0, text=EN.cannot_help),
    ]
    for event in told:
        world.recorder.record(event)
    await world.rest()
    fresh = Thinker("a")
    await world.work(panel(fresh, Thinker("b")), epoch=2, settings=settings())
    await world.rest()
    assert world.answer_to(1) == OFFER
    assert fresh.requests == [], "the turn was tried, and the caller has heard of it"
    assert world.done(1).sentences == 3
    assert len(world.of(Failure)) == 1


@virtual
async def test_words_while_an_offer_stands_are_guessed_at_by_nobody():
    at = await desk()
    at.down()
    await at.world.say(1, "where is my card")
    asked = at.asked
    await at.world.stand_still(2, "yes")
    assert at.asked == asked


@virtual
async def test_what_was_said_before_it_broke_off_stays_and_the_offer_follows():
    at = await desk()
    at.engines[0].scripts = [["Let me see.", *DEAD], DEAD, DEAD]
    at.engines[1].always = DEAD
    assert await at.world.say(1, "where is my card") == ["Let me see.", *OFFER]


# -- no engine of asr ------------------------------------------------------------------------------------------------


@virtual
async def test_who_is_not_understood_is_read_a_menu_and_the_keys_do_what_it_says():
    world, _ = await bank()
    assert await unheard(world, 1) == [
        EN.cannot_hear,
        EN.use_keys,
        "For news of your card, press 1.",
        "For your balance, press 2.",
        "For a lost card, press 3.",
        "For a colleague, press 0.",
    ]
    assert (world.done(1).listen_for.digits, world.done(1).listen_for.state) == (1, "welcome")
    assert world.done(1).listen_for.phrases == world.done(0).listen_for.phrases, "for when speech is understood again"
    assert await world.say(2, digits="2") == [
        "I can help you with that.",
        "Please tell me the last four digits of your card, by voice or on your keypad.",
        "Please key in the 4 digits.",
        "For a colleague, press 0.",
    ]
    assert world.done(2).listen_for.digits == 4
    answer = await world.say(3, digits="4271")
    assert answer[-9:] == [
        "Is there anything else I can help you with?",
        "For yes, press 1.",
        "For no, press 2.",
        "For news of your card, press 3.",
        "For your balance, press 4.",
        "For a lost card, press 5.",
        "For help, press 6.",
        "For goodbye, press 7.",
        "For a colleague, press 0.",
    ]
    assert (await world.say(4, digits="0"))[0].startswith("Our colleagues are here"), "the script's own person"
    assert await world.say(5, digits="2") == ["Thank you for calling Example Bank.", "Goodbye."]
    assert world.done(5).then is NextStep.HANG_UP


@virtual
async def test_once_speech_is_understood_all_is_as_before():
    world, _ = await bank()
    await unheard(world, 1)
    assert (await world.say(2, "what is my balance"))[-1].endswith("on your keypad.")
    assert marks(world, 2) == {}
    await world.say(3, "4271")
    assert await world.say(4, digits="7") == [
        "I did not catch that.",
        "You can ask about your card, your balance, or a lost card.",
    ], "a key that nobody was told of"


@virtual
async def test_who_goes_on_speaking_is_told_five_times():
    world, _ = await bank()
    first = await unheard(world, 1)
    assert await unheard(world, 2) == first[1:]
    for turn in (3, 4, 5):
        assert (await unheard(world, turn))[0] == EN.use_keys
    assert await unheard(world, 6) == LATER
    assert hangups(world.commands) == 1


@virtual
async def test_a_successor_knows_that_the_keys_are_in_use():
    world, first = await bank()
    await unheard(world, 1)
    await world.kill(first)
    await bank(world=world, epoch=2)
    assert (await world.say(2, digits="3"))[-2:] == ["Please key in the 4 digits.", "For a colleague, press 0."]


@virtual
async def test_an_agent_of_a_model_has_yes_no_and_a_person():
    at = await desk()
    at.world.transfers = True
    assert (await unheard(at.world, 1))[2:] == ["For yes, press 1.", "For no, press 2.", "For a colleague, press 0."]
    assert (await at.world.say(2, digits="1"))[:2] == ["a one.", "a two."]
    assert (at.engines[0].requests[-1].digits, at.engines[0].requests[-1].keyed) == ("1", True)
    assert at.world.answer_to(2)[2:] == at.world.answer_to(1)[2:], "and again after the answer"
    assert await at.world.say(3, digits="0") == [EN.moment]
    assert [each.target for each in at.world.commands if isinstance(each, Transfer)] == [TARGET]


@virtual
async def test_without_a_person_0_is_the_engines():
    at = await desk("")
    await unheard(at.world, 1)
    assert (await at.world.say(2, digits="0"))[0] == "a one."


@virtual
async def test_neither_understanding_nor_an_answer_leaves_the_keys_of_the_offer():
    at = await desk()
    at.world.transfers = True
    at.down()
    await at.world.say(1, "where is my card")
    assert (await unheard(at.world, 2))[2:] == ["For yes, press 1.", "For no, press 2."]
    assert await at.world.say(3, digits="1") == [EN.moment]
    at = await desk("")
    await unheard(at.world, 1)
    at.down()
    assert await at.world.say(2, digits="1") == [WRONG[0], "For yes, press 1.", "For no, press 2."]


@virtual
async def test_a_script_behind_a_model_tells_its_menu_only_of_its_own_states():
    script = load_engine("scripted", LlmSection())
    model = Thinker("a")
    engine = FailoverEngine([("a", model), ("scripted", script)], Settings())
    assert engine.menu("after_3") is None
    menu = engine.menu("confirm_block")
    assert menu is not None and menu.lines == (("1", "yes"), ("2", "no"), ("0", "a colleague"))
    assert engine.menu("card_status") is None, "it waits for nobody"


# -- no engine of tts ------------------------------------------------------------------------------------------------


def mute(world: World, turn: int, *, apology: str = "I am sorry.") -> None:
    """The tts stage says something else in place of the answer."""
    utterance_id, count = utterance_of(turn), world.done(turn).sentences
    for index in range(count):
        text = apology if index == 0 else ""
        base = world.base()
        world.recorder.record(
            TtsDone(**base, turn=turn, utterance_id=utterance_id, index=index, frames=1, duration_ms=20, text=text)
        )
    world.recorder.record(PlayoutStarted(**world.base(), utterance_id=utterance_id, media_time_ms=0))
    world.recorder.record(PlayoutFinished(**world.base(), utterance_id=utterance_id, media_time_ms=0))


@virtual
async def test_two_answers_in_a_row_that_nobody_could_hear_end_the_call():
    before = counted("tts", "goodbye")
    at = await desk(world=World(plays=False))
    mute(at.world, 0)
    await at.world.rest()
    await at.world.say(1, "hello")
    assert at.world.of(LlmDone)[-1].utterance_id == 100
    mute(at.world, 1)
    await at.world.rest()
    goodbye = at.world.of(LlmDone)[-1]
    assert (goodbye.utterance_id, goodbye.then, goodbye.sentences) == (101, NextStep.HANG_UP, 2)
    assert [s.text for s in at.world.of(LlmSentence) if s.utterance_id == 101] == LATER
    assert counted("tts", "goodbye") == before + 1
    assert hangups(at.world.commands) == 0
    at.world.play(101, 2)
    await at.world.rest()
    assert hangups(at.world.commands) == 1


@virtual
async def test_one_that_was_heard_in_between_is_enough_to_go_on():
    at = await desk(world=World(plays=False))
    mute(at.world, 0)
    await at.world.say(1, "hello")
    at.world.synthesise(100, 0, "a one.")
    at.world.synthesise(100, 1, "a two.")
    at.world.play(100, 2)
    await at.world.say(2, "hello")
    mute(at.world, 2)
    await at.world.rest()
    assert [done.utterance_id for done in at.world.of(LlmDone)] == [0, 100, 200]


@virtual
async def test_a_successor_ends_the_goodbye_that_was_begun():
    at = await desk(world=World(plays=False))
    mute(at.world, 0)
    await at.world.say(1, "hello")
    await at.world.kill(at.call)
    mute(at.world, 1)
    begun = LlmSentence(**{**at.world.base(), "epoch": 1}, turn=1, utterance_id=101, index=0, text=LATER[0])
    at.world.recorder.record(begun)
    await at.world.rest()
    await at.world.work(panel(Thinker("a"), Thinker("b")), epoch=2, settings=settings())
    await at.world.rest()
    (done,) = [each for each in at.world.of(LlmDone) if each.utterance_id > 100]
    assert (done.utterance_id, done.sentences, done.then) == (101, 2, NextStep.HANG_UP)


# -- the words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "text", "means"),
    [
        ("en", "Yes, please.", True), ("en", "okay", True), ("en-GB", "please do", True), ("en", "no", False),
        ("en", "no thank you", False), ("en", "I do not want that", False), ("en", "please say that again", None),
        ("en", "yes no", None), ("en", "", None), ("en", "okay what is my balance", None),
        ("de-AT", "Ja, gerne.", True), ("de", "nein danke", False), ("de", "bitte wiederholen", None),
        ("fr", "d'accord", True), ("fr", "non merci", False), ("es", "sí por favor", True), ("es", "si", True),
        ("es", "si puede ser", None), ("es", "no gracias", False), ("pl", "yes", True),
    ],
)  # fmt: skip
def test_yes_and_no(language: str, text: str, means: bool | None) -> None:
    assert courtesies(language).choice(text) is means


@pytest.mark.parametrize("language", COURTESIES)
def test_every_language_has_everything_and_can_be_listened_for(language: str) -> None:
    from services.asr.grammar import parse

    texts = COURTESIES[language]
    assert all(texts), language
    assert texts.press.format(key=1, title="x") and texts.key_in.format(count=4)
    for phrase in (*texts.yes_phrases, *texts.no_phrases):
        parse(phrase)
    assert texts.choice(texts.yes) is True and texts.choice(texts.no) is False
