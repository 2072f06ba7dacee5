"""A call as the llm stage sees it: the banking conversation, interruptions, failures, commands, what is kept."""

from __future__ import annotations

import msgspec
import pytest

from bus.kv import TypedBucket
from schemas.call import CallResult, CallTransferred, TransferResult
from schemas.control import ControlMessage, ControlReply, Flush, Hangup, Inject, Say
from schemas.failure import Failure
from schemas.llm import LlmDone, LlmSentence, NextStep, ToolReturned
from schemas.session import ConversationContext, SessionStatus
from services.llm import farewell
from services.llm.conversation import Conversation
from services.llm.engine import load_engine
from tests.fakes.virtual import run_virtual
from tests.services.llm.engines import BrokenBucket, BrokenEngine, SlowEngine, TransferEngine, fail
from tests.services.llm.harness import CALL_ID, World, hangups, settings_with

pytestmark = pytest.mark.unit


def test_the_banking_conversation_by_voice() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        call = await world.work()
        await world.answer()
        assert world.answer_to(0) == ["Welcome to Example Bank.", "How can I help you?"]
        assert world.done(0).listen_for.state == "welcome"

        asked = await world.say(1, "where is my credit card")
        assert "last four digits" in asked[1]
        assert world.done(1).intent == "card_delivery_inquiry"
        assert world.done(1).listen_for.digits == 4

        told = await world.say(2, "four two seven one")
        assert told[:3] == [
            "Thank you, Alex Morgan.",
            "Your credit card was shipped on Monday.",
            "The tracking number ends in 8 8 3 1.",
        ]
        assert [r.name for r in world.of(ToolReturned)] == ["verify_customer", "card_status"]
        assert hangups(world.commands) == 0

        bye = await world.say(3, "no thank you goodbye")
        assert bye == ["Thank you for calling Example Bank.", "Goodbye."]
        assert world.done(3).then is NextStep.HANG_UP
        assert hangups(world.commands) == 1
        assert isinstance(world.commands[0], Hangup)

        context = await world.context()
        assert context.last_turn == 3
        assert context.customer_data["authentication_status"] == "VERIFIED"
        assert context.customer_data["customer_id"] == "C-1001"
        assert (await world.history())[:4] == [
            "agent: Welcome to Example Bank. How can I help you?",
            "caller: where is my credit card",
            "agent: I can help you with that. Please tell me the last four digits of your card, by voice or on your "
            "keypad.",
            "caller: four two seven one",
        ]
        assert not world.of(Failure)
        await world.hang_up()
        assert call.conversation.ended is not None

    run_virtual(scenario())


def test_by_keypad_and_the_balance_too() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        await world.work()
        await world.answer()
        await world.say(1, digits="2#")
        assert world.done(1).intent == "account_balance"
        told = await world.say(2, digits="4271")
        assert told[1] == "Your balance is 1250 dollars and 40 cents."
        # Verified once is verified for the call.
        assert (await world.say(3, "i have lost my bank card"))[0] == (
            "Do you want me to block the card that ends in 4 2 7 1?"
        )
        assert (await world.say(4, digits="1"))[0] == "Your card is blocked now."
        assert (await world.say(5, "where is my card"))[0] == "Your credit card is blocked."
        assert (await world.say(6, "can i talk to a person"))[0].startswith("Our colleagues are here")
        assert (await world.say(7, "no"))[-1] == "Goodbye."
        assert hangups(world.commands) == 1
        history = await world.history()
        assert "caller: 4271" in history

    run_virtual(scenario())


def test_wrong_digits_twice_end_the_call() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        await world.work()
        await world.answer()
        await world.say(1, "where is my card")
        assert (await world.say(2, "one two three four"))[0] == "I could not find that card."
        assert world.done(2).listen_for.digits == 4
        assert (await world.context()).customer_data == {"authentication_status": "FAILED"}
        assert (await world.say(3, digits="9999"))[0] == "I am sorry, I could not verify who you are."
        assert world.done(3).then is NextStep.HANG_UP
        assert hangups(world.commands) == 1

    run_virtual(scenario())


def test_a_second_attempt_with_the_right_digits() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        await world.work()
        await world.answer()
        await world.say(1, "where is my card")
        await world.say(2, "one two three four")
        assert (await world.say(3, "four two seven one"))[1] == "Your credit card was shipped on Monday."
        assert (await world.context()).customer_data["authentication_status"] == "VERIFIED"

    run_virtual(scenario())


def test_not_understood_is_said_and_has_an_end() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        await world.work()
        await world.answer()
        for turn, text in enumerate(("tell me a joke", ""), 1):
            assert (await world.say(turn, text))[0] == "I did not catch that."
            assert world.done(turn).listen_for == world.done(0).listen_for
        assert (await world.say(3, "colourless green ideas"))[-1] == "Goodbye."
        assert hangups(world.commands) == 1

    run_virtual(scenario())


