"""What an engine is sent: the assistant's system prompt, its history rule, the trained phrasing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistants import Assistant, load_house
from assistants.prompt import SystemRefusedError, messages, render, select
from assistants.schema import ClientSystem, Control, History, Model
from assistants.weights import Hub, Local, Wheel, parse, places

ROLES = st.lists(st.sampled_from(["system", "developer", "user", "assistant", "tool"]), max_size=9)


def declared(**given_values: object) -> Assistant:
    values = {
        "name": "a",
        "title": "A",
        "description": "A",
        "model": Model(base=Local("hanlin-mini")),
        **given_values,
    }
    return Assistant.model_validate(values)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_history_none_sends_the_system_prompt_and_the_last_question() -> None:
    assistant = declared(system="S", history="none")
    talk = [turn("user", "1"), turn("assistant", "2"), turn("user", "3")]
    assert messages(assistant, talk) == [turn("system", "S"), turn("user", "3")]


def test_history_none_keeps_what_follows_the_last_question() -> None:
    """A client may end with the beginning of the answer, or with a tool's result."""
    assistant = declared(history="none")
    talk = [turn("user", "1"), turn("user", "2"), turn("assistant", "3")]
    assert messages(assistant, talk) == talk[1:]


def test_history_full_sends_all() -> None:
    talk = [turn("user", "1"), turn("assistant", "2"), turn("user", "3")]
    assert messages(declared(system="S"), talk) == [turn("system", "S"), *talk]
    assert messages(declared(), talk) == talk


@pytest.mark.parametrize(
    ("rule", "sent"),
    [("replace", "client"), ("append", "own\n\nclient")],
)
def test_a_system_message_of_the_clients_own(rule: str, sent: str) -> None:
    assistant = declared(system="own", client_system=rule)
    talk = [turn("system", "client"), turn("user", "q")]
    assert messages(assistant, talk) == [turn("system", sent), turn("user", "q")]


def test_a_system_message_refused() -> None:
    assistant = declared(system="own", client_system="refuse")
    with pytest.raises(SystemRefusedError, match="'a'"):
        messages(assistant, [turn("developer", "client"), turn("user", "q")])


@given(ROLES, st.sampled_from(History), st.sampled_from(ClientSystem), st.none() | st.just("S"))
def test_no_message_is_doubled_invented_or_put_out_of_order(
    roles: list[str], history: History, rule: ClientSystem, system: str | None
) -> None:
    assistant = declared(history=history, client_system=rule, system=system)
    try:
        choice = select(assistant, roles)
    except SystemRefusedError:
        assert {"system", "developer"} & set(roles)
        return
    assert list(choice.kept) == sorted(set(choice.kept))
    assert not set(choice.kept) & set(choice.joins)
    assert set(choice.kept) | set(choice.joins) <= set(range(len(roles)))
    assert choice.own_system in (None, system)
    if "user" in roles:
        last = max(i for i, role in enumerate(roles) if role == "user")
        assert last in choice.kept


def test_the_controls_of_the_shipped_assistants_render_the_trained_phrasings(root: Path) -> None:
    house = load_house(root / "assistants")
    wishes = {"recipient": "姐姐", "occasion": "生日", "style": "小红书"}
    assert render(house.get("wishes"), wishes) == "祝姐姐生日快乐，小红书风格"
    own = {"recipient": " 我的导师王老师 ", "occasion": "工作升职", "style": "正常"}
    assert render(house.get("wishes"), own) == "祝我的导师王老师工作升职"
    poem = {"genre": "七言绝句", "imagery": "明月、秋风"}
    assert render(house.get("poetry"), poem) == "请写一首含有以下意象的七言绝句明月、秋风"
    assert render(house.get("exam"), {}, "冰岛的首都是") == "冰岛的首都是"


def test_a_control_without_a_template_follows_what_was_typed() -> None:
    style = Control.model_validate({"choices": {"plain": "", "stern": ", sternly"}})
    assistant = declared(controls={"style": style})
    assert render(assistant, {"style": "stern"}, "Speak") == "Speak, sternly"
    with pytest.raises(ValueError, match="'loud' is not among plain, stern"):
        render(assistant, {"style": "loud"}, "Speak")


def test_whether_a_prompt_takes_what_is_typed() -> None:
    control = Control(free=True)
    assert declared().typed
    assert declared(controls={"x": control}).typed
    assert declared(controls={"x": control}, prompt="About {x}: {message}").typed
    assert not declared(controls={"x": control}, prompt="About {x}").typed


def test_braces_in_what_was_typed_are_only_text() -> None:
    assistant = declared(controls={"x": Control(free=True)}, prompt="{message}{x}")
    assert render(assistant, {"x": "{message}"}, "{x}") == "{x}{message}"


def test_references_to_weights_read_and_write_alike() -> None:
    sha = "a" * 64
    for text, value in {
        "hf://internlm/internlm2_5-7b-chat@main": Hub("hf", "internlm/internlm2_5-7b-chat", "main"),
        "modelscope://Qwen/Qwen3-8B@v1": Hub("modelscope", "Qwen/Qwen3-8B", "v1"),
        f"pypi://llm==0.1.2/llm/x.gguf#sha256={sha}": Wheel("llm", "0.1.2", "llm/x.gguf", sha),
        "/srv/models/a": Local("/srv/models/a"),
    }.items():
        assert parse(text) == value
        assert str(value) == text
        assert dataclasses.is_dataclass(value)
    written_large = parse(f"pypi://llm==0.1.2/llm/x.gguf#sha256={sha.upper()}")
    assert str(written_large).endswith(sha)  # compared with a digest as hashlib writes it


def test_a_relative_path_is_looked_for_beside_the_declaration_first(tmp_path: Path) -> None:
    folder = tmp_path / "assistants"
    assert places(Local("adapters/x"), folder)[:2] == [
        folder / "adapters/x",
        tmp_path / "adapters/x",
    ]
    assert places(Local("hanlin-mini"), folder)[-1].joinpath("config.json").is_file()
    assert len(places(Local("adapters/x"), folder)) == 2  # only a bare name is an embedded base
    assert places(Local("/abs"), folder) == [Path("/abs")]
