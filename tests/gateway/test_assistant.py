"""A request is spliced, not rebuilt: what the assistant says is applied, the rest is untouched."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.gateway.errors import BadRequestError, UnknownModelError
from serve.gateway.order.assistant import Order, Rewriter
from serve.gateway.surfaces.surface import Surface
from tests.gateway.conftest import declare, house_of

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KNOWN = {
    "model",
    "messages",
    "prompt",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "n_predict",
}
USER = {"role": "user", "content": "祝姐姐生日快乐"}


def ask(body: dict[str, Any] | bytes, surface: Surface = Surface.chat, **declared: Any) -> Order:
    rewriter = Rewriter(house_of(declare(**declared)))
    return rewriter.order(surface, body if isinstance(body, bytes) else json.dumps(body).encode())


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "wishes", "messages": [USER], **fields}


def sent(body: dict[str, Any], surface: Surface = Surface.chat, **declared: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(body, surface, **declared).body)
    return found


@given(st.dictionaries(st.text().filter(lambda k: k not in KNOWN), JSON_VALUES, max_size=5))
def test_unknown_fields_survive_bit_for_bit(extra: dict[str, Any]) -> None:
    extra = {f"x-{name}": value for name, value in extra.items()}
    order = ask(chat(**extra), system="S", history="none", limits={"max_tokens": 9})
    for name, value in extra.items():
        assert msgspec.json.encode(name) + b":" + json.dumps(value).encode() in order.body


def test_numbers_and_spacing_of_unknown_fields_stay_as_written() -> None:
    body = (
        b'{"model":"wishes","messages":[{"role":"user","content":"x"}],'
        b'"odd": [1.0, 1e2,  3.10],"big":123456789012345678901234567890}'
    )
    order = ask(body, system="S")
    assert b'"odd":[1.0, 1e2,  3.10]' in order.body
    assert b"123456789012345678901234567890" in order.body


def test_the_system_prompt_comes_first() -> None:
    assert sent(chat(), system="你是谁")["messages"] == [
        {"role": "system", "content": "你是谁"},
        USER,
    ]


def test_history_none_sends_only_the_last_question() -> None:
    talk = [USER, {"role": "assistant", "content": "好"}, {"role": "user", "content": "再来"}]
    assert sent(chat(messages=talk), history="none")["messages"] == talk[2:]
    assert sent(chat(messages=talk))["messages"] == talk


@pytest.mark.parametrize(
    "own", ["short", [{"type": "text", "text": "sh"}, {"type": "text", "text": "ort"}]]
)
def test_a_client_s_system_message_is_joined_where_the_assistant_says_append(own: Any) -> None:
    talk = [{"role": "system", "content": own}, USER]
    messages = sent(chat(messages=talk), system="S", client_system="append")["messages"]
    assert messages == [{"role": "system", "content": "S\n\nshort"}, USER]


def test_a_client_s_system_message_replaces_the_assistant_s_or_is_refused() -> None:
    talk = [{"role": "system", "content": "mine"}, USER]
    assert sent(chat(messages=talk), system="S")["messages"] == talk
    with pytest.raises(BadRequestError, match="takes no other") as caught:
        ask(chat(messages=talk), system="S", client_system="refuse")
    assert caught.value.code == "system_message_refused"


def test_defaults_fill_what_the_client_left_out_and_nothing_else() -> None:
    sampling = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "seed": 7, "stop": ["<|im_end|>"]}
    body = sent(chat(temperature=0.1, top_p=None), sampling=sampling)
    assert (body["temperature"], "stop" in body) == (0.1, False)
    assert (body["top_p"], body["top_k"], body["seed"]) == (0.8, 20, 7)
    assert "max_tokens" not in body


def test_the_repetition_penalty_is_sent_by_the_names_of_both_engines() -> None:
    body = sent(chat(), sampling={"repetition_penalty": 1.1})
    assert body["repetition_penalty"] == body["repeat_penalty"] == 1.1
    body = sent(chat(repeat_penalty=1.3), sampling={"repetition_penalty": 1.1})
    assert (body["repeat_penalty"], "repetition_penalty" in body) == (1.3, False)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n_predict"])
def test_a_length_above_the_limit_is_cut_under_every_name(name: str) -> None:
    limits = {"max_tokens": 100}
    assert sent(chat(**{name: 101}), limits=limits)[name] == 100
    assert sent(chat(**{name: 99}), limits=limits)[name] == 99
    assert sent(chat(**{name: 101}))[name] == 101


def test_without_a_length_the_default_is_sent_or_else_the_limit() -> None:
    assert sent(chat(), sampling={"max_tokens": 50}, limits={"max_tokens": 100})["max_tokens"] == 50
    assert (
        sent(chat(), sampling={"max_tokens": 500}, limits={"max_tokens": 100})["max_tokens"] == 100
    )
    assert sent(chat(max_tokens=None), limits={"max_tokens": 100})["max_tokens"] == 100
    assert "max_tokens" not in sent(chat(max_completion_tokens=5), sampling={"max_tokens": 50})


def test_completions_keep_their_prompt_and_get_defaults_and_limits() -> None:
    body = {"model": "wishes", "prompt": "床前", "max_tokens": 999}
    found = sent(
        body,
        Surface.completion,
        system="S",
        sampling={"temperature": 0.5},
        limits={"max_tokens": 9},
    )
    assert found == {**body, "max_tokens": 9, "temperature": 0.5, "top_p": 1.0}


def test_an_alias_becomes_the_name_and_the_name_stays() -> None:
    assert sent(chat(model="送祝福"), aliases=["送祝福"])["model"] == "wishes"
    assert sent(chat())["model"] == "wishes"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="Did you mean 'wishes'"):
        ask(chat(model="wishs"))


@pytest.mark.parametrize(
    ("body", "sentence", "param"),
    [
        (b"", "not JSON", None),
        (b'{"model": "wishes", "messages": [', "not JSON", None),
        (b"[1,2]", "not an object", None),
        (b'{"model":"\xff"}', "not UTF-8 .byte 10", None),
        (
            b'{"model":"wishes","messages":' + b"[" * 20000 + b"]" * 20000 + b"}",
            "nested too deeply",
            None,
        ),
        (b"{}", "no 'model'", "model"),
        (b'{"model":3}', "'model' is not a string", "model"),
        (b'{"model":"wishes"}', "no 'messages'", "messages"),
        (b'{"model":"wishes","messages":"hi"}', "not a list", "messages"),
        (b'{"model":"wishes","messages":[]}', "is empty", "messages"),
        (b'{"model":"wishes","messages":[{"role":"user"},3]}', r"messages\[1\]", "messages[1]"),
        (b'{"model":"wishes","messages":[{"content":"x"}]}', r"messages\[0\]", "messages[0]"),
        (b'{"model":"wishes","messages":[{"role":"user"}],"stream":1}', "neither true", "stream"),
        (
            b'{"model":"wishes","messages":[{"role":"user"}],"max_tokens":-1}',
            "positive",
            "max_tokens",
        ),
        (
            b'{"model":"wishes","messages":[{"role":"user"}],"max_tokens":"9"}',
            "positive",
            "max_tokens",
        ),
    ],
)
def test_what_cannot_be_read_is_one_clear_sentence(
    body: bytes, sentence: str, param: str | None
) -> None:
    with pytest.raises(BadRequestError, match=sentence) as caught:
        ask(body)
    assert caught.value.param == param


def test_completions_need_a_prompt() -> None:
    with pytest.raises(BadRequestError, match="no 'prompt'"):
        ask({"model": "wishes"}, Surface.completion)


def test_a_name_that_nobody_would_mean_is_not_compared_with_those_there_are() -> None:
    with pytest.raises(UnknownModelError, match="so long a name") as caught:
        ask({"model": "ab" * 3_000_000, "messages": [{"role": "user", "content": "x"}]})
    assert len(str(caught.value)) < 100


@given(st.binary(max_size=60) | JSON_VALUES.map(lambda v: json.dumps(v).encode()))
def test_any_body_is_an_order_or_a_sentence(body: bytes) -> None:
    with pytest.raises((BadRequestError, UnknownModelError)):
        ask(body)


@given(JSON_VALUES, JSON_VALUES, JSON_VALUES)
def test_any_values_of_known_fields_are_an_order_or_a_sentence(
    messages: Any, stream: Any, most: Any
) -> None:
    try:
        order = ask(
            chat(messages=messages, stream=stream, max_tokens=most), system="S", history="none"
        )
    except BadRequestError:
        return
    assert json.loads(order.body)["model"] == "wishes"
