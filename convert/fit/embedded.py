"""What each assistant's llama.cpp engine takes of a machine's memory, from its workspace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from assistants import Assistant, House
from convert.fit.choice import LeftOut, Rank, gib, holding
from convert.fit.memory import kv_bytes_per_token
from convert.fit.needs import not_built, rank_of, readable
from convert.geometry import Geometry, read_geometry
from convert.positions import length
from convert.weights.model_folder import read_json
from convert.workspace import ENGINE, MANIFEST, place

CELLS = 256
"""llama.cpp rounds the context of a conversation up to so many tokens."""

BATCH_TOKENS = 512
"""`n_ubatch`: prompt tokens in one forward pass."""

PROMPT_CACHE = 64 << 20
"""Conversations that have lost their slot to another: `cache_ram_mib` of the engine's launcher
(llama.cpp's own default is 8 GiB). The latest of them is kept however long it is."""

PROCESS = 56 << 20
"""Python, llama.cpp and its HTTP threads, and the guard. MEASURED on Linux (x86-64, xllamacpp
2026.10.11549) with hanlin-mini after load and under load, without weights, cache, buffers and
vocabulary: 32 to 42 MiB resident with 1 to 32 conversations at once; the guard has 10 MiB."""

VOCABULARY = 640
"""Bytes of one token of the vocabulary: texts, merges, what sampling sorts. MEASURED between
SmolLM2 (49152 tokens) and hanlin-mini (7168): about 500."""

_WIDTH = 4
"""Floats of one token in a forward pass, in hidden plus intermediate sizes. MEASURED as what
llama.cpp says of its compute buffer: 3.5 (hanlin-mini), 3.6 (SmolLM2)."""

_MASK = 2
"""Bytes of the attention's mask for one token against one of the context; seen at 256 to 32768."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one assistant's engine takes, in bytes."""

    name: str
    rank: Rank
    weights: int
    """The GGUF file, which is mapped: it counts once whole, though the system may drop pages."""
    context: int
    """The process itself."""
    activations: int
    """Buffers of a forward pass, and conversations that have lost their slot."""
    kv_per_token: int
    tokens: int
    """Of all conversations at once."""

    @property
    def tp(self) -> int:
        return 1

    @property
    def fixed(self) -> int:
        return self.context + self.weights + self.activations

    @property
    def least_cache(self) -> int:
        return self.kv_per_token * self.tokens

    @property
    def most_cache(self) -> int:
        """llama.cpp takes its cache whole when it starts."""
        return self.least_cache

    @property
    def least(self) -> int:
        return self.fixed + self.least_cache

    def remedies(self, room: int, alone: int) -> Iterable[str]:
        """What would make it fit where `room` is left, and `alone` if nobody else were there."""
        if (tokens := (room - self.fixed) // self.kv_per_token) >= CELLS:
            yield f"llamacpp.context times llamacpp.parallel of {tokens // CELLS * CELLS} fits"
        more = "" if alone < self.least else " beside the others"
        yield f"--memory {gib(holding(self.least))} holds it{more}"


def needs_of(house: House, workspaces: Path) -> tuple[tuple[Need, ...], tuple[LeftOut, ...]]:
    """What each assistant needs, and which ones that cannot be said of."""
    found = [readable(assistant, lambda one: need_of(one, workspaces)) for assistant in house]
    needs = tuple(one for one in found if isinstance(one, Need))
    return needs, tuple(one for one in found if isinstance(one, LeftOut))


def need_of(assistant: Assistant, workspaces: Path) -> Need:
    """What its engine takes, with the settings the declaration has now.

    Raises:
        ConvertError: there is no workspace, or it cannot be read.
    """
    folder = place(workspaces, assistant.name, "llamacpp")
    if not (folder / MANIFEST).exists():
        raise not_built(assistant, folder)
    config = read_json(folder / "config.json")
    geometry = read_geometry(config)
    model = folder / str(read_json(folder / ENGINE).get("model", "model.gguf"))
    per_token = kv_bytes_per_token(config)
    context = -(-length(assistant, "llamacpp", config) // CELLS) * CELLS
    return Need(
        name=assistant.name,
        rank=rank_of(assistant),
        weights=model.stat().st_size,
        context=PROCESS + VOCABULARY * geometry.vocab,
        activations=_buffers(geometry, context) + PROMPT_CACHE + per_token * context,
        kv_per_token=per_token,
        tokens=context * assistant.llamacpp.parallel,
    )


def _buffers(geometry: Geometry, context: int) -> int:
    width = _WIDTH * (geometry.hidden + geometry.intermediate) * 4
    return BATCH_TOKENS * (width + _MASK * context)
