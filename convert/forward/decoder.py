"""One decoder layer computed from bare tensors: Llama, Qwen2, Qwen3 and InternLM2 alike.

A layer has four places where activations meet weights (`Site`). Quantisation asks three things of
a site: what arrives there, what the block makes of it, and which weights it meets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

import torch
from torch import Tensor
from torch.nn import functional

from convert.forward.int4 import by_group
from convert.forward.low_rank import LowRank
from convert.forward.rope import Table
from convert.geometry import Geometry, Role


class Site(Enum):
    """Where activations meet weights, and which weights."""

    attention_in = (Role.query, Role.key, Role.value)
    attention_out = (Role.out,)
    feed_forward_in = (Role.gate, Role.up)
    feed_forward_out = (Role.down,)

    @property
    def roles(self) -> tuple[Role, ...]:
        roles: tuple[Role, ...] = self.value
        return roles


Tap = Callable[[Site, Tensor], None]
"""Somebody who is shown what arrives at each site."""


@dataclass(frozen=True, slots=True)
class Norms:
    """The scales of a layer's RMS norms."""

    attention: Tensor
    feed_forward: Tensor
    query: Tensor | None = None
    """Qwen3 normalises each head's query and key."""
    key: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights in fp32; fused projections already taken apart."""

    weights: Mapping[Role, Tensor]
    biases: Mapping[Role, Tensor]
    norms: Norms
    adapters: Mapping[Role, LowRank] = field(default_factory=dict)
    """What stands beside the matrices, not merged into them."""

    def with_weights(self, changed: Mapping[Role, Tensor]) -> Layer:
        return replace(self, weights={**self.weights, **changed})


@dataclass(frozen=True, slots=True)
class Decoder:
    """What all layers of a model have in common."""

    geometry: Geometry
    eps: float
    rope: Table

    def forward(self, layer: Layer, hidden: Tensor, tap: Tap | None = None) -> Tensor:
        """The layer's output for hidden states (windows, positions, hidden)."""
        x = rms_norm(hidden, layer.norms.attention, self.eps)
        hidden = hidden + self._block(layer, Site.attention_in, x, tap)
        x = rms_norm(hidden, layer.norms.feed_forward, self.eps)
        return hidden + self._block(layer, Site.feed_forward_in, x, tap)

    def _block(self, layer: Layer, site: Site, x: Tensor, tap: Tap | None) -> Tensor:
        inner = Site.attention_out if site is Site.attention_in else Site.feed_forward_out
        if tap is not None:
            tap(site, x)
        x = self._inside(layer, site, x)
        if tap is not None:
            tap(inner, x)
        return self.rest(layer, inner, x)

    def rest(self, layer: Layer, site: Site, x: Tensor) -> Tensor:
        """What the block adds to the residual stream, from what arrives at one of its sites."""
        if site is Site.attention_out:
            return _linear(layer, Role.out, x)
        if site is Site.feed_forward_out:
            return _linear(layer, Role.down, x)
        last = Role.out if site is Site.attention_in else Role.down
        return _linear(layer, last, self._inside(layer, site, x))

    def _inside(self, layer: Layer, site: Site, x: Tensor) -> Tensor:
        if site is Site.attention_in:
            return self._attend(layer, x)
        gate = functional.silu(_linear(layer, Role.gate, x), inplace=True)
        return gate.mul_(_linear(layer, Role.up, x))

    def _attend(self, layer: Layer, x: Tensor) -> Tensor:
        size = self.geometry.head_dim
        query, key, value = (
            by_group(_linear(layer, role, x), size).transpose(1, 2)
            for role in (Role.query, Role.key, Role.value)
        )
        if layer.norms.query is not None and layer.norms.key is not None:
            query = rms_norm(query, layer.norms.query, self.eps)
            key = rms_norm(key, layer.norms.key, self.eps)
        query, key = self._rotated(query), self._rotated(key)
        repeats = self.geometry.heads // self.geometry.kv_heads
        if repeats > 1:
            key, value = (t.repeat_interleave(repeats, dim=1) for t in (key, value))
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return seen.transpose(1, 2).flatten(2)

    def _rotated(self, heads: Tensor) -> Tensor:
        """Hugging Face's order: the first half of a head turns with the second."""
        cos, sin = (table[: heads.shape[2]] for table in self.rope)
        first, second = heads.chunk(2, dim=-1)
        return heads * cos + torch.cat([-second, first], dim=-1) * sin


def rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Each vector at length 1 (root mean square), times the learnt scale."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * scale


def _linear(layer: Layer, role: Role, x: Tensor) -> Tensor:
    bias = layer.biases.get(role)
    adapter = layer.adapters.get(role)
    if adapter is None:
        return functional.linear(x, layer.weights[role], bias)
    y = adapter.beside(x, functional.linear(x, layer.weights[role]))
    return y if bias is None else y + bias