def test_nothing_is_said_before_the_call_is_answered() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        await world.work()
        await world.rest(2000)
        assert not world.of(LlmSentence)
        await world.answer()
        assert len(world.of(LlmSentence)) == 2

    run_virtual(scenario())


def test_an_interrupted_answer_is_kept_up_to_the_words_heard() -> None:
    async def scenario() -> None:
        world = World(plays=False)
        await world.begin()
        await world.work()
        await world.answer()
        world.synthesise(0, 0, "Welcome to Example Bank.")
        world.synthesise(0, 1, "How can I help you?")
        await world.interrupt(0, index=1, sent_ms=250)
        assert await world.history() == ["agent: Welcome to Example Bank. How can"]
        exchange = (await world.context()).conversation_history[0]
        assert exchange.interrupted
        # The state of the answer stands all the same: what was said before counts.
        assert (await world.say(1, "what is my balance"))[0] == "I can help you with that."

    run_virtual(scenario())


def test_an_interruption_stops_the_answer_in_the_making() -> None:
    async def scenario() -> None:
        world = World(plays=False)
        engine = SlowEngine(sentences=5, pause_ms=1000)
        await world.begin()
        await world.work(engine)
        await world.answer()
        await world.rest(2000)
        assert len(world.answer_to(0)) == 2
        await world.interrupt(0, index=0, sent_ms=0)
        await world.rest(10_000)
        assert len(world.answer_to(0)) == 2
        assert engine.cancelled == 1
        assert not world.of(LlmDone)
        # Nobody completes it, and the next turn is answered.
        await world.say(1, "hello")
        await world.rest(10_000)
        assert len(world.answer_to(1)) == 5

    run_virtual(scenario())


def test_a_farewell_that_is_interrupted_hangs_up_no_more() -> None:
    async def scenario() -> None:
        world = World(plays=False)
        await world.begin()
        await world.work()
        await world.answer()
        await world.say(1, "goodbye")
        await world.interrupt(1, index=0, sent_ms=0)
        await world.rest(60_000)
        assert hangups(world.commands) == 0
        assert (await world.say(2, "where is my card"))[0] == "I can help you with that."

    run_virtual(scenario())


def test_a_farewell_that_is_never_played_ends_the_call_in_time() -> None:
    async def scenario() -> None:
        world = World(plays=False)
        await world.begin()
        await world.work()
        await world.answer()
        await world.say(1, "goodbye")
        assert hangups(world.commands) == 0
        await world.rest(farewell.HEARD_DEADLINE_MS)
        assert hangups(world.commands) == 1
        await world.rest(60_000)
        assert hangups(world.commands) == 1

    run_virtual(scenario())


def test_hanging_up_is_tried_again() -> None:
    async def scenario() -> None:
        world = World()
        world.edge_replies = [ControlReply(ok=False, error="engine_timeout")] * 2
        await world.begin()
        await world.work()
        await world.answer()
        await world.say(1, "goodbye")
        await world.rest(5000)
        assert hangups(world.commands) == 3

    run_virtual(scenario())


def test_a_transfer_that_the_edge_refuses_is_told() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        await world.work(TransferEngine())
        await world.answer()
        await world.rest(2000)
        assert [s.text for s in world.of(LlmSentence)] == [
            "One moment.",
            "I am sorry, I can not transfer you right now.",
        ]
        assert len(world.commands) == 1
        assert [f.code for f in world.of(Failure)] == ["not_supported"]

    run_virtual(scenario())


def test_a_transfer_that_comes_to_nothing_is_told_and_the_call_goes_on() -> None:
    async def scenario() -> None:
        world = World()
        world.transfers = True
        await world.begin()
        await world.work(TransferEngine())
        await world.answer()
        await world.rest(2000)
        assert [s.text for s in world.of(LlmSentence)] == ["One moment."]
        busy = CallTransferred(**world.base(), target_kind="sip", accepted=False, result=TransferResult.FAILED)
        world.recorder.record(busy)
        await world.rest(2000)
        assert [s.text for s in world.of(LlmSentence)][1:] == ["I am sorry, I can not transfer you right now."]
        world.recorder.record(CallTransferred(**world.base(), target_kind="sip", accepted=True, number=2))
        await world.rest(2000)
        assert len(world.of(LlmSentence)) == 2
        assert len(world.commands) == 1

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("engine", "code"),
    [
        (BrokenEngine("open"), "engine_failed"),
        (BrokenEngine("first"), "engine_failed"),
        (BrokenEngine("second"), "engine_failed"),
        (BrokenEngine("no answer"), "engine_failed"),
        (BrokenEngine("silent"), "engine_timeout"),
        (BrokenEngine("engine error"), "engine_failed"),
    ],
    ids=lambda value: getattr(value, "where", value),
)
def test_a_failing_engine_apologises_and_the_call_goes_on(engine: BrokenEngine, code: str) -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        await world.work(engine, settings=settings_with(filler_ms=0))
        await world.answer()
        await world.say(1, "good turn")
        listen_for = world.done(1).listen_for
        await world.say(2, "bad turn")
        await world.rest(11_000)
        said = world.answer_to(2)
        assert said[-2:] == ["I am sorry, something went wrong.", "Please say that again."]
        assert len(said) == (3 if engine.where in ("second", "no answer") else 2)
        assert world.done(2).listen_for == listen_for
        assert world.done(2).then is NextStep.LISTEN
        (failure,) = world.of(Failure)
        assert (failure.code, failure.stage, failure.turn) == (code, "llm", 2)
        assert "secret" not in failure.detail
        assert await world.say(3, "good turn") == ["Fine."]

    run_virtual(scenario())


