"""A real Prometheus reads a real system with calls: every rule yields, every panel is answered, and nothing fires.

Where Debian's package ``prometheus`` is not installed this is not tried, and says so.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from ops.bench.placing import CallPlacer
from ops.bench.turn import MediaCaller
from ops.supervisor import MODULES, Supervisor
from tests.e2e.chaos.gauges import free_ports
from tests.e2e.peers import free_port, running
from tests.e2e.system import HOST, INSTANT, running_system
from tests.ops.promql import plain, rules
from tests.ops.test_dashboards import FILES, load, queries

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PROMETHEUS = Path(__file__).resolve().parents[2] / "ops" / "prometheus"
CALLERS, TURNS, ROUNDS = 2, 1, 2
"""Two rounds: the first count of a series that is new is no growth to Prometheus."""
SPEECH_FRAMES = 20
NOT_IN_GOOD_CALLS = {
    "callbus_degraded_total", "callbus_engine_breaker_state", "callbus_engine_errors_total",
    "callbus_engine_failovers_total", "callbus_engine_hedges_total", "callbus_llm_tokens_total",
    "callbus:tool_seconds:", "callbus:takeover_seconds:", "callbus:preemptive_hit:",
    "callbus:turn_filler_latency_seconds:", "(callbus_worker_calls) > 0", "ALERTS",
}  # fmt: skip
"""What there is only where something goes wrong, a model counts its tokens, an agent has tools, an answer is late or
prepared, and while calls are up."""


@asynccontextmanager
async def prometheus(folder: Path, first_port: int) -> AsyncIterator[str]:
    """The address of a Prometheus with our configuration, that looks at four ports of this machine every second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed: apt-get install --no-install-recommends prometheus")
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / "rules" / "*.yml")]
    port = free_port()
    targets = {service: first_port + place for place, service in enumerate(MODULES)} | {"prometheus": port}
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [f"{HOST}:{targets[job['job_name']]}"]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [
        program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'figures'}",
        f"--web.listen-address={HOST}:{port}", "--enable-feature=exemplar-storage",
    ]  # fmt: skip
    async with running(*command, log=folder / "prometheus.log", ready="Server is ready to receive web requests"):
        yield f"http://{HOST}:{port}/api/v1"


async def hold_calls(supervisor: Supervisor) -> None:
    """Calls with some turns each, in the last of which the caller speaks over the agent."""
    loop = asyncio.get_running_loop()
    placer = CallPlacer(HOST)
    await placer.start()
    callers = [
        (await loop.create_datagram_endpoint(MediaCaller, local_addr=(HOST, 0)))[1] for _ in range(CALLERS)
    ]  # fmt: skip
    ports = await placer.place(f"sip:figures@{HOST}:{supervisor.sip_port}", [caller.port for caller in callers])
    sending = [
        asyncio.create_task(caller.send_for_ever(port)) for caller, port in zip(callers, ports, strict=True)
    ]  # fmt: skip
    try:
        await asyncio.gather(*map(talk, callers))
        await placer.hang_up_all()
        await asyncio.sleep(2.0)
    finally:
        for task in sending:
            task.cancel()
        placer.close()


async def talk(caller: MediaCaller) -> None:
    async with asyncio.timeout(40):
        await quiet(caller)
        for _ in range(TURNS):
            await speak(caller)
            await quiet(caller)
        await speak(caller)
        await speak(caller)
        await quiet(caller)


async def speak(caller: MediaCaller) -> None:
    """Until the agent is heard after it."""
    caller.first_heard = 0.0
    caller.voiced_frames = SPEECH_FRAMES
    while caller.voiced_frames or not caller.first_heard:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)


async def quiet(caller: MediaCaller) -> None:
    while not caller.last_heard or time.monotonic() - caller.last_heard < 0.4:
        await asyncio.sleep(0.02)


async def ask(session: aiohttp.ClientSession, url: str, **words: str) -> Any:
    async with session.get(url, params=words) as answer:
        body = await answer.json()
        assert body["status"] == "success", (words, body)
        return body["data"]


async def value_of(session: aiohttp.ClientSession, api: str, expression: str) -> list[Mapping[str, Any]]:
    """The series of an expression that have a value; a quantile of nothing is none."""
    found: list[Mapping[str, Any]] = (await ask(session, f"{api}/query", query=expression))["result"]
    return [series for series in found if series["value"][1] != "NaN"]


async def test_every_question_has_an_answer(tmp_path: Path) -> None:
    ports = free_ports(len(MODULES))
    environment = {**INSTANT, "CALLBUS_METRICS__PORT": str(ports), "CALLBUS_METRICS__HOST": HOST}
    async with (
        running_system(tmp_path, environment=environment) as supervisor,
        prometheus(tmp_path, ports) as api,
        aiohttp.ClientSession() as session,
    ):
        await asyncio.sleep(2.0)
        for _ in range(ROUNDS):
            await hold_calls(supervisor)
        await targets_are_read(session, api)
        await panels_are_answered(session, api)
        await rules_yield(session, api)
        await turns_lead_to_traces(session, api)


async def targets_are_read(session: aiohttp.ClientSession, api: str) -> None:
    targets = (await ask(session, f"{api}/targets"))["activeTargets"]
    assert {(target["labels"]["job"], target["health"]) for target in targets} == {
        *((service, "up") for service in MODULES),
        ("prometheus", "up"),
    }


async def panels_are_answered(session: aiohttp.ClientSession, api: str) -> None:
    empty = []
    asked = 0
    for path in FILES:
        for title, expression, _ in queries(load(path)):
            asked += 1
            if not await value_of(session, api, plain(expression)):
                empty.append(f"{path.stem}: {title}: {expression}")
    unexpected = [each for each in empty if not any(name in each for name in NOT_IN_GOOD_CALLS)]
    assert "\n".join(unexpected) == ""
    assert len(empty) < asked / 5


async def rules_yield(session: aiohttp.ClientSession, api: str) -> None:
    groups = (await ask(session, f"{api}/rules"))["groups"]
    every = [rule for group in groups for rule in group["rules"]]
    assert [(rule["name"], rule.get("lastError")) for rule in every if rule["health"] != "ok"] == []
    recorded = {rule["record"] for rule in rules("recording.yml")}
    silent = {name for name in recorded if not await value_of(session, api, name)}
    assert [name for name in sorted(silent) if not name.startswith(tuple(NOT_IN_GOOD_CALLS))] == []
    firing = await value_of(session, api, 'ALERTS{alertstate="firing"}')
    assert [alert["metric"]["alertname"] for alert in firing] == []


async def turns_lead_to_traces(session: aiohttp.ClientSession, api: str) -> None:
    now = time.time()
    found = await ask(
        session, f"{api}/query_exemplars", query="callbus_turn_e2e_latency_seconds_bucket",
        start=str(now - 300), end=str(now),
    )  # fmt: skip
    traces = [each["labels"]["trace_id"] for series in found for each in series["exemplars"]]
    assert traces
    assert all(len(trace) == 32 for trace in traces)
