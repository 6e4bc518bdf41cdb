"""The profile `limits`: two gateways that count the rates of keys together, in a Redis."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import httpx
import pytest

from tests.containers.docker import ROOT, Docker, House, until
from tests.ports import free_port

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def house(
    docker: Docker, gateway_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """The profiles `cpu` and `limits`, with one assistant."""
    folder = tmp_path_factory.mktemp("limits")
    house = House.of_repository(docker, folder, "cpu", "limits")
    image = os.environ.get("REDIS_IMAGE") or docker.build_folder(
        ROOT / "tests/containers/redis_of_debian", "hanlin-redis:bookworm"
    )
    shutil.copytree(ROOT / "assistants/adapters", folder / "assistants/adapters")
    shutil.copy(ROOT / "assistants/wishes.yaml", folder / "assistants")
    house.environment |= {
        "HANLIN_ASSISTANTS": str(folder / "assistants"),
        "HANLIN_LIMITS": "redis://redis:6379/0",
        "REDIS_IMAGE": image,
    }
    try:
        house.up()
        yield house
    finally:
        house.down()


@pytest.fixture(scope="module")
def both(house: House) -> Iterator[tuple[str, str]]:
    """The gateway, and another one beside it."""
    where = f"127.0.0.1:{free_port()}"
    run = ("run", "--detach", "--no-deps", "--publish", f"{where}:8000", "gateway", "gateway")
    other = house.compose(*run).split()[-1]
    try:
        until("the other is ready", lambda: ready(f"http://{where}"))
        yield house.url, f"http://{where}"
    finally:
        house.docker("rm", "--force", other)


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def ask(url: str, key: str) -> httpx.Response:
    """One token of the assistant."""
    return httpx.post(
        f"{url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {key}"},
        json={
            "model": "wishes",
            "messages": [{"role": "user", "content": "你好"}],
            "max_tokens": 1,
        },
        timeout=60,
    )


def test_redis_is_healthy_and_nobody_in_particular(house: House) -> None:
    assert "redis" in house.long_running
    assert house.health("redis") == "healthy"
    assert house.inside("redis", "id", "-u").strip() == "999"
    assert house.inside("redis", "sh", "-c", "touch /x && echo written", ok=False) == ""


def test_two_gateways_count_together(house: House, both: tuple[str, str]) -> None:
    key = house.client_key("many", "--requests-per-minute", "1000", gateways=both)

    def left() -> list[int]:
        answers = [ask(url, key).raise_for_status() for url in (*both, *both)]
        return [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers]

    def falls() -> bool:
        """A minute may end in between; then it is as it was at the beginning, and asked again."""
        first, *others = left()
        return others == [first - 1, first - 2, first - 3]

    until("what is left falls with every request, whoever is asked", falls)


def test_what_one_gateway_has_given_the_other_refuses(house: House, both: tuple[str, str]) -> None:
    key = house.client_key("few", "--requests-per-minute", "1", gateways=both)
    answers: list[httpx.Response] = []

    def given_and_refused() -> bool:
        answers[:] = [ask(url, key) for url in both]
        return [answer.status_code for answer in answers] == [200, 429]

    until("one is answered, and the other gateway knows", given_and_refused)
    assert int(answers[1].headers["retry-after"]) > 0
    assert answers[1].json()["error"]["code"] == "rate_limit_exceeded"


def test_without_redis_each_counts_for_itself(house: House, both: tuple[str, str]) -> None:
    """The last of this file: Redis is gone afterwards."""
    key = house.client_key("alone", "--requests-per-minute", "1", gateways=both)
    house.compose("stop", "redis")
    until("both answer", lambda: [ask(url, key).status_code for url in both] == [200, 200])
    assert "hanlin_limits_away_total" in httpx.get(f"{both[0]}/metrics").text
