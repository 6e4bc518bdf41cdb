"""What has to be done for one assistant and one engine, and why: a pure decision.

A step's digest covers everything its result depends on. Where the workspace that is there was
built from the same digest, the step is done already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assistants import Assistant
from convert import digests

Engine = Literal["llamacpp", "turbomind"]
Verb = Literal["fetch", "adapter", "merge", "relayout", "quantize", "gguf", "assemble"]

ADAPTER = "hanlin-adapter 1"
MERGE = "hanlin-merge 1"
RELAYOUT = "hanlin-relayout 1"
QUANTIZE = "hanlin-quantize 2"
GGUF = "hanlin-gguf 1"
"""Named in digests and lineages; the number goes up when the same input gives other weights."""

UNJUDGED = "unjudged"
"""In place of the digest of 4-bit weights that were made before anybody measured how far their
answers diverge; a rule asks for that, so they are made anew."""

WORKSPACE_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Input:
    """Base or adapter, resolved: where it comes from, which content, and where it lies."""

    reference: str
    digest: str
    path: Path | None
    """None: not here yet."""
    needs: str | None = None
    """Why it takes a step of its own: an adapter that is still a training checkpoint, a base whose
    architecture engines no longer load."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, the reason, and whether it is done already."""

    verb: Verb
    subject: str
    reason: str
    digest: str
    built: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps towards one workspace."""

    assistant: Assistant
    engine: Engine
    base: Input
    adapter: Input | None
    calibration: Input | None
    """The dialogues that 4-bit weights are fitted to; None for weights that stay as they are."""
    dialogues: Path | None
    """The assistant's own, where there are some: what a merge is judged on."""
    target: Path
    settings: Mapping[str, Any]
    """What engine.json will say, but for what the model's own configuration decides."""
    steps: tuple[Step, ...]

    @property
    def digests(self) -> dict[str, str]:
        """What the manifest keeps, to be compared with next time."""
        return {step.verb: step.digest for step in self.steps if step.verb != "fetch"}

    @property
    def done(self) -> bool:
        return all(step.built for step in self.steps)

    @property
    def weights_built(self) -> bool:
        return all(step.built for step in self.steps if step.verb not in ("fetch", "assemble"))


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that one workspace is made from."""

    base: Input
    adapter: Input | None = None
    calibration: Input | None = None
    dialogues: Path | None = None


def make(
    assistant: Assistant,
    engine: Engine,
    inputs: Inputs,
    *,
    target: Path,
    built: Mapping[str, str],
) -> Plan:
    """Decide the steps; `built` are the digests of the workspace that is there, if any."""
    settings = engine_settings(assistant, engine)
    steps = [*_fetches(inputs), *_weights(assistant, engine, inputs, built)]
    digest = digests.of(WORKSPACE_SCHEMA, settings, assistant.name, [s.digest for s in steps])
    same = built.get("assemble") == digest
    reason = (
        "files, settings and lineage in one folder"
        if same or not built
        else ("settings or weights have changed since it was built")
    )
    steps.append(Step("assemble", str(target), reason, digest, same))
    return Plan(
        assistant, engine, inputs.base, inputs.adapter, inputs.calibration, inputs.dialogues,
        target, settings, tuple(steps),
    )  # fmt: skip


def _fetches(inputs: Inputs) -> list[Step]:
    found = [("base", inputs.base)] + ([("adapter", inputs.adapter)] if inputs.adapter else [])
    return [
        Step(
            "fetch", given.reference,
            f"the {role} is in {given.path}" if given.path else f"the {role} has to be fetched",
            given.digest, given.path is not None,
        )
        for role, given in found
    ]  # fmt: skip


def _weights(
    assistant: Assistant, engine: Engine, inputs: Inputs, built: Mapping[str, str]
) -> list[Step]:
    base, adapter, calibration = inputs.base, inputs.adapter, inputs.calibration
    steps = []
    tuned = adapter.digest if adapter else None
    if adapter and adapter.needs:
        tuned = digests.of(ADAPTER, tuned)
        steps.append(
            Step("adapter", adapter.reference, adapter.needs, tuned, built.get("adapter") == tuned)
        )
    made = digests.of(MERGE, base.digest, tuned)
    if adapter is None:
        why = "there is no adapter: the base is used as it is"
    else:
        why = f"{adapter.reference} is applied to {base.reference}"
    if engine == "llamacpp":
        why += "; tensor by tensor into the next step, without writing a folder in between"
    steps.append(Step("merge", assistant.name, why, made, built.get("merge") == made))
    if base.needs:
        made = digests.of(RELAYOUT, made)
        steps.append(
            Step("relayout", base.reference, base.needs, made, built.get("relayout") == made)
        )
    if calibration:
        digest = digests.of(QUANTIZE, made, calibration.digest)
        why = f"turbomind.quantize is awq; 4-bit weights fitted to {calibration.reference}"
        if built.get("quantize") == UNJUDGED:
            why += "; the existing ones were built by a Hanlin that did not measure divergence"
        steps.append(Step("quantize", assistant.name, why, digest, built.get("quantize") == digest))
    if engine == "llamacpp":
        kind = assistant.llamacpp.type
        digest = digests.of(GGUF, made, kind, assistant.name)
        why = f"llama.cpp loads one GGUF file; llamacpp.type is {kind}"
        steps.append(Step("gguf", "model.gguf", why, digest, built.get("gguf") == digest))
    return steps


def engine_settings(assistant: Assistant, engine: Engine) -> dict[str, Any]:
    """What the engine is started with, from the declaration alone; what that said is kept in
    `declared`, for whoever has to know whether it still says so."""
    section = getattr(assistant, engine)
    declared = {"declared": section.model_dump(exclude={"calibration"})}
    if engine == "llamacpp":
        given = assistant.llamacpp
        return {
            "engine": "llamacpp", "assistant": assistant.name, "model": "model.gguf",
            "type": given.type, "context": given.context, "parallel": given.parallel,
            "threads": given.threads, **declared,
        }  # fmt: skip
    wanted = assistant.turbomind
    return {
        "engine": "turbomind", "assistant": assistant.name, "tp": wanted.tp,
        "session_len": wanted.session_len, "quant_policy": wanted.quant_policy,
        "cache_max_entry_count": wanted.cache_max_entry_count,
        "max_batch_size": wanted.max_batch_size, "lmdeploy": ">=0.15", **declared,
    }  # fmt: skip


def describe(plan: Plan) -> str:
    """The plan for people, as `--dry-run` prints it."""
    lines = [f"{plan.assistant.name} for {plan.engine}: {plan.target}"]
    for step in plan.steps:
        state = "done" if step.built else "to do"
        lines.append(f"  {step.verb:<9}{state:<7}{step.digest[:12]}  {step.subject}: {step.reason}")
    return "\n".join(lines)
