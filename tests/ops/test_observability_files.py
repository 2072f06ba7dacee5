"""The collector, Tempo and Grafana get what they understand and find one another, as far as it can be told here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bus import spans_asr, spans_edge, spans_llm, spans_tts
from bus.metrics.registry import SERVICES
from schemas.turn import LATENCIES
from tests.ops.promql import Known
from tests.ops.test_dashboards import FILES, load, panels

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "ops"
SPANS = {
    spans_asr.TURN,
    spans_asr.ASR,
    spans_llm.LLM,
    spans_llm.TOOL,
    spans_tts.TTS,
    spans_edge.CALL,
    spans_edge.PLAYOUT,
}
OTELCOL = {
    "extensions": {"health_check": {"endpoint"}},
    "receivers": {"otlp": {"protocols"}},
    "processors": {
        "memory_limiter": {"check_interval", "limit_mib", "spike_limit_mib"},
        "batch": {"timeout", "send_batch_size", "send_batch_max_size"},
    },
    "exporters": {"otlp": {"endpoint", "tls", "retry_on_failure", "sending_queue"}},
}
"""Components of the core distribution that we use, and the keys that they document."""
TEMPO = {
    "server": {"http_listen_port", "log_level"},
    "distributor": {"receivers"},
    "storage": {"trace"},
    "overrides": {"defaults"},
    "usage_report": {"reporting_enabled"},
}
"""Blocks that are the same in Tempo 2 and 3: `ingester` and `compactor` are gone from 3."""


def read(path: str) -> Any:
    return yaml.safe_load((OPS / path).read_text(encoding="utf-8"))


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


class TestCollector:
    def test_keys_are_documented_ones(self) -> None:
        config = read("otel-collector/otel-collector.yml")
        assert set(config) == {*OTELCOL, "service"}
        for kind, components in OTELCOL.items():
            assert set(config[kind]) == set(components)
            for name, keys in components.items():
                assert set(config[kind][name]) <= keys, name

    def test_what_is_defined_is_used_and_the_other_way_round(self) -> None:
        config = read("otel-collector/otel-collector.yml")
        assert config["service"]["extensions"] == list(config["extensions"])
        assert set(config["service"]["pipelines"]) == {"traces"}
        for kind, names in config["service"]["pipelines"]["traces"].items():
            assert set(names) == set(config[kind])

    def test_the_memory_limiter_is_first_and_batches_are_last(self) -> None:
        processors = read("otel-collector/otel-collector.yml")["service"]["pipelines"]["traces"]["processors"]
        assert (processors[0], processors[-1]) == ("memory_limiter", "batch")

    def test_it_speaks_both_protocols_and_hands_over_to_tempo(self) -> None:
        config = read("otel-collector/otel-collector.yml")
        protocols = config["receivers"]["otlp"]["protocols"]
        assert {name: port_of(each["endpoint"]) for name, each in protocols.items()} == {"grpc": 4317, "http": 4318}
        tempo = read("tempo/tempo.yml")["distributor"]["receivers"]["otlp"]["protocols"]
        host, _, port = config["exporters"]["otlp"]["endpoint"].partition(":")
        assert host == "tempo"
        assert int(port) == port_of(tempo["grpc"]["endpoint"])


class TestTempo:
    def test_keys_are_those_of_both_versions(self) -> None:
        config = read("tempo/tempo.yml")
        assert set(config) == set(TEMPO)
        for block, keys in TEMPO.items():
            assert set(config[block]) <= keys
        assert set(config["storage"]["trace"]) == {"backend", "wal", "local"}
        assert set(config["overrides"]["defaults"]) == {"compaction", "global"}

    def test_it_keeps_traces_for_a_while_and_reports_nothing_home(self) -> None:
        config = read("tempo/tempo.yml")
        assert re.fullmatch(r"\d+h", config["overrides"]["defaults"]["compaction"]["block_retention"])
        assert config["usage_report"] == {"reporting_enabled": False}
        paths = [config["storage"]["trace"][kind]["path"] for kind in ("wal", "local")]
        assert all(path.startswith("/var/tempo/") for path in paths)


class TestGrafana:
    def test_sources_lead_to_the_services_of_compose(self) -> None:
        sources = {each["uid"]: each for each in read("grafana/provisioning/datasources/callbus.yml")["datasources"]}
        assert sources["prometheus"]["url"] == "http://prometheus:9090"
        tempo = read("tempo/tempo.yml")["server"]["http_listen_port"]
        assert sources["tempo"]["url"] == f"http://tempo:{tempo}"
        (exemplars,) = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
        assert exemplars["name"] == "trace_id"
        assert exemplars["url"] == "/d/callbus-call?var-call=$${__value.raw}"
        assert sources["tempo"]["jsonData"]["tracesToMetrics"]["datasourceUid"] == "prometheus"

    def test_a_span_leads_to_figures_that_are_told(self) -> None:
        (_, tempo) = read("grafana/provisioning/datasources/callbus.yml")["datasources"]
        way = tempo["jsonData"]["tracesToMetrics"]
        ((key, label),) = [(tag["key"], tag["value"]) for tag in way["tags"]]
        assert (key, label) == ("service.name", "service_name")
        known = Known()
        for query in way["queries"]:
            assert "$$__tags" in query["query"], "Grafana would put its environment in for a single dollar"
            assert known.problems(query["query"].replace("$$__tags", f'{label}="callbus-asr"')) == []

    def test_prometheus_has_the_name_that_traces_give_a_service(self) -> None:
        jobs = {job["job_name"]: job for job in read("prometheus/prometheus.yml")["scrape_configs"]}
        for service in SERVICES:
            (label,) = jobs[service]["relabel_configs"]
            assert label == {"target_label": "service_name", "replacement": f"callbus-{service}"}

    def test_dashboards_are_read_from_where_compose_mounts_them(self) -> None:
        (provider,) = read("grafana/provisioning/dashboards/callbus.yml")["providers"]
        text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
        assert f"source: ./ops/grafana/dashboards, target: {provider['options']['path']}," in text
        for name in ("otel-collector/otel-collector.yml", "tempo/tempo.yml", "prometheus/prometheus.yml"):
            assert f"=/etc/{name}" in text
            assert f"source: ./ops/{name.partition('/')[0]}, target: /etc/{name.partition('/')[0]}," in text


def test_queries_for_spans_name_spans_and_attributes_that_are_made() -> None:
    texts = [
        target["query"] for path in FILES for panel in panels(load(path)) for target in panel.get("targets", ())
        if target["datasource"]["type"] == "tempo"
    ]  # fmt: skip
    assert len(texts) == 7
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "bus").glob("spans*.py"))
    made = set(re.findall(r'"((?:callbus|turn)\.[\w.]+)"', source)) | {f"callbus.turn.{name}" for name in LATENCIES}
    for text in texts:
        for name in re.findall(r'name =~? "([^"]+)"', text):
            assert set(name.split("|")) <= SPANS
        assert set(re.findall(r"span\.([\w.]+)", text)) <= made
