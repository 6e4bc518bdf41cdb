"""What a model's config says of its shape, and where its linear layers lie in the folder.

Everything that must know a model before its weights are read stands on this: what a GPU will hold,
what tensor parallelism can cut, what a tensor's shape has to be. Only the plain decoder layouts
are known here; a model of another kind is refused by name, never guessed at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from convert.errors import UnsupportedError

FAMILIES = {
    "LlamaForCausalLM": "llama",
    "InternLM3ForCausalLM": "llama",
    "Qwen2ForCausalLM": "llama",
    "Qwen3ForCausalLM": "llama",
    "InternLM2ForCausalLM": "internlm2",
}
"""Architectures by how they name their tensors."""


class Cut(Enum):
    """How tensor parallelism divides a linear layer."""

    outputs = "outputs"
    """Each rank computes some of the outputs."""
    inputs = "inputs"
    """Each rank sums over some of the inputs; a bias is held by all."""


class Role(Enum):
    """What a linear layer does, which decides how it is padded and cut."""

    query = "query"
    key = "key"
    value = "value"
    fused = "fused"
    out = "out"
    gate = "gate"
    up = "up"
    down = "down"
    head = "head"

    @property
    def cut(self) -> Cut:
        return Cut.inputs if self in (Role.out, Role.down) else Cut.outputs

    @property
    def is_qkv(self) -> bool:
        """One of three that TurboMind makes into one matrix."""
        return self in (Role.query, Role.key, Role.value)


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sizes of a decoder."""

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool


@dataclass(frozen=True, slots=True)
class Place:
    """One linear layer: the name its tensors begin with, and the shape they must have."""

    name: str
    role: Role
    inputs: int
    outputs: int

    @property
    def block(self) -> str:
        """The attention or feed-forward block it belongs to."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Names:
    """How one family calls its tensors."""

    embedding: str
    head: str
    attention: Mapping[Role, str]
    feed_forward: Mapping[Role, str]


NAMES = {
    "llama": Names(
        "model.embed_tokens.weight",
        "lm_head",
        {
            Role.query: "self_attn.q_proj",
            Role.key: "self_attn.k_proj",
            Role.value: "self_attn.v_proj",
            Role.out: "self_attn.o_proj",
        },
        {Role.gate: "mlp.gate_proj", Role.up: "mlp.up_proj", Role.down: "mlp.down_proj"},
    ),
    "internlm2": Names(
        "model.tok_embeddings.weight",
        "output",
        {Role.fused: "attention.wqkv", Role.out: "attention.wo"},
        {Role.gate: "feed_forward.w1", Role.up: "feed_forward.w3", Role.down: "feed_forward.w2"},
    ),
}


def read_geometry(config: Mapping[str, Any]) -> Geometry:
    """The shape a `config.json` declares.

    Raises:
        UnsupportedError: an architecture that is not laid out here, or a size that is missing.
    """
    name = architecture(config)
    family = FAMILIES.get(name)
    if family is None:
        raise UnsupportedError(
            f"The layout of {name} is not known here; known are {', '.join(FAMILIES)}."
        )
    heads = size(config, "num_attention_heads")
    hidden = size(config, "hidden_size")
    return Geometry(
        family=family,
        layers=size(config, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=size(config, "num_key_value_heads", heads),
        head_dim=size(config, "head_dim", hidden // heads),
        intermediate=size(config, "intermediate_size"),
        vocab=size(config, "vocab_size"),
        tied=is_tied(config),
    )


def architecture(config: Mapping[str, Any]) -> str:
    """The name of the class that would run the model; LMDeploy reads the first one listed."""
    listed = config.get("architectures")
    return str(listed[0]) if isinstance(listed, list) and listed else "an unnamed architecture"


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the output layer is the embedding; the configs of these families default to no."""
    return config.get("tie_word_embeddings", False) is True


def size(config: Mapping[str, Any], key: str, otherwise: int | None = None) -> int:
    """A size that a `config.json` declares, or what it is otherwise.

    Raises:
        UnsupportedError: it is missing, or no size.
    """
    value = config.get(key)
    value = otherwise if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UnsupportedError(
            f"config.json: {key} must be a positive whole number, not {value!r}."
        )
    return value


def places(geometry: Geometry) -> Iterator[Place]:
    """Every linear layer, front to back; the output layer last, under the embedding if tied."""
    names = NAMES[geometry.family]
    for layer in range(geometry.layers):
        for role, name in (*names.attention.items(), *names.feed_forward.items()):
            yield _place(geometry, f"model.layers.{layer}.{name}", role)
    head = names.embedding.removesuffix(".weight") if geometry.tied else names.head
    yield _place(geometry, head, Role.head)


def _place(geometry: Geometry, name: str, role: Role) -> Place:
    inside, outside = geometry.hidden, geometry.intermediate
    queries = geometry.heads * geometry.head_dim
    keys = geometry.kv_heads * geometry.head_dim
    shape = {
        Role.query: (inside, queries),
        Role.key: (inside, keys),
        Role.value: (inside, keys),
        Role.fused: (inside, queries + 2 * keys),
        Role.out: (queries, inside),
        Role.gate: (inside, outside),
        Role.up: (inside, outside),
        Role.down: (outside, inside),
        Role.head: (inside, geometry.vocab),
    }[role]
    return Place(name, role, *shape)
