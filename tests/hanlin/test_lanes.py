"""The plan of memory as the engine host gets it: from workspaces and GPUs to homes and refusals."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings

from assistants import Assistant, HanlinError, House, load_house
from convert.fit import embedded
from convert.fit.choice import Rank, usable
from convert.fit.gpus import Gpu
from convert.fit.need import Need
from convert.progress import Unwatched
from convert.run import build
from hanlin.lanes import plan_of, planner, present_gpus
from serve.engines import llamacpp_server
from serve.engines.engine import Launch
from serve.engines.gpus import Gpu as SeenGpu
from serve.engines.gpus import Seen
from serve.engines.lanes import Evict, Lane, Never, Plan, Start, Tenant, decide
from serve.engines.llamacpp import Llamacpp
from serve.ports import free_port
from serve.process import Log, Process
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
        assistant=name, lanes=home.lanes, taken=wants.fixed + home.cache, in_flight=0, idle=1,
        ready_for=9, pinned=pinned, leaving=False,
    )  # fmt: skip


# ---- from needs to a plan

GPUS = hosts(24, 24)


def test_those_that_fit_together_are_at_home_and_the_others_are_let_in() -> None:
    needs = [need("a", weights=16 * GIB), need("b", weights=16 * GIB), need("c", weights=15 * GIB)]
    plan = plan_of(needs, [], GPUS, kind="gpu")
    assert plan.lanes == tuple(Lane(gpu.index, "gpu", usable(gpu)) for gpu in GPUS)
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
        assert asked(plan, name, *running) == Start(home.lanes, home.cache)
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
    assert plan.lanes == (Lane(0, "gpu", 24576 * MIB * 19 // 20 + 1),)  # all, not what is free now
    assert plan.order == ("poetry", "wishes")  # the pinned one first
    assert plan.needs["wishes"].lanes == 1
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
    assert plans(house).homes["wishes"].lanes == (0, 1)
    seen = replace(seen, gpus=seen.gpus[1:], unusable={0: "GPU is lost"})
    assert plans(house).homes["wishes"].lanes == (1, 2)
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


# ---- the machine's memory and llama.cpp


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of the embedded base, for whoever is called `wishes`."""
    root = tmp_path_factory.mktemp("built")
    build(declared(root / "a", wishes=""), engine="llamacpp", workspaces=root / "ws",
          progress=Unwatched())  # fmt: skip
    return root / "ws"


@pytest.fixture
def workspaces(built: Path, tmp_path: Path) -> Path:
    """A copy of one's own, with a second assistant on it."""
    for name in ("wishes", "poetry"):
        shutil.copytree(built / "wishes" / "llamacpp", tmp_path / "ws" / name / "llamacpp")
    return tmp_path / "ws"