def test_a_failing_tool_is_recorded_and_the_script_goes_on() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        engine = load_engine("scripted", settings_with().llm)
        engine.tools = [tool._replace(function=fail) for tool in engine.tools]  # type: ignore[misc]
        await world.work(engine)
        await world.answer()
        await world.say(1, "where is my card")
        assert (await world.say(2, digits="4271"))[0] == "I am sorry, I can not reach our records at the moment."
        (returned,) = world.of(ToolReturned)
        assert returned.error == "tool_failed"
        assert [f.code for f in world.of(Failure)] == ["tool_failed"]

    run_virtual(scenario())


class TestCommands:
    def test_say_comes_after_the_answer_and_changes_nothing(self) -> None:
        async def scenario() -> None:
            world = World()
            await world.begin()
            await world.work()
            await world.answer()
            reply = await world.send(Say(call_id=CALL_ID, text="We close in  five minutes. Thank you!"))
            assert reply.ok
            said = [s for s in world.of(LlmSentence) if s.utterance_id == 1]
            assert [s.text for s in said] == ["We close in five minutes.", "Thank you!"]
            done = next(d for d in world.of(LlmDone) if d.utterance_id == 1)
            assert done.listen_for == world.done(0).listen_for
            await world.say(1, "where is my card")
            assert (await world.send(Say(call_id=CALL_ID, text="Once more."))).ok
            assert [s.utterance_id for s in world.of(LlmSentence)][-1] == 101
            assert "agent: Once more." in await world.history()

        run_virtual(scenario())

    def test_say_waits_for_the_running_answer(self) -> None:
        async def scenario() -> None:
            world = World()
            await world.begin()
            await world.work(SlowEngine(sentences=3, pause_ms=1000))
            await world.answer()
            assert (await world.send(Say(call_id=CALL_ID, text="Later."))).ok
            await world.rest(5000)
            assert [s.utterance_id for s in world.of(LlmSentence)] == [0, 0, 0, 1]

        run_virtual(scenario())

    def test_inject_is_context_and_is_not_spoken(self) -> None:
        async def scenario() -> None:
            world = World()
            await world.begin()
            engine = SlowEngine(sentences=1, pause_ms=0)
            await world.work(engine)
            await world.answer()
            assert (await world.send(Inject(call_id=CALL_ID, text="The caller is a good customer."))).ok
            assert "system: The caller is a good customer." in await world.history()
            await world.say(1, "hello")
            assert [e.text for e in engine.requests[-1].history][-1] == "The caller is a good customer."
            assert len(world.of(LlmSentence)) == 2

        run_virtual(scenario())

    def test_flush_ends_the_answer_where_it_stands(self) -> None:
        async def scenario() -> None:
            world = World()
            await world.begin()
            await world.work(SlowEngine(sentences=5, pause_ms=1000))
            await world.answer()
            await world.rest(1000)
            wrong = await world.send(Flush(call_id=CALL_ID, utterance_id=700))
            assert (wrong.ok, wrong.error) == (False, "unknown_utterance")
            assert (await world.send(Flush(call_id=CALL_ID))).ok
            said = len(world.answer_to(0))
            assert world.done(0).sentences == said < 5
            await world.rest(10_000)
            assert len(world.answer_to(0)) == said
            assert (await world.send(Flush(call_id=CALL_ID))).error == "unknown_utterance"

        run_virtual(scenario())

    def test_texts_that_wait_are_bounded(self) -> None:
        async def scenario() -> None:
            world = World()
            await world.begin()
            await world.work()
            replies = [await world.send(Say(call_id=CALL_ID, text="Hello.")) for _ in range(21)]
            assert [reply.ok for reply in replies] == [True] * 20 + [False]
            await world.answer()
            assert len(world.of(LlmSentence)) == 22

        run_virtual(scenario())

    @pytest.mark.parametrize(
        ("command", "error"),
        [
            (Say(call_id=CALL_ID, text="  "), "invalid_argument"),
            (Inject(call_id=CALL_ID, text="x" * 1001), "invalid_argument"),
            (Hangup(call_id=CALL_ID), "not_supported"),
        ],
    )
    def test_what_is_refused(self, command: ControlMessage, error: str) -> None:
        async def scenario() -> None:
            world = World()
            await world.begin()
            await world.work()
            reply = await world.send(command)
            assert (reply.ok, reply.error) == (False, error)
            assert reply.message

        run_virtual(scenario())


