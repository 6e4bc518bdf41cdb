"""Placing assistants on GPUs: never more than there is, never silent, never by chance."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistants import HanlinError, load_house
from convert.fit.choice import Fit, Need, fit
from convert.fit.gpus import Gpu, present_gpus, read_gpus
from convert.fit.memory import PAGE, tokens_held
from convert.fit.needs import needs_of
from convert.fit.table import as_json, plan, tables
from tests.convert.verify import made

GIB = 1 << 30


def need(name: str = "a", **changes: int) -> Need:
    start = Need(
        name=name, tp=1, weights=4 * GIB, context=GIB // 2, activations=GIB // 2,
        kv_per_token=131072, session_len=4096, max_batch_size=64,
    )  # fmt: skip
    return dataclasses.replace(start, **changes)


def hosts(*sizes: float) -> tuple[Gpu, ...]:
    return tuple(Gpu(index, int(size * GIB)) for index, size in enumerate(sizes))


needs_drawn = st.lists(
    st.builds(
        need,
        name=st.text("abcdefgh", min_size=1, max_size=4),
        tp=st.sampled_from([1, 1, 1, 2, 4]),
        weights=st.integers(1, 40 * GIB),
        activations=st.integers(0, 2 * GIB),
        kv_per_token=st.sampled_from([3456, 67584, 131072, 524288]),
        session_len=st.integers(1, 32768),
        max_batch_size=st.integers(1, 256),
    ),
    max_size=7,
    unique_by=lambda one: one.name,
)
hosts_drawn = st.lists(st.floats(1, 192), max_size=4).map(lambda sizes: hosts(*sizes))


@settings(max_examples=60, deadline=None)
@given(needs_drawn, hosts_drawn)
def test_never_more_than_a_gpu_has(needs: list[Need], gpus: tuple[Gpu, ...]) -> None:
    for gpu in (found := fit(needs, gpus)).gpus:
        assert found.taken(gpu) <= gpu.memory


@settings(max_examples=60, deadline=None)
@given(needs_drawn, hosts_drawn)
def test_everybody_is_placed_or_explained(needs: list[Need], gpus: tuple[Gpu, ...]) -> None:
    found = fit(needs, gpus)
    placed = [placed.need.name for placed in found.placements]
    left = [out.name for out in found.left_out]
    assert sorted(placed + left) == sorted(one.name for one in needs)
    for out in found.left_out:
        assert out.why
        assert out.short_by > 0
        assert out.remedies


@settings(max_examples=60, deadline=None)
@given(needs_drawn, hosts_drawn, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(needs, gpus, random) -> None:
    mixed, turned = list(needs), list(gpus)
    random.shuffle(mixed)
    random.shuffle(turned)
    assert fit(mixed, turned) == fit(needs, gpus)


def starts(found: Fit) -> None:
    """Go through the starts as TurboMind would: each takes a share of what it finds free."""
    free = {gpu.index: gpu.memory for gpu in found.gpus}
    for placed in found.placements:
        after_weights = {
            i: free[i] - placed.need.context - placed.need.weights for i in placed.gpus
        }
        cache = int(placed.share * min(after_weights.values()))
        assert 0 < placed.share < 1
        assert placed.share == round(placed.share, 4)  # as it is written on the command line
        assert cache == placed.cache
        assert tokens_held(placed.need.kv_per_token, cache) >= placed.need.session_len
        for index, left in after_weights.items():
            free[index] = left - cache - placed.need.activations
            assert free[index] >= 0


@settings(max_examples=60, deadline=None)
@given(needs_drawn, hosts_drawn)
def test_started_in_its_order_each_gets_a_whole_session(needs, gpus) -> None:
    starts(fit(needs, gpus))


def test_two_on_one_gpu_get_shares_of_what_is_left() -> None:
    found = fit([need("a"), need("b")], hosts(24))
    starts(found)
    first, second = found.placements
    assert (first.need.name, second.need.name) == ("a", "b")
    assert second.share > first.share
    assert abs(first.cache - second.cache) < 2 * PAGE


def test_no_more_cache_than_could_ever_be_used() -> None:
    small = need(kv_per_token=12288, session_len=1024, max_batch_size=4, weights=GIB)
    (placed,) = fit([small], hosts(80)).placements
    assert placed.tokens < 2 * 4 * 1024 + PAGE // 12288


def test_what_is_free_is_used_before_engines_are_crowded() -> None:
    found = fit([need("a"), need("b"), need("c", weights=GIB)], hosts(24, 24))
    assert [placed.gpus for placed in found.placements] == [(0,), (1,), (0,)]


def test_some_of_every_gpu_is_given_to_nobody() -> None:
    found = fit([need(max_batch_size=4096)], hosts(24))
    assert found.taken(found.gpus[0]) <= 24 * GIB * 19 // 20 + 1


def test_ranks_are_on_different_gpus() -> None:
    (placed,) = fit([need(tp=2)], hosts(8, 24, 8)).placements
    assert len(set(placed.gpus)) == 2


def test_a_small_one_fills_the_gap_beside_a_large_one() -> None:
    found = fit([need("a-small", weights=GIB), need("large", weights=18 * GIB)], hosts(24))
    assert [placed.need.name for placed in found.placements] == ["large", "a-small"]


@pytest.mark.parametrize(
    ("weights", "gpus"),
    [((7, 20, 6), (24, 9.6, 8.8)), ((6, 17, 7, 10), (24, 12, 20))],
    ids=["where most is free would waste", "the first would waste"],
)
def test_another_place_is_taken_where_one_would_waste_it(
    weights: tuple[int, ...], gpus: tuple[float, ...]
) -> None:
    needs = [need(name, weights=n * GIB) for name, n in zip("cdbe", weights, strict=False)]
    assert not fit(needs, hosts(*gpus)).left_out


def test_what_would_help_is_said_with_what_it_does() -> None:
    big = need(
        weights=14 * GIB,
        kv_per_token=131072,
        session_len=16384,
    )
    big = dataclasses.replace(
        big, awq_weights=5 * GIB, kv_by_policy={0: 131072, 8: 67584, 4: 34816}
    )
    (out,) = fit([big], hosts(16)).left_out
    assert out.short_by == big.least - (16 * GIB - 16 * GIB // 20)
    assert str(out.short_by) in out.why
    assert "turbomind.quantize: awq makes it fit" in out.remedies
    assert any(text.startswith("turbomind.session_len: ") for text in out.remedies)
    lengths = [text.split()[1] for text in out.remedies if "session_len" in text]
    shorter = dataclasses.replace(big, session_len=int(lengths[0]))
    assert fit([shorter], hosts(16)).placements
    assert fit([dataclasses.replace(big, weights=5 * GIB)], hosts(16)).placements


def test_what_would_not_help_is_not_promised() -> None:
    policies = {8: 67584, 4: 34816}
    big = dataclasses.replace(need(weights=60 * GIB), awq_weights=20 * GIB, kv_by_policy=policies)
    (out,) = fit([big], hosts(16)).left_out
    assert not any("quant_policy: 4" in text for text in out.remedies)  # 8 comes first
    assert not any("makes it fit" in text for text in out.remedies)
    assert any("still leaves it" in text for text in out.remedies)


def test_whether_it_would_fit_alone_is_said() -> None:
    large = need("z", weights=15 * GIB)
    (beside,) = fit([need(weights=16 * GIB), large], hosts(24)).left_out
    (alone,) = fit([large], hosts(16)).left_out
    assert "beside the others" in beside.why
    assert "another GPU of" in beside.remedies[-1]
    assert "even alone" in alone.why
    assert alone.remedies[-1].startswith("a GPU of")


def test_too_few_gpus_is_the_reason() -> None:
    (out,) = fit([need(tp=4)], hosts(80, 80)).left_out
    assert "4 GPUs, and there are 2" in out.why


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("24GiB", [24 * GIB]), ("24", [24 * GIB]), ("80GB", [80 * 10**9]),
     ("2x24 GiB", [24 * GIB] * 2), ("24576MiB", [24 * GIB]), ("1.5g", [3 * GIB // 2])],
)  # fmt: skip
def test_sizes_as_people_write_them(text: str, sizes: list[int]) -> None:
    assert [gpu.memory for gpu in read_gpus([text])] == sizes


@pytest.mark.parametrize("text", ["", "GiB", "24 apples", "0", "-1GiB"])
def test_what_is_no_size_is_one_sentence(text: str) -> None:
    with pytest.raises(HanlinError, match="write it as 24GiB"):
        read_gpus([text])


def test_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert present_gpus() == ()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 24576\necho 81559\n", encoding="utf-8")
    program.chmod(0o755)
    assert [gpu.memory for gpu in present_gpus()] == [24 * GIB, 81559 << 20]


DECLARATION = """
name: {name}
title: x
description: x
model: {{base: {base}}}
turbomind: {{{turbomind}}}
"""


def declared(folder: Path, **assistants: str) -> Path:
    folder.mkdir()
    for name, rest in assistants.items():
        base, _, turbomind = rest.partition(" ")
        text = DECLARATION.format(name=name, base=base, turbomind=turbomind)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


HUB = "hf://owner/name@0123456789"


def test_figures_come_from_the_base_or_the_workspace(tmp_path: Path) -> None:
    made.plain(tmp_path / "ws" / "built" / "turbomind")
    house = load_house(
        declared(
            tmp_path / "a", built=f"{HUB} session_len: 512", mini="hanlin-mini session_len: 512",
            packed="hanlin-mini quantize: awq, session_len: 512", far=HUB,
        )
    )  # fmt: skip
    needs, unknown = needs_of(house, tmp_path / "ws")
    by_name = {one.name: one for one in needs}
    assert set(by_name) == {"built", "mini", "packed"}
    assert by_name["built"].source.startswith("workspace")
    layers = sum(rows * columns for rows, columns in made.MATRICES.values())
    embedding, norms = made.VOCAB * made.HIDDEN, 3 * made.HIDDEN
    assert by_name["built"].weights == 2 * (2 * embedding + layers + norms)
    assert by_name["packed"].weights < by_name["mini"].weights
    assert by_name["packed"].weights == by_name["mini"].awq_weights
    assert by_name["packed"].awq_weights is None
    (far,) = unknown
    assert HUB in far.why
    assert "hanlin convert far" in far.why


def test_the_whole_plan_for_people_and_programs(tmp_path: Path) -> None:
    folder = declared(tmp_path / "a", mini="hanlin-mini session_len: 512, quant_policy: 8", far=HUB)
    found = plan(load_house(folder), hosts(24), workspaces=tmp_path / "ws")
    placed, gpus, left = tables(found)
    assert [row[1] for row in placed.rows] == ["mini"]
    assert all(len(row) == len(placed.columns) for row in placed.rows)
    (row,), (taken,) = placed.rows, gpus.rows
    parts = sum(float(row[placed.columns.index(n)]) for n in ("weights", "other", "cache"))
    assert float(taken[2]) == pytest.approx(parts, abs=0.02)
    assert len(gpus.rows) == 1
    assert [row[0] for row in left.rows] == ["far"]
    said = json.loads(json.dumps(as_json(found)))
    (start,) = said["start"]
    assert start["cache_max_entry_count"] == found.placements[0].share
    assert start["gpus"] == [0]
    assert said["left_out"][0]["assistant"] == "far"


def test_engines_elsewhere_take_nothing_here(tmp_path: Path) -> None:
    folder = declared(tmp_path / "a", mini="hanlin-mini session_len: 512")
    with (folder / "mini.yaml").open("a", encoding="utf-8") as file:
        file.write("upstreams: [http://127.0.0.1:9]\n")
    needs, unknown = needs_of(load_house(folder), tmp_path)
    assert not needs
    assert "upstreams" in unknown[0].why
