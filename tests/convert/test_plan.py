"""What a plan takes for done: nothing that was made of other inputs, or in another way."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistants import Assistant
from convert import plan
from convert.plan import Engine, Input, Inputs, Plan

INPUTS = Inputs(
    base=Input("base", "b", Path("/base"), needs="it is retired"),
    adapter=Input("adapter", "a", Path("/adapter"), needs="it is a checkpoint"),
    calibration=Input("dialogues", "d", Path("/dialogues")),
)
ASSISTANT = Assistant.model_validate(
    {"name": "one", "title": "T", "description": "D", "model": {"base": "base", "adapter": "a"}}
)


def planned(engine: Engine, built: dict[str, str], inputs: Inputs = INPUTS) -> Plan:
    return plan.make(ASSISTANT, engine, inputs, target=Path("/target"), built=built)


def to_do(found: Plan) -> list[str]:
    return [step.verb for step in found.steps if not step.built]


@pytest.mark.parametrize(
    ("version", "engine", "again"),
    [
        ("ADAPTER", "turbomind", ["adapter", "merge", "relayout", "quantize", "assemble"]),
        ("MERGE", "turbomind", ["merge", "relayout", "quantize", "assemble"]),
        ("RELAYOUT", "turbomind", ["relayout", "quantize", "assemble"]),
        ("QUANTIZE", "turbomind", ["quantize", "assemble"]),
        ("GGUF", "llamacpp", ["gguf", "assemble"]),
        ("WORKSPACE_SCHEMA", "turbomind", ["assemble"]),
    ],
)
def test_a_step_of_another_version_is_done_again_with_all_that_follow(
    monkeypatch: pytest.MonkeyPatch, version: str, engine: Engine, again: list[str]
) -> None:
    inputs = INPUTS if engine == "turbomind" else Inputs(INPUTS.base, INPUTS.adapter)
    built = planned(engine, {}, inputs).digests
    assert planned(engine, built, inputs).done
    monkeypatch.setattr(plan, version, "another")
    assert to_do(planned(engine, built, inputs)) == again


def test_a_reason_speaks_of_a_change_only_where_something_was_built() -> None:
    first, built = planned("turbomind", {}), planned("turbomind", {}).digests
    changed = planned("turbomind", built | {"assemble": "of other settings"})
    reasons = [found.steps[-1].reason for found in (first, planned("turbomind", built), changed)]
    assert ["have changed" in reason for reason in reasons] == [False, False, True]