def test_llamacpp_needs_its_file_its_cache_and_its_process(
    workspaces: Path, tmp_path: Path
) -> None:
    house = declared(tmp_path / "a", wishes="llamacpp: {context: 300, parallel: 2}")
    plan = planner("llamacpp", workspaces, memory="1GiB")(house)
    wants = plan.needs["wishes"]
    model = workspaces / "wishes" / "llamacpp" / "model.gguf"
    config = json.loads(model.with_name("config.json").read_text())
    assert wants.weights == model.stat().st_size
    assert wants.least_cache == wants.most_cache == 2 * 512 * 8192  # rounded up to 256 tokens
    assert wants.context == embedded.PROCESS + embedded.VOCABULARY * config["vocab_size"]
    assert wants.activations > embedded.PROMPT_CACHE + 512 * 8192
    assert wants.lanes == 1
    assert plan.lanes == (Lane(0, "memory", GIB - GIB // 20),)
    assert plan.homes["wishes"].cache == wants.least_cache


def test_the_memory_given_decides_who_fits(workspaces: Path, tmp_path: Path) -> None:
    house = declared(tmp_path / "a", wishes="", poetry="start: on_demand")
    plan = planner("llamacpp", workspaces, memory="1GiB")(house)
    assert plan.order == ("wishes", "poetry")
    one = plan.needs["wishes"].least * 20 // 19 // MIB + 1
    tight = planner("llamacpp", workspaces, memory=f"{one}MiB")(house)
    assert tuple(tight.homes) == ("wishes",)
    assert set(tight.needs) == {"wishes", "poetry"}
    assert asked(tight, "poetry", at_home(tight, "wishes")) == Evict(("wishes",))
    small = planner("llamacpp", workspaces, memory=f"{one - 20}MiB")(house)
    assert not small.needs
    said = small.never["wishes"]
    assert "even alone" in said
    fits = int(said.split("llamacpp.context times llamacpp.parallel of ")[1].split()[0])
    less = declared(tmp_path / "b", wishes=f"llamacpp: {{context: {fits // 4}, parallel: 4}}")
    assert planner("llamacpp", workspaces, memory=f"{one - 20}MiB")(less).homes
    size = said.rsplit("--memory ", 1)[1].split(" holds")[0]
    assert planner("llamacpp", workspaces, memory=size)(house).homes


def test_without_a_size_the_machine_says_it(workspaces: Path, tmp_path: Path) -> None:
    house = declared(tmp_path / "a", wishes="")
    (lane,) = planner("llamacpp", workspaces)(house).lanes
    assert lane.kind == "memory"
    assert lane.memory > 0
    with pytest.raises(HanlinError, match=r"--memory 2x8GiB is not a size"):
        planner("llamacpp", workspaces, memory="2x8GiB")


def test_llamacpps_workspace_is_missing_or_damaged(workspaces: Path, tmp_path: Path) -> None:
    house = declared(tmp_path / "a", wishes="", poetry="", new="")
    (workspaces / "wishes" / "llamacpp" / "model.gguf").unlink()
    (workspaces / "poetry" / "llamacpp" / "config.json").write_text("[]", encoding="utf-8")
    never = planner("llamacpp", workspaces, memory="1GiB")(house).never
    assert "model.gguf cannot be read: No such file" in never["wishes"]
    assert "config.json: is not a JSON object" in never["poetry"]
    assert "hanlin convert new --engine llamacpp" in never["new"]


def test_the_engine_keeps_as_many_old_prompts_as_the_plan_counts() -> None:
    assert llamacpp_server.PROMPT_CACHE_MIB * MIB == embedded.PROMPT_CACHE


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see its memory")
async def test_the_real_engine_takes_no_more_than_planned(built: Path, tmp_path: Path) -> None:
    """Measured under load: every slot filled, and more old prompts than it may keep."""
    house = declared(tmp_path / "a", wishes="")
    planned = planner("llamacpp", built, memory="1GiB")(house).needs["wishes"].least
    async with asyncio.timeout(150):
        taken = await taken_under_load(house.get("wishes"), built, tmp_path / "log")
    assert taken <= planned <= 2 * taken, f"{taken / MIB:.0f} of {planned / MIB:.0f} MiB"


async def taken_under_load(assistant: Assistant, workspaces: Path, log: Path) -> int:
    """Bytes the real engine and its guard hold at the most."""
    port = free_port()
    launch = Launch(workspace=workspaces / "wishes" / "llamacpp", port=port)
    command = Llamacpp().command(assistant, launch)
    process = await Process.start(command, Log(log))
    most = 0
    gate = asyncio.Semaphore(assistant.llamacpp.parallel)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            while not await Llamacpp().first_token(client, "wishes"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

            async def one(prompt: str) -> None:
                nonlocal most
                async with gate:
                    body = {"model": "wishes", "prompt": prompt, "max_tokens": 1}
                    (await client.post("/v1/completions", json=body)).raise_for_status()
                most = max(most, resident(port))

            await asyncio.gather(*(one(prompt) for prompt in prompts(30)))
    finally:
        await process.stop(5)
    return most


def prompts(count: int) -> Iterator[str]:
    """Verses of no sense, none of which begins like another."""
    for seed in range(count):
        dice = random.Random(seed)
        yield "".join(dice.choice("春夏秋冬風花雪月山水天地人日夜雲雨江河樹") for _ in range(600))


def resident(port: int) -> int:
    """Bytes of the engine on that port and of the guard that stands over it."""
    pages = [
        int((status.parent / "statm").read_text().split()[1])
        for status in Path("/proc").glob("[0-9]*/cmdline")
        if f"--port={port}".encode() in said(status)
    ]
    assert len(pages) == 2
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def said(cmdline: Path) -> list[bytes]:
    try:
        return cmdline.read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile
        return []
