"""The plan of memory as the engine host gets it: from workspaces and GPUs to homes and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from assistants import HanlinError, House, load_house
from convert.fit.choice import Rank, usable
from convert.fit.gpus import Gpu
from convert.fit.need import Need
from hanlin.memory import plan_of, planner, present_gpus
from serve.engines.memory.gpus import Gpu as SeenGpu
from serve.engines.memory.gpus import Seen
from serve.engines.memory.placement import Device, Evict, Never, Plan, Start, Tenant, decide
from tests.convert.drawn_needs import GIB, hosts, hosts_drawn, need, needs_drawn
from tests.convert.verify import made

MIB = 1 << 20


def declared(folder: Path, **assistants: str) -> House:
    """A house of assistants on the embedded base, each with some lines more."""
    folder.mkdir(exist_ok=True)
    for name, more in assistants.items():
        text = f"name: {name}\ntitle: t\ndescription: d\nmodel: {{base: hanlin-mini}}\n{more}\n"
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return load_house(folder)


def seeing(*mib: int) -> Seen:
    """GPUs of so many MiB, half of which another program holds."""
    return Seen(tuple(SeenGpu(i, f"GPU-{i}", n * MIB, n * MIB // 2) for i, n in enumerate(mib)))


def asked(plan: Plan, name: str, *tenants: Tenant) -> object:
    return decide(name, plan, tenants, minimum_stay=0)


def at_home(plan: Plan, name: str, *, pinned: bool = False) -> Tenant:
    home, wants = plan.homes[name], plan.needs[name]
    return Tenant(
        assistant=name, devices=home.devices, taken=wants.fixed + home.cache, in_flight=0, idle=1,
        ready_for=9, pinned=pinned, leaving=False,
    )  # fmt: skip


# ---- from needs to a plan

GPUS = hosts(24, 24)


def test_those_that_fit_together_are_at_home_and_the_others_are_let_in() -> None:
    needs = [need("a", weights=16 * GIB), need("b", weights=16 * GIB), need("c", weights=15 * GIB)]
    plan = plan_of(needs, [], GPUS, kind="gpu")
    assert plan.devices == tuple(Device(gpu.index, "gpu", usable(gpu)) for gpu in GPUS)
    assert plan.order == tuple(plan.homes) == ("a", "b")
    assert set(plan.needs) == {"a", "b", "c"}
    assert not plan.never
    running = [at_home(plan, name) for name in "ab"]
    assert asked(plan, "c", *running) == Evict(("a",))
    assert isinstance(asked(plan, "c", running[1]), Start)


def test_who_never_fits_is_told_why_and_what_would_help() -> None:
    plan = plan_of([need("big", weights=30 * GIB)], [], GPUS, kind="gpu")
    said = plan.never["big"]
    assert said.startswith("'big' cannot be started: it needs 31.53 GiB even alone")
    assert "; a GPU of 33.19 GiB holds it." in said
    assert not plan.needs
    assert asked(plan, "big") == Never(said)


def test_who_does_not_fit_beside_what_is_pinned_is_told_that() -> None:
    pinned = need("kept", weights=12 * GIB, rank=Rank.pinned)
    plan = plan_of([pinned, need("big", weights=12 * GIB)], [], GPUS[:1], kind="gpu")
    assert set(plan.needs) == {"kept"}
    assert "beside what is pinned (kept)" in plan.never["big"]
    assert "another GPU of" in plan.never["big"]


def test_a_pinned_one_that_fits_alone_is_not_refused_for_another_pinned_one() -> None:
    two = [need(name, weights=14 * GIB, rank=Rank.pinned) for name in "pq"]
    plan = plan_of(two, [], GPUS[:1], kind="gpu")
    assert set(plan.needs) == {"p", "q"}
    assert tuple(plan.homes) == ("p",)
    assert isinstance(asked(plan, "q", at_home(plan, "p", pinned=True)), Never)


@settings(max_examples=100, deadline=None)
@given(needs_drawn, hosts_drawn)
def test_whatever_is_planned_can_be_started_so(needs: list[Need], gpus: tuple[Gpu, ...]) -> None:
    plan = plan_of(needs, [], gpus, kind="gpu")
    assert {*plan.needs, *plan.never} == {one.name for one in needs}
    assert not {*plan.needs} & {*plan.never}
    running: list[Tenant] = []
    for name in plan.order:  # all at home, in their order: nobody is sent away, nothing overflows
        home, wants = plan.homes[name], plan.needs[name]
        assert wants.least_cache <= home.cache <= wants.most_cache
        assert asked(plan, name, *running) == Start(home.devices, home.cache)
        running.append(at_home(plan, name))
    ranks = {one.name: one.rank for one in needs}
    kept = [replace(one, pinned=True) for one in running if ranks[one.assistant] is Rank.pinned]
    others = [one for one in running if ranks[one.assistant] is not Rank.pinned]
    for name in plan.needs:  # everybody else is let in, if only the others leave
        if name in plan.homes:
            continue
        found = asked(plan, name, *kept, *others)
        if ranks[name] is not Rank.pinned:
            assert isinstance(found, Start | Evict)
        elif isinstance(found, Never):
            assert "pinned" in found.reason


# ---- GPUs and TurboMind's workspaces


def test_gpus_and_workspaces_become_lanes_and_homes(tmp_path: Path) -> None:
    house = declared(
        tmp_path / "a", wishes="turbomind: {session_len: 512}",
        poetry="turbomind: {session_len: 512}\nstart: on_demand\npinned: true",
    )  # fmt: skip
    for name in house.names:
        made.plain(tmp_path / "ws" / name / "turbomind")
    plan = planner("turbomind", tmp_path / "ws", look=lambda: seeing(24576))(house)
    assert plan.devices == (
        Device(0, "gpu", 24576 * MIB * 19 // 20 + 1),
    )  # all, not what is free now
    assert plan.order == ("poetry", "wishes")  # the pinned one first
    assert plan.needs["wishes"].devices == 1
    assert not plan.never


def test_what_is_not_built_or_cannot_be_read_is_said_and_looked_at_again(tmp_path: Path) -> None:
    house = declared(tmp_path / "a", new="", broken="", away="upstreams: [http://127.0.0.1:9]")
    broken = made.plain(tmp_path / "ws" / "broken" / "turbomind") / "config.json"
    whole = broken.read_bytes()
    broken.write_text("{", encoding="utf-8")
    plans = planner("turbomind", tmp_path / "ws", look=lambda: seeing(24576))
    first = plans(house)
    assert not first.needs
    assert "has no workspace in" in first.never["new"]
    assert first.never["new"].endswith("build it with hanlin convert new --engine turbomind.")
    assert "config.json: is not JSON" in first.never["broken"]
    assert "upstreams" in first.never["away"]
    broken.write_bytes(whole)
    made.plain(tmp_path / "ws" / "new" / "turbomind")
    assert set(plans(house).homes) == {"new", "broken"}
    broken.unlink()
    broken.mkdir()
    assert f"{broken} cannot be read: Is a directory" in plans(house).never["broken"]


def test_a_lost_gpu_is_no_lane(tmp_path: Path) -> None:
    house = declared(tmp_path / "a", wishes="turbomind: {session_len: 512, tp: 2}")
    made.plain(tmp_path / "ws" / "wishes" / "turbomind")
    seen = seeing(24576, 24576, 24576)
    plans = planner("turbomind", tmp_path / "ws", look=lambda: seen)
    assert plans(house).homes["wishes"].devices == (0, 1)
    seen = replace(seen, gpus=seen.gpus[1:], unusable={0: "GPU is lost"})
    assert plans(house).homes["wishes"].devices == (1, 2)
    seen = replace(seen, gpus=seen.gpus[1:])
    assert "split over 2 GPUs, and there are 1" in plans(house).never["wishes"]


def test_no_gpu_is_one_sentence() -> None:
    none = Seen(trouble="nvidia-smi cannot be run: No such file or directory")
    with pytest.raises(HanlinError) as refused:
        present_gpus(lambda: none, instead="name one with --gpu 24GiB")
    assert str(refused.value) == (
        "There is no GPU that engines could use (nvidia-smi cannot be run: No such file or "
        "directory); name one with --gpu 24GiB."
    )
    with pytest.raises(HanlinError, match=r"\(the driver does not say .*\); --engine llamacpp"):
        planner("turbomind", Path(), look=lambda: Seen(
            unusable={0: "the driver does not say how much memory it has"}
        ))(House(Path(), ()))  # fmt: skip
