"""The fields an answer depends on are kept, and the request to the engine rewritten accordingly."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.gateway.errors import BadRequestError
from serve.gateway.order.assistant import Order, Rewriter
from serve.gateway.order.kind import Kind
from serve.gateway.order.unsupported import IGNORED
from serve.gateway.surfaces.dialects import DIALECTS, PLAIN
from serve.gateway.surfaces.surface import Surface
from tests.gateway.conftest import declare, house_of
from tests.gateway.test_assistant import JSON_VALUES

USER = {"role": "user", "content": "x"}


def ask(
    engine: str | None = None, surface: Surface = Surface.chat, /, *, own: Any = None, **fields: Any
) -> Order:
    rewriter = Rewriter(house_of(declare(**(own or {}))), kind_of=lambda _: Kind(engine))
    body = {"model": "wishes", "messages": [USER], "prompt": "x", **fields}
    return rewriter.order(surface, json.dumps(body).encode())


def sent(order: Order) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(order.body)
    return found


STOP = {"sampling": {"stop": ["<|im_end|>"]}}


@pytest.mark.parametrize("engine", [None, "turbomind"])
def test_stops_are_the_gateways_own_where_the_engine_does_not_keep_them(engine: str | None) -> None:
    order = ask(engine, own=STOP, stop=["。", "<|im_end|>"])
    assert order.asked.stops is not None
    assert order.asked.stops.words == ("<|im_end|>", "。")
    body = sent(order)
    assert "stop" not in body
    assert (body["stream"], order.stream, order.asked.folded) == (True, False, True)
    assert body["stream_options"] == {"include_usage": True}


def test_an_engine_that_keeps_stops_is_told_them_all() -> None:
    order = ask("llamacpp", own=STOP, stop="。")
    assert order.asked.stops is None
    assert sent(order)["stop"] == ["<|im_end|>", "。"]


PLAINLY: dict[str, Any] = {
    "n": 2,
    "logprobs": False,
    "tools": [],
    "max_tokens": 5,
    "suffix": None,
    "response_format": {"type": "json_object"},
}


@pytest.mark.parametrize("surface", [Surface.chat, Surface.completion])
@pytest.mark.parametrize("fields", [{}, PLAINLY, {"stream": False, "stream_options": None}])
def test_llamacpp_is_asked_for_a_stream_of_what_is_plain(surface: Surface, fields: Any) -> None:
    order = ask("llamacpp", surface, **fields)
    assert (order.stream, order.asked.folded, order.asked.usage) == (False, True, True)
    assert sent(order)["stream"] is True
    assert sent(order)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    "fields",
    [
        {"logprobs": True},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"echo": True},
        {"return_tokens": True},
    ],
)
def test_what_the_engine_puts_together_in_its_own_way_it_does_put_together(fields: Any) -> None:
    order = ask("llamacpp", **fields)
    assert (order.stream, order.asked.folded) == (False, False)
    assert "stream" not in sent(order)


def test_what_an_engine_looks_like_is_no_reason_to_refuse() -> None:
    body: Any = {"model": "wishes", "messages": [USER]}

    def asked(kind: Kind, **fields: Any) -> Order:
        rewriter = Rewriter(house_of(declare()), kind_of=lambda _: kind)
        return rewriter.order(Surface.chat, json.dumps({**body, **fields}).encode())

    assert asked(Kind(seen="llamacpp")).asked.folded
    assert sent(asked(Kind(seen="llamacpp"), functions=[{}]))["functions"] == [{}]
    assert "stop" not in sent(asked(Kind(seen="llamacpp"), stop="x"))
    assert not asked(Kind("turbomind", seen="llamacpp")).asked.folded


def test_without_stops_a_whole_answer_is_asked_for_as_one() -> None:
    order = ask(stop=None)
    assert (order.asked.stops, order.asked.folded) == (None, False)
    assert "stream" not in sent(order)
    assert "stream_options" not in sent(order)


@pytest.mark.parametrize(
    ("fields", "sentence", "param"),
    [
        ({"stop": ""}, "empty string", "stop"),
        ({"stop": ["a", ""]}, "empty string", "stop"),
        ({"stop": list("abcde")}, "5 strings; 4 are the most", "stop"),
        ({"stop": 3}, "neither a string nor a list", "stop"),
        ({"stop": [3]}, "neither a string nor a list", "stop"),
        ({"stream": True, "stream_options": 3}, "not an object", "stream_options"),
        (
            {"stop": "a", "include_stop_str_in_output": True},
            "does not go together",
            "include_stop_str_in_output",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(fields: Any, sentence: str, param: str) -> None:
    with pytest.raises(BadRequestError, match=sentence) as caught:
        ask(None, **fields)
    assert caught.value.param == param


@pytest.mark.parametrize("engine", [None, "turbomind", "llamacpp"])
@pytest.mark.parametrize("number", ["1e400", "9" * 30, "[-1e999]", '{"a":' + "9" * 5000 + "}"])
@pytest.mark.parametrize("surface", list(Surface))
def test_a_number_that_nothing_holds_is_no_mistake_of_ours(
    engine: str | None, surface: Surface, number: str
) -> None:
    """Whatever it stands for, it is refused or goes on; every field that is looked at is here."""
    rewriter = Rewriter(house_of(declare(**STOP)), kind_of=lambda _: Kind(engine))
    asked = {"model": "wishes", "messages": [USER], "prompt": "x", "input": "x", "stream": True}
    names = IGNORED["turbomind", True].keys() | IGNORED["turbomind", False].keys() | LOOKED_AT
    for name in names:
        body = json.dumps({**asked, name: "NUMBER"}).replace('"NUMBER"', number)
        with contextlib.suppress(BadRequestError):
            rewriter.order(surface, body.encode(), translate=DIALECTS.get(surface, PLAIN).translate)


LOOKED_AT = {"prompt", "stream_options", "include_stop_str_in_output", "chat_template_kwargs"}


def test_sixteen_of_the_assistants_and_four_of_the_clients_all_hold() -> None:
    own = {"sampling": {"stop": [f"own{n}" for n in range(16)]}}
    order = ask(own=own, stop=list("abcd"))
    assert order.asked.stops is not None
    assert len(order.asked.stops.words) == 20


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, False),
        ({}, False),
        ({"include_usage": False}, False),
        ({"include_usage": True}, True),
        ({"include_usage": True, "x": [1]}, True),
    ],
)
def test_tokens_of_a_stream_are_always_asked_for(given: Any, wanted: bool) -> None:
    order = ask(stream=True, **({"stream_options": given} if given is not None else {}))
    assert sent(order)["stream_options"] == {**(given or {}), "include_usage": True}
    assert order.asked.usage is wanted


@pytest.mark.parametrize(
    ("prompt", "prompts"), [("x", 1), (["x", "y"], 2), ([1, 2], 1), ([[1], [2], [3]], 3), ([], 1)]
)
def test_how_many_answers_there_will_be(prompt: Any, prompts: int) -> None:
    order = ask(None, Surface.completion, prompt=prompt, n=2)
    assert (order.asked.prompts, order.asked.choices) == (prompts, 2 * prompts)
    assert ask(prompt=prompt).asked.choices == 1


IGNORED_FIELDS = [
    pytest.param(engine, chat, field, id=f"{engine}-{'chat' if chat else 'text'}-{field}")
    for (engine, chat), table in IGNORED.items()
    for field in table
]


@pytest.mark.parametrize(("engine", "chat", "field"), IGNORED_FIELDS)
def test_what_an_engine_ignores_is_refused_or_dropped(engine: str, chat: bool, field: str) -> None:
    surface = Surface.chat if chat else Surface.completion
    given = {field: 7}
    with pytest.raises(BadRequestError, match=f"{engine}. would ignore '{field}'") as caught:
        ask(engine, surface, **given)
    assert (caught.value.param, caught.value.code) == (field, "unsupported_parameter")
    assert field not in sent(ask(engine, surface, own={"unsupported": "drop"}, **given))
    assert sent(ask(None, surface, **given))[field] == 7  # nobody knows what is there
    for nothing in (None, *IGNORED[engine, chat][field]):
        assert field in sent(ask(engine, surface, **{field: nothing}))


def test_what_engines_do_heed_passes() -> None:
    heeded = {
        "n": 2,
        "logprobs": True,
        "response_format": {"type": "json_object"},
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "seed": 1,
        "user": "u",
        "x-unknown": {"a": 1},
    }
    for engine in ("turbomind", "llamacpp"):
        assert heeded.items() <= sent(ask(engine, **heeded)).items()


def test_a_length_by_llama_cpps_name_binds_every_engine() -> None:
    assert sent(ask("turbomind", n_predict=5))["max_tokens"] == 5


@given(
    st.dictionaries(
        st.sampled_from(
            ["stop", "n", "stream", "stream_options", "prompt", "messages", "logit_bias", "suffix"]
        ),
        JSON_VALUES,
    ),
    st.sampled_from([None, "turbomind", "llamacpp"]),
    st.sampled_from(Surface),
)
def test_any_values_are_an_order_or_a_sentence(
    fields: Any, engine: str | None, surface: Surface
) -> None:
    try:
        order = ask(engine, surface, own=STOP, **fields)
    except BadRequestError:
        return
    assert sent(order)["model"] == "wishes"
