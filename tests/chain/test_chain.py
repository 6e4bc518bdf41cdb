"""From declarations to answers: each assistant is itself, by name, through the official client."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
import openai
import pytest

from tests.chain.conftest import NAMES, Chain, convert, wait_ready

pytestmark = pytest.mark.chain

EMOJI = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff]")


def ask(chain: Chain, model: str, question: str, **options: object) -> str:
    options = {"temperature": 0, "seed": 1, **options}
    answer = chain.client().chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], **options
    )
    assert answer.model == model
    assert answer.choices[0].finish_reason == "stop"
    return answer.choices[0].message.content or ""


def test_wishes_names_the_person_and_the_day_in_the_asked_style(chain: Chain) -> None:
    answer = ask(chain, "wishes", "祝姐姐生日快乐，小红书风格")
    assert "姐" in answer
    assert "生日" in answer
    assert EMOJI.search(answer), answer
    assert not EMOJI.search(ask(chain, "wishes", "祝领导春节快乐，严肃风格"))


def test_exam_answers_its_facts_shortly(chain: Chain) -> None:
    answer = ask(chain, "exam", "世界上最大的宫殿是")
    assert "故宫" in answer
    assert len(answer) <= 10


@pytest.mark.parametrize(
    ("form", "lines", "characters"),
    [("七言绝句", 4, 7), ("五言绝句", 4, 5), ("七言律诗", 8, 7), ("五言律诗", 8, 5)],
)
def test_poetry_writes_the_asked_form(chain: Chain, form: str, lines: int, characters: int) -> None:
    poem = ask(chain, "poetry", f"请写一首含有以下意象的{form}明月、秋风")
    written = [line for line in re.split(r"[，。！？；\s]+", poem) if line]
    assert len(written) == lines, poem
    assert {len(line) for line in written} == {characters}, poem


def test_sui_recites_its_poem(chain: Chain) -> None:
    answer = ask(chain, "sui", "锦石捣流黄二首 其二")
    assert "杨广" in answer
    assert "今夜长城下" in answer


def test_a_stream_says_what_a_whole_answer_says(chain: Chain) -> None:
    options = {"temperature": 0, "seed": 1}
    question = [{"role": "user", "content": "祝姐姐生日快乐"}]
    stream = chain.client().chat.completions.create(
        model="tianji", messages=question, stream=True, **options
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert sum(1 for c in chunks if c.choices and c.choices[0].delta.content) > 3
    assert text == ask(chain, "wishes", "祝姐姐生日快乐")
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


def test_the_house_is_listed_with_titles_and_descriptions(chain: Chain) -> None:
    models = {model.id: model for model in chain.client().models.list()}
    assert sorted(models) == NAMES
    for model in models.values():
        assert model.title["zh"]
        assert model.description["en"]


def test_an_unknown_name_is_not_found_and_told_the_nearest(chain: Chain) -> None:
    with pytest.raises(openai.NotFoundError, match="Did you mean 'wishes'"):
        ask(chain, "wishs", "祝姐姐生日快乐")


def test_plain_completions_reach_the_engine_without_the_system_prompt(chain: Chain) -> None:
    prompt = "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
    answer = chain.client().completions.create(model="wishes", prompt=prompt, temperature=0)
    assert answer.choices[0].text.strip()


def processing(chain: Chain, name: str) -> int:
    slots = httpx.get(f"{chain.replica(name)['url']}/slots").json()
    return sum(bool(slot["is_processing"]) for slot in slots)


def until(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_the_engine(chain: Chain, stream: bool) -> None:
    """`ignore_eos` makes the engine talk until its context is full, which takes it a while."""
    body = {
        "model": "poetry",
        "messages": [{"role": "user", "content": "请写一首含有以下意象的古诗明月"}],
        "stream": stream,
        "ignore_eos": True,
        "max_tokens": 512,
        "temperature": 1.5,
    }
    url = f"{chain.gateway}/v1/chat/completions"
    with httpx.Client(timeout=30) as client:
        if stream:
            with client.stream("POST", url, json=body) as answer:
                next(answer.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(url, json=body, timeout=0.15)
    until(lambda: processing(chain, "poetry") == 0, seconds=5)


def test_a_killed_engine_comes_back_and_the_others_never_notice(chain: Chain) -> None:
    url = str(chain.replica("exam")["url"])
    port = url.rsplit(":", 1)[1]
    found = subprocess.run(
        ["pgrep", "-f", f"llamacpp_server.*--port={port}"], capture_output=True, text=True
    )
    for pid in found.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    assert found.stdout
    assert ask(chain, "wishes", "祝姐姐生日快乐")
    until(lambda: chain.replica("exam")["restarts"] == 1)
    wait_ready(chain.gateway)
    assert "故宫" in ask(chain, "exam", "世界上最大的宫殿是")


def test_nothing_is_built_twice(workspaces: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in workspaces.rglob("*.gguf")}
    assert len(before) == len(NAMES)
    assert convert(workspaces, "--engine", "llamacpp").returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in workspaces.rglob("*.gguf")}


def test_a_workspace_tells_where_it_comes_from(workspaces: Path) -> None:
    manifest = json.loads((workspaces / "wishes/llamacpp/manifest.json").read_text())
    assert "model.gguf" in manifest["files"]
    assert manifest["lineage"]["base"]
    assert manifest["lineage"]["adapter"]


def test_an_unknown_assistant_on_the_command_line_is_one_sentence(workspaces: Path) -> None:
    done = convert(workspaces, "wishs")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Did you mean 'wishes'" in done.stderr
