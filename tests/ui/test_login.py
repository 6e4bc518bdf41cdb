"""The way in: hashed passwords, or a proxy's word for who has signed in; otherwise nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from serve.ui.texts import EN, ZH
from tests.ui.conftest import PASSWORD, PageProcess, serving
from tests.ui.gateway_stub import PLAIN, GatewayStub
from tests.ui.visitor import DESK, LEFT, PHONE, SIGNED_OUT, Visitor, visiting

WORD = PASSWORD


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


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("look", [DESK, PHONE], ids=["zh", "en"])
async def test_people_sign_in_and_out(
    look: Mapping[str, Any], guarded: PageProcess, browser: Browser
) -> None:
    words = ZH if look is DESK else EN
    async with (
        serving(GatewayStub(), guarded.gateway_port),
        visiting(browser, guarded.url, look) as seen,
    ):
        page = seen.page
        seen.meant += [*LEFT, SIGNED_OUT]  # a wrong word, and whatever is under way at the end
        await seen.go("?assistant=sui")
        name, word = page.get_by_label(words.user_name), page.get_by_label(words.password)
        await expect(name).to_be_focused()
        await name.fill("ada")
        await word.fill("wrong")
        await word.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text(words.wrong_password)
        await expect(name).to_have_value("ada")
        await expect(word).to_be_focused()
        await word.fill(WORD)
        await seen.button(words.sign_in).click()
        title = {"zh": "隋朝那些事儿", "en": "The Sui dynasty"}["zh" if look is DESK else "en"]
        await expect(page.locator(".hanlin-about h2").first).to_have_text(title)
        await seen.send("你是谁？")
        await seen.whole(PLAIN)
        await expect(seen.button(words.like)).to_have_count(0)  # feedback is off by default
        await expect(page.locator(".hanlin-kept")).to_have_count(0)
        await seen.reload()
        await seen.whole(PLAIN)
        await page.get_by_role("link", name=words.leave).click()
        await expect(name).to_be_visible()
        assert await page.evaluate("sessionStorage.length") == 0


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_who_signs_in_next_does_not_find_what_another_said(
    guarded: PageProcess, browser: Browser
) -> None:
    async with (
        serving(GatewayStub(), guarded.gateway_port),
        visiting(browser, guarded.url, DESK) as seen,
    ):
        seen.meant += [*LEFT, SIGNED_OUT]  # what is under way when the cookie goes
        await _enters(seen, "ada")
        await seen.send("阿达的话")
        await seen.whole(PLAIN)
        await seen.page.context.clear_cookies()  # signed in no longer, without having left
        await _enters(seen, "bob")
        await expect(seen.page.locator("#chat .example").first).to_be_visible()
        await expect(seen.answer).to_have_count(0)
        await seen.send("鲍勃的话")
        await seen.whole(PLAIN)
        await seen.reload()
        await expect(seen.page.locator("#chat .user.message")).to_have_text("鲍勃的话")
        assert "阿达的话" not in await seen.page.evaluate("JSON.stringify({...sessionStorage})")


async def _enters(seen: Visitor, name: str) -> None:
    await seen.go("?assistant=sui")
    await seen.page.get_by_label("用户名").fill(name)
    await seen.page.get_by_label("密码").fill(WORD)
    await seen.button("登录").click()
    await expect(seen.page.locator(".hanlin-about h2").first).to_be_visible()


async def test_nothing_of_the_page_is_told_before_signing_in(guarded: PageProcess) -> None:
    async with httpx.AsyncClient(base_url=guarded.url) as client:
        front = (await client.get("/")).text
        assert "password" in front
        for inner in ("gradio", "hanlin-card", "temperature"):
            assert inner not in front
        for path in (
            *("config", "theme.css", "assets/index.js", "gradio_api/info", "login"),
            *("gradio_api/queue/data?session_hash=x", "gradio_api/file=/etc/passwd"),
        ):
            assert (await client.get(f"/{path}")).status_code == 401, path
        asked = {"fn_index": 0, "data": [], "session_hash": "x"}
        for path in ("gradio_api/queue/join", "login", "gradio_api/upload"):
            assert (await client.post(f"/{path}", json=asked)).status_code == 401, path


async def test_the_way_in_takes_little_and_gives_a_cookie_that_scripts_cannot_read(
    guarded: PageProcess,
) -> None:
    async with httpx.AsyncClient(base_url=guarded.url) as client:
        assert (await client.post("/", content=b"x" * 5000)).status_code == 413
        evil = {"name": '"><script>', "password": "x"}
        refused = await client.post("/", data=evil)
        assert refused.status_code == 401
        assert "<script>" not in refused.text
        assert not client.cookies
        right = {"name": "ada", "password": WORD}
        entered = await client.post("/?assistant=sui&prompt=%E7%A5%9D", data=right)
        assert entered.status_code == 303
        assert entered.headers["location"] == "./?assistant=sui&prompt=%E7%A5%9D"
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Secure" not in cookie
        assert (await client.get("/config")).status_code == 200
        assert (await client.get("/logout")).headers["location"] == "./"
        behind = await client.post("/", data=right, headers={"X-Forwarded-Proto": "https"})
        assert "Secure" in behind.headers["set-cookie"]
    async with httpx.AsyncClient(base_url=guarded.url) as client:
        client.cookies.update({cookie.split("=")[0]: cookie.split("=")[1].split(";")[0]})
        assert (await client.get("/config")).status_code == 401  # it was a session of ada's


def test_neither_the_help_nor_the_gateway_imports_gradio() -> None:
    probe = (
        "import sys; from hanlin.__main__ import main; main(['--help']); main(['ui', '--help']); "
        "import serve.gateway.app, hanlin.parts, hanlin.page, hanlin.user; "
        "sys.exit('gradio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode == 0
