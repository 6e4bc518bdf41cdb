"""Placing assistants on GPUs: never more than there is, never silent, never by chance."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistants import HanlinError, load_house
from convert.fit.choice import Fit, Rank, fit, usable
from convert.fit.gpus import Gpu, read_gpus, read_size
from convert.fit.memory import PAGE, tokens_held
from convert.fit.need import Need
from convert.fit.needs import needs_of
from convert.fit.table import as_json, plan, tables
from tests.convert.drawn_needs import GIB, hosts, hosts_drawn, need, needs_drawn
from tests.convert.verify import made


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


def starts(found: Fit[Need]) -> None:
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


def test_what_is_pinned_is_placed_first_and_what_starts_on_demand_last() -> None:
    large = need("large", weights=18 * GIB, rank=Rank.on_demand)
    two = need("two", weights=9 * GIB), need("kept", weights=9 * GIB, rank=Rank.pinned)
    found = fit([large, *two], hosts(24))
    assert [placed.need.name for placed in found.placements] == ["kept", "two"]
    assert [out.name for out in found.left_out] == ["large"]


def test_a_way_that_places_one_more_at_once_beats_one_that_places_more_on_demand() -> None:
    """Spread out, two at once and two on demand find room; crowded, three and one."""
    wanted = [need(f"at-once-{n}", weights=n * GIB) for n in (13, 10, 7)]
    others = [need(f"later-{n}", weights=n * GIB, rank=Rank.on_demand) for n in (8, 5, 2)]
    found = fit([*others, *wanted], hosts(24, 8, 16))
    placed = [placed.need.name for placed in found.placements]
    assert placed == ["at-once-13", "at-once-10", "at-once-7", placed[-1]]


def test_what_is_pinned_leaves_room_for_whom_it_could_let_in() -> None:
    """Its cache could take all of the GPU; then nobody else would ever run."""
    kept = need("kept", weights=8 * GIB, max_batch_size=4096, rank=Rank.pinned)
    small = need("small", weights=6 * GIB)
    guest = need("guest", weights=11 * GIB, rank=Rank.on_demand)
    alone = fit([kept, small], hosts(24))
    assert alone.placements[0].cache > 2 * kept.least_cache
    found = fit([kept, small, guest], hosts(24))
    assert [out.name for out in found.left_out] == ["guest"]
    (first, _) = found.placements
    assert usable(found.gpus[0]) - first.taken >= guest.least
    starts(found)
    never = fit([kept, small, need("huge", weights=14 * GIB)], hosts(24))
    assert never.placements[0].need.name == "kept"
    assert never.placements[0].cache > 2 * kept.least_cache  # it would not help huge


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


def test_only_what_is_pinned_keeps_another_out_for_good() -> None:
    kept = need("k", weights=15 * GIB, rank=Rank.pinned)
    (guest,) = fit([kept, need("g", weights=10 * GIB)], hosts(24)).left_out
    (rival,) = fit([kept, need("r", weights=10 * GIB, rank=Rank.pinned)], hosts(24)).left_out
    assert "beside what is pinned (k)" in guest.why
    assert (guest.for_good, rival.for_good) == (True, False)  # the rival may be started first


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


def test_one_size_is_not_several() -> None:
    assert read_size("512MiB", option="--memory") == 512 << 20
    for text in ("2x24GiB", "much"):
        with pytest.raises(HanlinError, match=r"--memory \S+ is not a size"):
            read_size(text, option="--memory")


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
