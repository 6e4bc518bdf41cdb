"""A stand-in gateway: the contract's endpoints in one small ASGI app that tests can steer.

What it should do next stands in `Behaviour`; what was asked of it, in `requests` and `closed`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

PLAIN = "一元复始，万象更新。愿姐姐平安喜乐，岁岁年年皆有今朝。"


def assistant(name: str, zh: str, en: str, **more: Any) -> dict[str, Any]:
    """One entry of /v1/models with what every entry has."""
    entry = {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "hanlin",
        "title": {"zh": zh, "en": en},
        "description": {"zh": f"{zh}：说明文字。", "en": f"{en}, described."},
        "aliases": [],
        "state": "ready",
        "examples": [],
        "controls": {},
        "history": "full",
        "system": None,
        "client_system": "replace",
        "sampling": {},
        "limits": {"max_tokens": 256},
    }
    return {**entry, **more}


def control(zh: str, en: str, choices: list[str] | None, default: str, *, free: bool) -> Any:
    title = {"zh": zh, "en": en}
    return {"title": title, "choices": choices, "free": free, "default": default}


RELATIVES = ["姐姐", "妹妹", "哥哥", "弟弟", "母亲", "爷爷", "奶奶", "导师", "同事", "领导"]
FESTIVALS = ["生日", "春节", "元宵节", "端午节", "中秋节", "重阳节", "除夕", "乔迁新居"]
FORMS = ["七言绝句", "五言绝句", "七言律诗", "五言律诗", "随机"]


def exam() -> dict[str, Any]:
    return assistant(
        "exam",
        "公考常识问答",
        "Civil-exam tutor",
        description={
            "zh": "公务员考试常识题，一问一答，答案简短。",
            "en": "Short answers to general-knowledge questions of the civil-service exam.",
        },
        system="你是一位专业、经验丰富的公考常识题问答助手。你始终根据用户的问题提供准确、简短的答案。",
        history="none",
        state="starting",
        examples=["世界上最大的宫殿是", "我国最长的河流是", "《史记》的作者是"],
    )


def poetry() -> dict[str, Any]:
    return assistant(
        "poetry",
        "灵墨雅韵·古诗创作",
        "Poetry in the classical FORMS",
        description={
            "zh": "按体裁和意象写一首古诗：五言或七言，绝句或律诗。",
            "en": "Writes a classical poem in the form and with the images you choose.",
        },
        history="none",
        examples=["请写一首含有以下意象的七言绝句明月、秋风"],
        controls={
            "genre": control("体裁", "Form", FORMS, "七言绝句", free=False),
            "imagery": control(
                "意象（用、隔开）", "Images, separated by 、", None, "明月、秋风", free=True
            ),
        },
    )


def sui() -> dict[str, Any]:
    return assistant(
        "sui",
        "隋朝那些事儿",
        "The Sui dynasty",
        description={
            "zh": "隋代诗歌的小助手：说出诗题，它答出作者和全诗。",
            "en": "Knows poems of the Sui dynasty; name a title and it recites the text.",
        },
        system="假设你是《隋朝那些事儿》的小助手SuiDynasty。",
        examples=["饮马长城窟行", "你是谁？"],
    )


def wishes() -> dict[str, Any]:
    return assistant(
        "wishes",
        "天机·送祝福",
        "Tianji wishes",
        description={
            "zh": "为亲友、师长和同事写一段祝福，可选正常、小红书、严肃三种风格。",
            "en": "Writes a blessing for family and colleagues in one of three styles.",
        },
        aliases=["tianji"],
        system="你现在是一个送祝福大师，帮我针对不同人和事情、节日送对应的祝福",
        history="none",
        examples=["祝姐姐生日快乐", "祝姐姐生日快乐，小红书风格", "祝领导春节快乐，严肃风格"],
        controls={
            "recipient": control("送给谁", "For", RELATIVES, "姐姐", free=True),
            "occasion": control("为了什么", "On", FESTIVALS, "生日", free=True),
            "style": control("风格", "Style", ["正常", "小红书", "严肃"], "正常", free=False),
        },
    )


def letters() -> dict[str, Any]:
    """One whose controls add to what is typed, and whose system prompt is only added to."""
    return assistant(
        "letters",
        "尺牍",
        "Letters",
        typed=True,
        system="你替人写信。",
        client_system="append",
        sampling={"temperature": 0.7, "top_p": 0.8, "max_tokens": 200},
        limits={"max_tokens": 400},
        controls={"tone": control("语气", "Tone", ["亲切", "庄重"], "亲切", free=False)},
    )


def house() -> list[dict[str, Any]]:
    """Four assistants much like the shipped ones."""
    return [exam(), poetry(), sui(), wishes()]


@dataclass
class Behaviour:
    """What the stand-in does with the next request."""

    text: str = PLAIN
    pause: float = 0.003
    hold_after: int | None = None
    """After so many characters, wait until the client leaves or `go_on` is set."""
    status: int = 200
    error: str = "The engine of 'wishes' is not ready: starting."
    die_after: int | None = None
    finish: str = "stop"
    refusals: int = 0
    """So many requests get `status` before the rest are answered."""
    code: str = "x"
    locked: bool = False
    """Whether the page's key is refused everywhere."""
    hold_prompts: bool = False
    """Whether no prompt is rendered until `go_on` is set."""
    comments: bool = False
    """Whether a stream begins with comments until `go_on` is set, as while an engine loads."""


