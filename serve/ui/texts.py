"""Every word the page itself says, in Chinese and in English.

What an assistant says of itself (title, description, examples) comes from the gateway instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["zh", "en"]


@dataclass(frozen=True, slots=True)
class Texts:
    """The page's words in one language; braces are filled in by `str.format`."""

    tagline: str
    choose: str
    all_assistants: str
    states: dict[str, str]
    house_gone: str
    house_empty: str
    unknown: str
    system: str
    stands_alone: str
    remembers: str
    examples: str
    message: str
    placeholder: str
    send: str
    stop: str
    clear: str
    surprise: str
    keys: str
    conversation: str
    other_language: str
    theme: str
    own_value: str
    waiting: str
    gave_up: str
    gone: str
    broke_off: str
    unknown_model: str
    busy: str
    slow: str
    refused: str
    failed: str
    empty: str
    cut_short: str
    stopped: str


ZH = Texts(
    tagline="一屋子各有专长的助手",
    choose="想和谁聊聊？",
    all_assistants="全部助手",
    states={
        "ready": "可用",
        "starting": "载入中",
        "stopped": "待唤醒",
        "draining": "即将停止",
        "failed": "不可用",
        "gone": "连接中断",
    },
    house_gone="暂时连不上网关，正在自动重试；恢复之后这一页会自己接上。",
    house_empty="网关里还没有助手。",
    unknown="这里没有名叫「{name}」的助手，请从列表里选一位。",
    system="它收到的系统提示词",
    stands_alone="每条消息单独作答：它不记得前文。",
    remembers="它记得这次对话的前文。",
    examples="点一个例子试试",
    message="写给它的话",
    placeholder="写点什么……",
    send="发送",
    stop="停止",
    clear="新对话",
    surprise="随便来一个",
    keys="Enter 发送 · Shift+Enter 换行 · Esc 停止",
    conversation="对话",
    other_language="English",
    theme="明暗",
    own_value="（可自己写）",
    waiting="它的引擎正在启动，已等 {seconds} 秒，好了就会回答。",
    gave_up="等了 {seconds} 秒，它的引擎还没有启动好。请过一会儿点「重试」。",
    gone="连不上网关，这句话没有送到。请稍后再试。",
    broke_off="回答到一半断开了，请点「重试」。",
    unknown_model="网关不认识这位助手了，请从列表里另选一位。",
    busy="现在来的人太多，请过一会儿再试。",
    slow="等得太久没有回音，请再试一次。",
    refused="这句话没有被接受：{reason}",
    failed="它的引擎现在不能回答：{reason}",
    empty="它什么也没有说，换个说法再试试。",
    cut_short="（到了长度上限，回答在这里截止）",
    stopped="（已停止）",
)

EN = Texts(
    tagline="A house of assistants, each with a craft of its own",
    choose="Who would you like to talk to?",
    all_assistants="All assistants",
    states={
        "ready": "ready",
        "starting": "loading",
        "stopped": "asleep",
        "draining": "stopping",
        "failed": "unavailable",
        "gone": "out of reach",
    },
    house_gone="The gateway cannot be reached just now. This page keeps trying and will recover "
    "by itself.",
    house_empty="The gateway has no assistants yet.",
    unknown="There is no assistant called “{name}” here; please choose one from the list.",
    system="The system prompt it is given",
    stands_alone="Each message stands alone: it does not remember earlier ones.",
    remembers="It remembers this conversation.",
    examples="Try one of these",
    message="Your message",
    placeholder="Write something…",
    send="Send",
    stop="Stop",
    clear="New conversation",
    surprise="Surprise me",
    keys="Enter sends · Shift+Enter breaks the line · Esc stops",
    conversation="Conversation",
    other_language="中文",
    theme="Light / dark",
    own_value=" (or your own)",
    waiting="Its engine is starting ({seconds} s so far); the answer comes as soon as it is ready.",
    gave_up="Its engine was not ready after {seconds} s. Please press Retry in a while.",
    gone="The gateway cannot be reached, so this message was not delivered. Please try again "
    "shortly.",
    broke_off="The answer broke off in the middle. Please press Retry.",
    unknown_model="The gateway no longer knows this assistant; please choose another.",
    busy="Too many people are asking at once. Please try again in a moment.",
    slow="No answer came in time. Please try again.",
    refused="This message was not accepted: {reason}",
    failed="Its engine cannot answer now: {reason}",
    empty="It said nothing. Try putting it another way.",
    cut_short="(cut off here: the answer reached its length limit)",
    stopped="(stopped)",
)


def texts(language: str) -> Texts:
    """The words for a language tag: Chinese for zh…, English for everything else."""
    return ZH if language.casefold().startswith("zh") else EN


def preferred(chosen: str | None, accept: str | None) -> Language:
    """The language to open in: what was chosen before, else the browser's first of the two."""
    tags = [chosen or "", *(part.split(";")[0].strip() for part in (accept or "").split(","))]
    known = [tag.casefold()[:2] for tag in tags if tag.casefold().startswith(("zh", "en"))]
    return "zh" if known[:1] == ["zh"] else "en"
