"""The profile `cpu`, brought up by docker compose, asked from outside, hurt, and stopped."""

from __future__ import annotations

import asyncio
import json

import httpx
import openai
import pytest
from openai import OpenAI

from tests.containers.docker import House, processes, until
from tests.containers.load import ASSISTANTS, answered, load

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

DISCONNECTED = {"ConnectError", "ReadError", "RemoteProtocolError"}
KILL = """
import os, signal, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{pid}/cmdline") as file:
        words = file.read().split("\\0")[:-1]
    if pid != "1" and "-c" not in words and "serve/guard.py" not in "".join(words[:4]):
        if set(sys.argv[1:]) <= set(words):
            print(pid)
            os.kill(int(pid), signal.SIGKILL)
"""
"""Kills the program whose command line has all of these words; its guard and ourselves stay."""
ENGINE_OF_WISHES = ("serve.engines.backends.llamacpp_server", "--alias=wishes")


@pytest.fixture(scope="module")
def key(house: House) -> str:
    """A client's key."""
    return house.client_key("tests")


def test_everything_is_up_and_healthy(house: House) -> None:
    for service in house.long_running:
        assert house.health(service) == "healthy", service
        assert house.state(service)["Status"] == "running", service
    for service in ("secrets", "convert-cpu"):
        until(f"{service} is done", lambda s=service: house.state(s)["Status"] == "exited")
        assert house.state(service)["ExitCode"] == 0, service


def test_every_assistant_answers_the_official_client(house: House, key: str) -> None:
    with OpenAI(base_url=f"{house.url}/v1", api_key=key, max_retries=0) as client:
        assert {model.id for model in client.models.list()} == set(ASSISTANTS)
        for name in ASSISTANTS:
            answer = client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": "你好"}], max_tokens=16
            )
            assert answer.choices[0].message.content, name
            assert answer.model == name