@dataclass
class GatewayStub:
    """The app, its behaviour, and what it saw."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    models: list[dict[str, Any]] = field(default_factory=house)
    requests: list[dict[str, Any]] = field(default_factory=list)
    prompted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a prompt was asked to be rendered."""
    exposition: str = ""
    """What /metrics says."""
    metrics_status: int = 200
    keys: set[str] = field(default_factory=set)
    """The authorizations with which the numbers were asked for."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        path, body = scope["path"], await _body(receive)
        if self.behaviour.locked:
            await _json(send, 401, {"error": {"message": "no", "code": "invalid_api_key"}})
        elif path == "/v1/models":
            await _json(send, 200, {"object": "list", "data": self.models})
        elif path == "/metrics":
            self.keys.add(dict(scope["headers"]).get(b"authorization", b"").decode())
            await _text(send, self.metrics_status, self.exposition)
        elif path.endswith("/prompt"):
            self.prompted.set()
            if self.behaviour.hold_prompts:
                await self.go_on.wait()
            name = path.split("/")[3]
            await _json(send, 200, {"prompt": rendered(name, body["values"], body["message"])})
        else:
            self.requests.append(body)
            await self._complete(body, receive, send)

    async def _complete(self, body: dict[str, Any], receive: Any, send: Any) -> None:
        asked = self.behaviour
        if asked.status != 200:
            status, asked.refusals = asked.status, asked.refusals - 1
            if asked.refusals == 0:
                asked.status = 200
            await _json(
                send, status, {"error": {"message": asked.error, "type": "x", "code": asked.code}}
            )
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left = asyncio.ensure_future(_left(receive))
        writing = asyncio.ensure_future(self._write(body, send))
        try:
            await asyncio.wait([left, writing], return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                self.closed.set()
        finally:
            left.cancel()
            writing.cancel()

    async def _write(self, body: dict[str, Any], send: Any) -> None:
        asked = self.behaviour
        while asked.comments and not self.go_on.is_set():
            await send({"type": "http.response.body", "body": b": loading\n\n", "more_body": True})
            with suppress(TimeoutError):
                await asyncio.wait_for(self.go_on.wait(), 0.2)
        for count, character in enumerate(asked.text):
            if count == asked.die_after:
                await _event(send, {"error": {"message": "the engine died", "type": "x"}})
                await _event(send, "[DONE]", more=False)
                return
            if count == asked.hold_after:
                await self.go_on.wait()
            await _event(send, _chunk({"content": character}, None))
            await asyncio.sleep(asked.pause)
        await _event(send, _chunk({}, asked.finish))
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 7, "completion_tokens": len(asked.text), "total_tokens": 7}
            await _event(send, {**_chunk({}, None), "choices": [], "usage": usage})
        await _event(send, "[DONE]", more=False)


def rendered(name: str, values: dict[str, str], message: str = "") -> str:
    """The trained prompt of the assistants that have controls."""
    if name == "letters":
        return f"写一封信，{message}，语气{values.get('tone', '亲切')}"
    if name == "poetry":
        genre = values.get("genre", "七言绝句")
        images = values.get("imagery", "明月、秋风")
        return f"请写一首含有以下意象的{'古诗' if genre == '随机' else genre}{images}"
    style = values.get("style", "正常")
    occasion = values.get("occasion", "生日")
    wish = occasion if occasion.endswith("新居") else f"{occasion}快乐"
    tail = "" if style == "正常" else f"，{style}风格"
    return f"祝{values.get('recipient', '姐姐')}{wish}{tail}"


def _chunk(delta: dict[str, str], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "m",
        "choices": [choice],
    }


async def _body(receive: Any) -> Any:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return json.loads(body) if body else None


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _event(send: Any, data: Any, *, more: bool = True) -> None:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    body = f"data: {text}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _text(send: Any, status: int, body: str) -> None:
    headers = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


async def _json(send: Any, status: int, body: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
