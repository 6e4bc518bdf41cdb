"""What one TurboMind engine takes of a GPU, and what would make it smaller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from convert.fit.choice import Rank, gib, holding
from convert.fit.memory import PAGE, cache_bytes, tokens_held


@dataclass(frozen=True, slots=True)
class Need:
    """What one assistant's engine takes of each of its `tp` GPUs, in bytes."""

    name: str
    tp: int
    weights: int
    context: int
    """Taken before the weights."""
    activations: int
    """Taken after the cache."""
    kv_per_token: int
    session_len: int
    max_batch_size: int
    quant_policy: int = 0
    source: str = ""
    """Where the figures come from."""
    kv_by_policy: Mapping[int, int] | None = None
    """kv_per_token under every quant_policy, to say what another would change."""
    awq_weights: int | None = None
    """Weights if they were 4-bit, where they are not and could be."""
    rank: Rank = Rank.at_once

    @property
    def fixed(self) -> int:
        return self.context + self.weights + self.activations

    @property
    def least_cache(self) -> int:
        """One conversation of full length, and a page for what rounding takes."""
        return cache_bytes(self.kv_per_token, self.session_len) + PAGE

    @property
    def most_cache(self) -> int:
        """All conversations at full length; more would never be used."""
        tokens = self.session_len * self.max_batch_size
        return cache_bytes(self.kv_per_token, tokens) + PAGE

    @property
    def least(self) -> int:
        return self.fixed + self.least_cache

    def remedies(self, room: int, alone: int) -> Iterable[str]:
        """What would make it fit where `room` is left, and `alone` if nobody else were there."""
        smaller = list(self._smaller())
        enough = [text for text, other in smaller if other.least <= room]
        yield from (f"{text} makes it fit" for text in enough)
        if not enough and len(smaller) > 1:
            everything = replace(
                self,
                weights=min(other.weights for _, other in smaller),
                kv_per_token=min(other.kv_per_token for _, other in smaller),
            )
            verdict = "makes it fit" if everything.least <= room else (
                f"still leaves it {gib(everything.least - room)} short"
            )  # fmt: skip
            yield f"{' and '.join(text for text, _ in smaller)} together {verdict}"
        tokens = tokens_held(self.kv_per_token, max(0, room - self.fixed - PAGE))
        if tokens and tokens < self.session_len:
            yield f"turbomind.session_len: {tokens} makes it fit"
        large = gib(holding(self.least))
        yield f"{'a GPU' if alone < self.least else 'another GPU'} of {large} holds it"

    def _smaller(self) -> Iterable[tuple[str, Need]]:
        if self.awq_weights is not None:
            yield "turbomind.quantize: awq", replace(self, weights=self.awq_weights)
        policies = self.kv_by_policy or {}
        for policy in (8, 4):
            if policies.get(policy, self.kv_per_token) < self.kv_per_token:
                text = f"turbomind.quant_policy: {policy}"
                yield text, replace(self, kv_per_token=policies[policy])
                return
