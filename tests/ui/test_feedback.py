"""Thumbs and a word, one line each, whoever else is writing; and nothing where it is not wanted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.async_api import expect

from assistants import HanlinError
from serve.ui.conversation import answered, judged
from serve.ui.feedback import Feedback, Judgement, judgement_id
from tests.ui.conftest import ROOT
from tests.ui.gateway_stub import PLAIN, GatewayStub
from tests.ui.visitor import Visitor

DIALOGUE = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答" * 3000}]

WRITER = """
import sys
from pathlib import Path
from serve.ui.feedback import Feedback, Judgement
dialogue = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答" * 3000}]
for number in range(50):
    Feedback(Path(sys.argv[1])).keep(
        Judgement(f"{sys.argv[2]}-{number}", "a", "up", dialogue, {}))
"""


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def judgement(name: str = "1", verdict: str = "up") -> Judgement:
    return Judgement(name, "wishes", verdict, DIALOGUE, {"temperature": 0.2})


def test_many_who_write_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "new" / "feedback.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(file), name], cwd=ROOT)
        for name in ("a", "b", "c")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    written = lines(file)
    assert len({line["id"] for line in written}) == 150
    assert all(line["messages"] == DIALOGUE for line in written)


def test_a_line_that_was_cut_off_does_not_swallow_the_next(tmp_path: Path) -> None:
    file = tmp_path / "feedback.jsonl"
    file.write_text('{"id": "torn', encoding="utf-8")
    Feedback(file).keep(judgement())
    first, second = file.read_text(encoding="utf-8").splitlines()
    assert first == '{"id": "torn'
    assert json.loads(second)["id"] == "1"
    assert file.stat().st_mode & 0o777 == 0o644  # as its owner made it


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    Feedback(tmp_path / "f").keep(judgement())
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


def test_the_last_line_of_an_answer_counts(tmp_path: Path) -> None:
    file = tmp_path / "f"
    keeping = Feedback(file)
    keeping.keep(judgement("1", "up"))
    keeping.keep(judgement("2", "down"))
    keeping.keep(judgement("1", "up").with_word(" 很好 "))
    keeping.keep(judgement("3", "up"))
    keeping.keep(judgement("3", "none"))
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    last = {line["id"]: (line["verdict"], line["word"]) for line in lines}
    assert last == {"1": ("up", "很好"), "2": ("down", ""), "3": ("none", "")}


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HanlinError, match=r"Feedback cannot be written to .*file/in: File exists"):
        Feedback(tmp_path / "file" / "in").require_writable()


def test_an_answer_is_one_answer_on_one_page() -> None:
    assert judgement_id("page", DIALOGUE) == judgement_id("page", DIALOGUE)
    assert judgement_id("page", DIALOGUE) != judgement_id("other", DIALOGUE)


def test_what_is_judged_is_the_answer_and_not_what_the_page_said() -> None:
    chat = [{"role": "user", "content": "问"}, *answered("答", "坏了")]
    assert judged(chat, 1) == (chat[:1], "答")
    assert judged(chat, 2) == (chat[:1], "答")
    assert judged([*chat[:1], *answered("", "坏了")], 1) is None
    assert judged([], 0) is None


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_thumbs_and_a_word_are_kept_as_a_dialogue_to_train_on(
    anyone: Visitor, gateway: GatewayStub, feedback_file: Path
) -> None:
    page = anyone.page
    zh = (page.viewport_size or {})["width"] == 1280
    before = len(lines(feedback_file))
    await anyone.go("?assistant=wishes")
    await expect(page.locator(".hanlin-kept")).to_contain_text(
        "保存在这台服务器上" if zh else "kept on this server"
    )
    await anyone.send("祝姐姐生日快乐")
    await anyone.whole(PLAIN)
    await anyone.button("赞" if zh else "Like").click()
    await expect(page.locator("#why")).to_be_visible()
    await page.locator("#word input, #word textarea").fill("很贴心")
    await page.locator("#word input, #word textarea").press("Enter")
    await expect(page.locator("#why")).to_be_hidden()
    down = page.get_by_role("button", name=re.compile("踩|dislike", re.IGNORECASE))
    await down.click()
    await expect(page.locator("#why")).to_be_visible()
    await down.click()
    await expect(page.locator("#why")).to_be_hidden()
    kept = lines(feedback_file)[before:]
    assert [(line["verdict"], line["word"]) for line in kept] == [
        ("up", ""), ("up", "很贴心"), ("down", ""), ("none", ""),
    ]  # fmt: skip
    assert len({line["id"] for line in kept}) == 1
    system = gateway.models[3]["system"]
    assert kept[0]["messages"] == [
        {"role": "system", "content": system},
        {"role": "user", "content": "祝姐姐生日快乐"},
        {"role": "assistant", "content": PLAIN},
    ]


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_the_thumbs_stay_in_sight_when_a_word_is_asked_for(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    gateway.behaviour.text = PLAIN * 30
    thumbs = anyone.page.locator("#chat .message-buttons-left button")
    await anyone.go("?assistant=wishes")
    await anyone.send("祝姐姐生日快乐")
    await anyone.whole(PLAIN * 30)
    await thumbs.last.click()
    await expect(anyone.page.locator("#why")).to_be_visible()
    await expect(thumbs.last).to_be_in_viewport(ratio=1)
