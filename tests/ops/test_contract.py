"""The published contract: current, valid, and true for real messages."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner

from ops import contract, turn_tables
from ops.main import COMMANDS, cli
from tests.schemas.samples import SAMPLES

pytestmark = pytest.mark.contract

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "asyncapi.json"


def test_committed_asyncapi_is_current() -> None:
    made = msgspec.json.format(msgspec.json.encode(contract.asyncapi(metadata.version("callbus"))), indent=2) + b"\n"
    assert DOCUMENT.read_bytes() == made, "run: make documents"


def test_every_reference_points_somewhere() -> None:
    document = contract.asyncapi("0")

    def follow(reference: str) -> object:
        node: object = document
        for part in reference.removeprefix("#/").split("/"):
            assert isinstance(node, dict)
            assert part in node, reference
            node = node[part]
        return node

    def walk(node: object) -> int:
        if isinstance(node, dict):
            own = int(isinstance(node.get("$ref"), str) and follow(node["$ref"]) is not None)
            return own + sum(walk(value) for value in node.values())
        return sum(walk(value) for value in node) if isinstance(node, list) else 0

    assert walk(document) > 100


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_json_schema_accepts_what_we_send(sample: msgspec.Struct) -> None:
    schema = contract.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{type(sample).__name__}", "$defs": schema["$defs"]})
    data = msgspec.json.decode(msgspec.json.encode(sample))
    validator.validate(data)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**data, "type": "something.else.v1"})


def test_schema_command() -> None:
    run = CliRunner().invoke
    assert "asr.final.v1" in run(cli, ["schema", "--list"]).output
    assert msgspec.json.decode(run(cli, ["schema", "asr.final"]).output)["$ref"] == "#/$defs/AsrFinal"
    assert "AsrFinal" in msgspec.json.decode(run(cli, ["schema"]).output)["$defs"]
    wrong = run(cli, ["schema", "asr.finale"])
    assert (wrong.exit_code, "asr.final" in wrong.output) == (2, True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_an_unknown_command_is_named() -> None:
    result = CliRunner().invoke(cli, ["dial"])
    assert result.exit_code == 2
    assert "dial" in result.output


def test_committed_turn_tables_are_current() -> None:
    committed = (Path(__file__).resolve().parents[2] / "docs" / "turn-machine.md").read_text(encoding="utf-8")
    assert committed == turn_tables.document(), "docs/turn-machine.md is stale: run `make documents`"


def test_every_row_of_a_table_stands_in_its_diagram() -> None:
    for part in turn_tables.PARTS:
        text = turn_tables.section(part)
        for (state, trigger), (following, actions) in part.table.items():
            if state is not following or actions:
                assert f"{state.value} --> {following.value}: {trigger.value}" in text
