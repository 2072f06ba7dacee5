"""``calls``, ``show``, ``tail`` and ``play`` of a recorded call: what is printed, what is JSON, what is an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bus.memory import MemoryServer
from ops.commands.tail import line_of
from schemas.subjects import EVENT_BY_NAME
from schemas.turn import TurnMeasured
from services.audio.wav import read_wav
from tests.ops.conftest import Command
from tests.ops.recorded import CALL_ID, SECRETS, call_events

pytestmark = pytest.mark.unit

TAIL = CALL_ID[-8:]
YOUNGER = "01a1f8bd86e7789192e5bff0e7cd2871"


@pytest.mark.usefixtures("recorded")
class TestCalls:
    def test_newest_last_with_state_and_end(self, callbus: Command) -> None:
        heading, first, second = callbus("calls").stdout.splitlines()
        assert heading.split()[:3] == ["call", "started", "state"]
        assert first.startswith(CALL_ID)
        assert "completed" in first
        assert "12.0 s  caller, caller_hung_up" in first
        assert second.startswith(YOUNGER)
        assert "active" in second

    def test_json(self, callbus: Command) -> None:
        rows = json.loads(callbus("calls", "--json").stdout)
        assert [(row["call_id"], row["state"], row["duration_ms"]) for row in rows] == [
            (CALL_ID, "completed", 12000), (YOUNGER, "active", None),
        ]  # fmt: skip

    def test_limit_and_tenant(self, callbus: Command) -> None:
        assert [row["call_id"] for row in json.loads(callbus("calls", "--json", "--limit", "1").stdout)] == [YOUNGER]
        assert json.loads(callbus("calls", "--json", "--tenant", "other").stdout) == []
        assert callbus("calls", "--limit", "0").exit_code == 2


@pytest.mark.usefixtures("memory_bus")
class TestNothingThere:
    def test_calls_says_how_to_place_one(self, callbus: Command) -> None:
        assert "callbus call sip:bank@" in callbus("calls").stdout
        assert json.loads(callbus("calls", "--json").stdout) == []

    @pytest.mark.parametrize("words", [("show", "last"), ("tail", "last"), ("play", "last", "--wav", "x.wav")])
    def test_last_of_none_is_an_error(self, callbus: Command, words: tuple[str, ...]) -> None:
        result = callbus(*words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "no calls yet" in result.stderr


@pytest.mark.usefixtures("recorded")
class TestNames:
    @pytest.mark.parametrize("name", [CALL_ID, TAIL, CALL_ID[:10]])
    def test_an_id_or_the_beginning_or_end_of_one(self, callbus: Command, name: str) -> None:
        assert json.loads(callbus("show", name, "--json").stdout)["view"]["call_id"] == CALL_ID

    def test_last_is_the_newest(self, callbus: Command) -> None:
        assert json.loads(callbus("show", "last", "--json").stdout)["view"]["call_id"] == YOUNGER

    @pytest.mark.parametrize(
        ("name", "code", "words"),
        [("01a1f8bd", 1, "fits 2 calls"), ("zzz", 1, "no call 'zzz'"), ("", 2, "CALL is empty")],
    )
    def test_a_name_that_fits_none_or_several(self, callbus: Command, name: str, code: int, words: str) -> None:
        for command in (["show", name], ["tail", name], ["play", name, "--wav", "x.wav"]):
            result = callbus(*command)
            assert (result.exit_code, result.stdout) == (code, "")
            assert words in result.stderr


@pytest.mark.usefixtures("recorded")
class TestShow:
    def test_the_page(self, callbus: Command) -> None:
        page = callbus("show", TAIL).stdout
        for words in (
            f"call {CALL_ID}  tenant default  completed", "caller  where is my credit card",
            "agent   Your credit card was [interrupted]", "[keys] 4 2 7 1", "e2e_latency", "tools: verify",
            "bus_disconnected at edge, gap 420 ms", "gap in the recording of the caller: 10 frames from number 70",
            "ended: completed by caller, caller_hung_up, 12.0 s",
            "sound: MOS 4.31 (0.4 % lost, jitter 2.5 ms) in, MOS not known out",
        ):  # fmt: skip
            assert words in page, words

    def test_json(self, callbus: Command) -> None:
        facts = json.loads(callbus("show", TAIL, "--json").stdout)
        assert (facts["state"], facts["missing_in"], facts["missing_out"]) == ("completed", [[70, 10]], [])
        assert facts["view"]["turns"]["1"]["latencies_ms"]["e2e_latency"] == 4740 - 4200
        assert json.loads(callbus("show", "last", "--json").stdout)["state"] == "active"

    @pytest.mark.parametrize("form", [(), ("--json",)])
    def test_no_content_hides_all_of_it(self, callbus: Command, form: tuple[str, ...]) -> None:
        page = callbus("show", TAIL, "--no-content", *form).stdout
        assert "[5 words]" in page
        assert "[4 keys]" in page
        assert "e2e_latency" in page
        for secret in SECRETS:
            assert secret not in page.replace("card_delivery", ""), secret


@pytest.mark.usefixtures("recorded")
class TestTail:
    def test_every_event_in_the_order_in_which_it_happened(self, callbus: Command) -> None:
        result = callbus("tail", TAIL, "--json")
        events = [json.loads(line) for line in result.stdout.splitlines()]
        assert len(events) == len(call_events())
        assert [event["at_us"] for event in events] == sorted(event["at_us"] for event in events)
        assert {event["type"].rsplit(".v", 1)[0] for event in events} <= set(EVENT_BY_NAME)
        assert events[-1]["type"] == "call.ended.v1"

    def test_lines_for_people(self, callbus: Command) -> None:
        lines = callbus("tail", TAIL).stdout.splitlines()
        (ended,) = [line for line in lines if "turn.ended" in line and "silence" in line]
        assert "turn=1 why=silence text='where is my credit card'" in ended

    def test_figures_of_a_line_are_short(self) -> None:
        hops = {"call.*.*.llm.done": 2.12345}
        event = TurnMeasured(call_id=CALL_ID, at_us=0, turn=1, bus_hop_ms=hops, transcription_delay_ms=509.69345)
        assert line_of(event, with_call=False).endswith(
            "turn=1 transcription_delay_ms=509.693 bus_hop_ms={call.*.*.llm.done: 2.123}"
        )

    @pytest.mark.parametrize("form", [(), ("--json",)])
    def test_no_content(self, callbus: Command, form: tuple[str, ...]) -> None:
        text = callbus("tail", TAIL, "--no-content", *form).stdout
        assert len(text.splitlines()) == len(call_events())
        assert "[5 words]" in text
        for secret in SECRETS:
            assert secret not in text.replace("card_delivery", ""), secret

    def test_only_named_events_but_the_end_ends_it(self, callbus: Command) -> None:
        lines = callbus("tail", TAIL, "--events", "tool.*,turn.ended").stdout.splitlines()
        assert [line.split()[1] for line in lines] == ["turn.ended", "turn.ended", "tool.called", "tool.returned"]

    def test_a_call_that_goes_on_is_followed_for_as_long_as_asked(self, callbus: Command) -> None:
        result = callbus("tail", "last", "--for", "0.2", "--json")
        assert result.exit_code == 0
        assert len(result.stdout.splitlines()) == len(call_events(ended=False))

    def test_all_calls_from_now_on(self, callbus: Command) -> None:
        result = callbus("tail", "--for", "0.1")
        assert (result.exit_code, result.output) == (0, "")

    def test_an_event_that_does_not_exist_is_named(self, callbus: Command) -> None:
        result = callbus("tail", "--events", "asr.finale")
        assert result.exit_code == 2
        assert "asr.final," in result.stderr


@pytest.mark.usefixtures("recorded")
class TestPlay:
    def test_a_stereo_file_with_true_timing(self, callbus: Command, tmp_path: Path) -> None:
        path = tmp_path / "call.wav"
        result = callbus("play", TAIL, "--wav", str(path))
        assert "12.0 s, caller left, agent right" in result.stdout
        assert "missing in the recording of the caller: 10 frames from number 70" in result.stdout
        wav = read_wav(path)
        assert (wav.channels, wav.duration_ms) == (2, 12000)
        caller = wav.channel(0)
        hole = slice(7 * 1600 * 2, 8 * 1600 * 2)
        assert set(caller[hole]) == {0}
        assert any(caller[hole.stop :])

    def test_json(self, callbus: Command, tmp_path: Path) -> None:
        facts = json.loads(callbus("play", TAIL, "--wav", str(tmp_path / "call.wav"), "--json").stdout)
        assert (facts["call_id"], facts["duration_ms"], facts["missing_in"]) == (CALL_ID, 12000, [[70, 10]])

    def test_to_standard_output_and_nothing_else_there(self, callbus: Command, tmp_path: Path) -> None:
        callbus("play", TAIL, "--wav", str(tmp_path / "call.wav"))
        result = callbus("play", TAIL, "--wav", "-")
        assert result.stdout_bytes == (tmp_path / "call.wav").read_bytes()
        assert not Path("-").exists()

    def test_a_call_without_audio_and_a_path_without_a_folder(self, callbus: Command, tmp_path: Path) -> None:
        silent = callbus("play", "last", "--wav", str(tmp_path / "x.wav"))
        assert (silent.exit_code, "holds no audio" in silent.stderr) == (1, True)
        nowhere = callbus("play", TAIL, "--wav", str(tmp_path / "no" / "x.wav"))
        assert (nowhere.exit_code, "can't be written: No such file" in nowhere.stderr) == (1, True)
        assert not list(tmp_path.iterdir())


def test_what_does_not_decode_is_passed_over(callbus: Command, recorded: MemoryServer) -> None:
    recorded.streams["CALLS"].store("call.default.bad.call.offered", b"{not json", {})
    assert len(json.loads(callbus("calls", "--json").stdout)) == 2
