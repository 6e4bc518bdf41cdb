"""The way in: hashed passwords, or a proxy's word for who has signed in; otherwise nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, expect
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from assistants import HanlinError
from hanlin.__main__ import main
from hanlin.page import PageOptions, open_door
from serve.ui.login.passwords import Hash
from serve.ui.login.proxy import Gate, Proxy, networks
from serve.ui.login.users import Door, UserSources
from tests.ui.conftest import PageProcess, free_port, page_of, serving
from tests.ui.gateway_stub import PLAIN, GatewayStub
from tests.ui.visitor import DESK, visiting

WORD = "correct horse"


def test_a_hash_fits_its_password_and_no_other() -> None:
    made = Hash.of(WORD)
    assert made.fits(WORD)
    assert not made.fits(WORD + " ")
    assert Hash.parse(str(made)).fits(WORD)
    assert str(made) != str(Hash.of(WORD))  # salted
    assert WORD not in str(made)
    assert "$" not in str(made)  # compose files would read it as a variable


@pytest.mark.parametrize(
    "text", [WORD, "", "scrypt:15:x", "scrypt:99:YWE:YWE", "md5:15:YWE:YWE", "scrypt:15:YWE:"]
)
def test_what_is_no_hash_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="not a password's hash") as refused:
        Hash.parse(text)
    assert not text or text not in str(refused.value)


async def test_the_door_follows_its_file(tmp_path: Path) -> None:
    file = tmp_path / "users.yaml"
    file.write_text(f"users:\n  ada: {Hash.of(WORD)}\n")
    door = Door(UserSources(file, f"bob={Hash.of('of the variable')}"))
    assert await door.lets_in("ada", WORD)
    assert await door.lets_in("bob", "of the variable")
    assert not await door.lets_in("ada", "wrong")
    assert not await door.lets_in("eve", WORD)
    file.write_text(f"users:\n  eve: {Hash.of(WORD)}\n")
    assert await door.lets_in("eve", WORD)
    assert not await door.lets_in("ada", WORD)
    file.write_text("users: [")  # broken: whoever was known still is
    assert await door.lets_in("eve", WORD)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("users:\n  ada: plain words\n", "not a password's hash"),
        ("users: {}\n", "users"),
        ("ada: x\n", "ada"),
    ],
)
def test_a_wrong_file_of_users_is_one_sentence(tmp_path: Path, written: str, says: str) -> None:
    file = tmp_path / "users.yaml"
    file.write_text(written)
    with pytest.raises(HanlinError, match=says) as refused:
        UserSources(file).read()
    assert "plain words" not in str(refused.value)


def test_a_wrong_variable_is_one_sentence() -> None:
    with pytest.raises(HanlinError, match="NAME=HASH"):
        UserSources(None, "ada").read()
    with pytest.raises(HanlinError, match="cannot be read"):
        UserSources(Path("no-such")).read()


def test_a_user_is_made_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "users.yaml"
    for name in ("ada", "bob"):
        read, write = os.pipe()
        os.write(write, f"{WORD}\n".encode())
        os.close(write)
        with os.fdopen(read) as typed:
            monkeypatch.setattr("sys.stdin", typed)
            assert main(["user", name, "--file", str(file)]) == 0
    known = UserSources(file).read()
    assert known["ada"].fits(WORD)
    assert known["bob"].fits(WORD)
    assert file.stat().st_mode & 0o777 == 0o600
    assert WORD not in file.read_text()
    capsys.readouterr()
    assert main(["user", "ada", "--file", str(file)]) == 1
    assert "already" in capsys.readouterr().err
    assert main(["user", "a b"]) == 1
    assert "is not a name" in capsys.readouterr().err


def options(**more: object) -> PageOptions:
    return PageOptions("http://127.0.0.1:1", "127.0.0.1", 7860, **more)


def test_there_is_one_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_UI_USERS", f"ada={Hash.of(WORD)}")
    assert options().settings().users
    with pytest.raises(HanlinError, match="one way in"):
        options(user_header="X-User", proxies="127.0.0.1").settings()


def test_an_open_page_with_a_key_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    public = PageOptions("http://127.0.0.1:1", "0.0.0.0", 7860)
    assert open_door(public.settings()) is None
    monkeypatch.setenv("HANLIN_KEY", "hl-secret")
    said = open_door(public.settings())
    assert said is not None
    assert "hanlin user" in said
    assert "hl-secret" not in said
    assert open_door(options().settings()) is None
    behind = PageOptions("http://x", "0.0.0.0", 7860, None, None, "X-User", "10.0.0.0/8")
    assert open_door(behind.settings()) is None


def test_addresses_and_networks_are_read_or_refused() -> None:
    assert len(networks("127.0.0.1, ::1,10.0.0.0/8,")) == 3
    with pytest.raises(HanlinError, match="'proxy' is no address"):
        networks("proxy")


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("10.1.2.3", {"X-User": "ada"}, 200),
        ("10.1.2.3", {}, 403),
        ("10.1.2.3", {"X-User": " "}, 403),
        ("192.168.0.9", {"X-User": "ada"}, 403),
        ("192.168.0.9", {"X-User": "ada", "X-Forwarded-For": "10.1.2.3"}, 403),
        ("::ffff:10.1.2.3", {"X-User": "ada"}, 200),
        ("not an address", {"X-User": "ada"}, 403),
    ],
)
async def test_only_the_proxy_is_believed(host: str, headers: dict[str, str], status: int) -> None:
    app = Starlette(routes=[Route("/{any:path}", lambda _: PlainTextResponse("in"))])
    gate = Gate(app, Proxy("x-user", networks("10.0.0.0/8")))
    transport = httpx.ASGITransport(gate, client=(host, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
        answer = await client.get("/anything", headers={**headers, "Accept-Language": "zh"})
    assert answer.status_code == status
    assert status == 200 or "登录" in answer.text


@pytest.fixture(scope="module")
def guarded() -> Iterator[PageProcess]:
    """A page with one user, and without feedback."""
    with page_of(free_port(), HANLIN_UI_USERS=f"ada={Hash.of(WORD)}") as page:
        yield page


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_people_sign_in_and_out(guarded: PageProcess, browser: Browser) -> None:
    async with (
        serving(GatewayStub(), guarded.gateway_port),
        visiting(browser, guarded.url, DESK) as seen,
    ):
        page = seen.page
        await seen.go("?assistant=sui")
        name, word = page.locator("input[type=text]"), page.locator("input[type=password]")
        await name.fill("ada")
        await word.fill("wrong")
        await seen.button("登录").click()
        await expect(page.locator(".error, .creds")).to_be_visible()
        seen.complaints.clear()  # the browser itself tells its console of a refused request
        await name.fill("ada")  # Gradio has emptied both
        await word.fill(WORD)
        await seen.button("登录").click()
        await expect(page.locator(".hanlin-about h2")).to_have_text("隋朝那些事儿")
        await seen.send("你是谁？")
        await expect(seen.answer).to_have_text(PLAIN)
        await expect(seen.button("赞")).to_have_count(0)  # feedback is off by default
        await expect(page.locator(".hanlin-kept")).to_have_count(0)
        await page.get_by_role("link", name="退出").click()
        await expect(page.locator("input[type=password]")).to_be_visible()
        seen.complaints.clear()


async def test_nothing_of_the_page_is_told_before_signing_in(guarded: PageProcess) -> None:
    async with httpx.AsyncClient(base_url=guarded.url) as client:
        front = (await client.get("/")).text
        assert "hanlin-card" not in front
        assert "temperature" not in front
        for path in ("config", "gradio_api/info", "gradio_api/queue/data?session_hash=x"):
            assert (await client.get(f"/{path}")).status_code == 401, path
        asked = {"fn_index": 0, "data": [], "session_hash": "x"}
        joined = await client.post("/gradio_api/queue/join", json=asked)
        assert joined.status_code == 401


def test_neither_the_help_nor_the_gateway_imports_gradio() -> None:
    probe = (
        "import sys; from hanlin.__main__ import main; main(['--help']); main(['ui', '--help']); "
        "import serve.gateway.app, hanlin.parts, hanlin.page, hanlin.user; "
        "sys.exit('gradio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode == 0