def test_nobody_comes_in_without_a_key(house: House) -> None:
    with (
        OpenAI(base_url=f"{house.url}/v1", api_key="hl-no", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_conversion_of_one_is_one_command(house: House) -> None:
    said = house.compose("run", "--rm", "convert-cpu", "wishes")
    assert "wishes  was built already  /hanlin/workspaces/wishes/llamacpp" in said
    assert "poetry" not in said


def test_the_page_is_served(house: House) -> None:
    page = httpx.get(house.page_url, timeout=30)
    assert page.status_code == 200
    assert "翰林 Hanlin" in page.text


def test_the_page_has_a_key_that_the_gateway_knows(house: House) -> None:
    ask = (
        "import urllib.request as u; key = open('/hanlin/secrets/page/key').read().strip();"
        "who = {'Authorization': 'Bearer ' + key};"
        "print(u.urlopen(u.Request('http://gateway:8000/v1/models', headers=who)).status)"
    )
    assert house.inside("page", "python", "-c", ask).strip() == "200"


def test_nothing_runs_as_root_or_writes_to_the_root(house: House) -> None:
    for service in house.long_running:
        container = house.container(service)
        running = processes(house.docker, container)
        assert running
        assert {uid for uid, _ in running} == {10001}, (service, running)
        limits = house.docker.inspect(container)["HostConfig"]
        assert limits["ReadonlyRootfs"] is True
        assert limits["CapDrop"] == ["ALL"]
        assert limits["Memory"] > 0
        for path in ("/x", "/opt/hanlin/x", "/hanlin/assistants/x"):
            failed = house.inside(service, "sh", "-c", f"touch {path} && echo written", ok=False)
            assert failed == "", (service, path)


def test_no_secret_can_be_read_by_who_does_not_need_it(house: House) -> None:
    read = ("sh", "-c", "cat /hanlin/secrets/*/* | wc -c; ls /hanlin/secrets")
    seen = {service: house.inside(service, *read).split() for service in house.long_running}
    holds = "sh", "-c", "ls /hanlin/secrets/*/"
    assert "keys.yaml" in house.inside("gateway", *holds)
    assert "keys.yaml" not in house.inside("page", *holds) + house.inside("engines-cpu", *holds)
    assert all(int(size) > 0 for size, *_ in seen.values())
    for service in house.long_running:
        settings = json.dumps(house.docker.inspect(house.container(service))["Config"])
        key = house.inside(service, "sh", "-c", "cat /hanlin/secrets/*/key | head -c 20")
        assert key
        assert key not in settings, service
        assert key not in str(processes(house.docker, house.container(service))), service


def test_engines_cannot_be_reached_from_outside_nor_without_the_key(house: House) -> None:
    ask = (
        "import urllib.request as u, urllib.error as e\n"
        "try: print(u.urlopen('http://engines:8001/replicas').status)\n"
        "except e.HTTPError as error: print(error.code)\n"
    )
    assert house.inside("gateway", "python", "-c", ask).strip() == "401"
    engines = house.docker.inspect(house.container("engines-cpu"))
    assert not any(engines["NetworkSettings"]["Ports"].values())


async def test_an_engine_that_is_killed_comes_back_and_requests_are_answered(
    house: House, key: str
) -> None:
    async with load(house.url, key, clients=4) as outcomes:
        await answered(outcomes, 3)
        killed = await asyncio.to_thread(
            house.inside, "engines-cpu", "python", "-c", KILL, *ENGINE_OF_WISHES
        )
        assert len(killed.split()) == 1
        await answered(outcomes, 5)
    # What that engine had begun is broken off, and who comes before the news of its end is told.
    told = ("wishes: 502 ", "wishes: broken off")
    assert all(wrong.startswith(told) for wrong in outcomes.wrong), outcomes.wrong
    assert set(outcomes.refused) <= {"a stream: engine_dropped", "a stream: engine_unreachable"}
    assert house.state("engines-cpu")["Health"]["Status"] == "healthy"
    assert house.docker.inspect(house.container("engines-cpu"))["RestartCount"] == 0
    said = house.compose("logs", "--no-color", "engines-cpu")
    assert "is starting: The engine of 'wishes' was killed (SIGKILL)" in said


async def test_the_gateway_restarts_under_load_and_no_answer_is_wrong(
    house: House, key: str
) -> None:
    async with load(house.url, key, clients=8) as outcomes:
        await answered(outcomes, 3)
        before = house.state("gateway")["StartedAt"]
        await asyncio.to_thread(house.compose, "restart", "gateway")
        await answered(outcomes, 3)
    assert house.state("gateway")["StartedAt"] != before
    assert outcomes.refused, "a restart that no client noticed was none"
    assert set(outcomes.refused) <= DISCONNECTED, outcomes.refused
    assert not outcomes.wrong, outcomes.wrong
    print("\nanswered", dict(outcomes.answered), "refused", dict(outcomes.refused))


def test_a_gateway_that_was_killed_is_started_again(house: House, key: str) -> None:
    before = house.state("gateway")["StartedAt"]
    pid = house.state("gateway")["Pid"]
    house.inside("gateway", "python", "-c", KILL, "gateway", ok=False)  # it may take us along
    until("it was started again", lambda: house.state("gateway")["StartedAt"] != before)
    assert house.state("gateway")["Pid"] != pid
    until("every assistant is ready", lambda: set(house.states().values()) == {"ready"})


async def test_stopped_under_load_they_finish_what_they_began_and_end_well(
    house: House, key: str
) -> None:
    """The last of this file: nothing runs afterwards."""
    containers = {service: house.container(service) for service in house.services}
    async with load(house.url, key, clients=8) as outcomes:
        await answered(outcomes, 3)
        await asyncio.to_thread(house.compose, "stop")
    assert not outcomes.wrong, outcomes.wrong
    print("\nanswered", dict(outcomes.answered), "refused", dict(outcomes.refused))
    ended = {name: house.docker.inspect(it)["State"] for name, it in containers.items()}
    assert {state["Status"] for state in ended.values()} == {"exited"}
    assert {name: state["ExitCode"] for name, state in ended.items()} == dict.fromkeys(ended, 0)
    assert not any(state["OOMKilled"] for state in ended.values())