class TestWhatIsKept:
    @pytest.mark.parametrize(
        ("result", "status"),
        [
            (CallResult.COMPLETED, SessionStatus.COMPLETED),
            (CallResult.CANCELLED, SessionStatus.INTERRUPTED),
            (CallResult.FAILED, SessionStatus.FAILED),
            (CallResult.REJECTED, SessionStatus.FAILED),
        ],
    )
    def test_the_session(self, result: CallResult, status: SessionStatus) -> None:
        async def scenario() -> None:
            world = World()
            await world.begin(caller="sip:somebody.with.a.long.name@example.com")
            await world.work()
            session = await world.session()
            assert session.status is SessionStatus.ACTIVE
            assert session.call_end_us is None
            assert len(session.caller_phone) == 20
            assert session.ai_provider_config["llm"] == "scripted"
            await world.answer()
            started = await world.session()
            assert started.call_start_us > session.call_start_us
            await world.hang_up(result)
            ended = await world.session()
            assert ended.status is status
            assert ended.call_end_us is not None
            assert ended.created_at_us == session.created_at_us

        run_virtual(scenario())

    def test_a_store_that_is_away_delays_no_sentence(self) -> None:
        async def scenario() -> None:
            world = World()
            await world.begin()
            call = await world.work()
            broken = BrokenBucket()
            call._keeping.context._bucket = broken  # type: ignore[assignment]
            call._keeping.session._bucket = broken  # type: ignore[assignment]
            await world.answer()
            assert len(world.answer_to(0)) == 2
            assert await world.say(1, "where is my card")
            assert broken.attempts > 1
            call._keeping.context._bucket = await TypedBucket.open(world.connection, "context", ConversationContext)
            await world.rest(5000)
            assert (await world.context()).last_turn == 1

        run_virtual(scenario())

    def test_a_long_conversation_fits_into_its_bucket(self) -> None:
        async def scenario() -> None:
            world = World()
            await world.begin()
            await world.work(SlowEngine(sentences=1, pause_ms=0))
            await world.answer()
            for turn in range(1, 80):
                await world.say(turn, "word " * 200)
            context = await world.context()
            assert context.last_turn == 79
            assert 0 < len(msgspec.json.encode(context)) <= 60_000
            assert context.conversation_history[-1].turn == 79

        run_virtual(scenario())

    def test_latency_figures(self) -> None:
        async def scenario() -> None:
            world = World()
            await world.begin()
            await world.work(SlowEngine(sentences=2, pause_ms=300))
            await world.answer()
            await world.rest(2000)
            await world.say(1, "hello")
            await world.rest(2000)
            assert world.done(1).ttfs_ms == pytest.approx(300, abs=5)
            assert world.done(1).ttft_ms == pytest.approx(120, abs=5)

        run_virtual(scenario())


def test_a_conversation_that_breaks_off_is_let_go_when_the_call_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it may stay: a slot, a key and a subscription for each such call would add up."""

    async def scenario() -> None:
        world = World()
        await world.begin()
        call = await world.work()
        await world.answer()
        with monkeypatch.context() as patch:
            patch.delattr(Conversation, "pending_turn")
            assert await world.say(1, "where is my credit card") == []
        await world.hang_up()
        assert call._task is not None
        assert call._task.done()
        assert call._task.exception() is None
        assert call._feed is not None
        assert call._feed._closed
        assert (await world.session()).status is SessionStatus.COMPLETED

    run_virtual(scenario())


def test_a_result_that_can_not_be_written_is_a_failure_of_the_tool_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        engine = load_engine("scripted", settings_with().llm)
        tools = [
            spec._replace(function=lambda *_: {"row": object()}) if spec.name == "verify_customer" else spec
            for spec in engine.tools
        ]
        monkeypatch.setattr(engine, "tools", tools)
        await world.work(engine)
        await world.answer()
        await world.say(1, "where is my credit card")
        await world.say(2, "four two seven one")
        assert [(r.name, r.error) for r in world.of(ToolReturned)] == [("verify_customer", "tool_failed")]
        await world.say(3, "no thank you goodbye")
        assert (await world.context()).last_turn == 3

    run_virtual(scenario())
