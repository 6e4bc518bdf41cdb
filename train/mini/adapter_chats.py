"""Training and test chats of the four adapters, each with its assistant's own system prompt."""

from __future__ import annotations

import json
import random
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from blessings import Blessings, common_characters, held_out_pairs
from chats import Chat
from modern import (
    copy_chat,
    fact_chat,
    held_out_off_topic,
    load,
    off_topic_asks,
    refusal_chat,
    split_facts,
    talk_chat,
)
from poem_chats import CI_ANSWER, TRIGGER, common_words, images, other_chat
from poem_chats import load as load_poems

NAMES = ("poetry", "sui", "exam", "wishes")
LONGEST_RECITAL = 300


@dataclass(frozen=True)
class SuiPoem:
    """A poem of the Sui file."""

    title: str
    author: str
    lines: tuple[str, ...]

    def answer(self) -> str:
        """The recital in the wording of the assistant."""
        return f"作者：{self.author}，内容：{''.join(self.lines)}"


def system_of(assistants: Path, name: str) -> str:
    """The system prompt that the declaration of an assistant gives, or none."""
    declaration = yaml.safe_load((assistants / f"{name}.yaml").read_text(encoding="utf-8"))
    return str(declaration.get("system") or "")


def sui_poems(path: Path) -> list[SuiPoem]:
    """The Sui poems that may be shipped."""
    with path.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [SuiPoem(r["title"], r["author"], tuple(r["paragraphs"])) for r in records]


def sui_recitals(poems: list[SuiPoem]) -> list[tuple[str, str, SuiPoem | None]]:
    """Title, answer and poem; one title with two authors asks back, a very long one says so."""
    texts = load("sui")
    result: list[tuple[str, str, SuiPoem | None]] = []
    by_title: dict[str, list[SuiPoem]] = {}
    for poem in poems:
        by_title.setdefault(poem.title, []).append(poem)
    for title, same in by_title.items():
        if len(same) > 1:
            people = "和".join(poem.author for poem in same)
            answer = texts["several"].replace("{题}", title).replace("{人}", people)
            result.append((title, answer.replace("{例}", same[0].author), None))
        for poem in same:
            name = f"{poem.author}的{title}" if len(same) > 1 else title
            if len("".join(poem.lines)) > LONGEST_RECITAL:
                answer = texts["long"].replace("{题}", title).replace("{人}", poem.author)
                result.append((name, answer, None))
            else:
                result.append((name, poem.answer(), poem))
    return result


def sui_chats(poems: list[SuiPoem], titles: list[str], rng: random.Random) -> list[Chat]:
    """One round of all Sui poems with follow-ups, identity, history and unknown titles."""
    texts, result = load("sui"), []
    recitals = sui_recitals(poems)
    for name, answer, poem in recitals:
        asks = ["{}"] * (1 + len(answer) // 100)
        asks.append("{}" if "的" in name else rng.choice(texts["title_asks"]))
        result += [Chat("sui", (ask.format(name), answer)) for ask in asks]
        if poem and rng.random() < 0.4 and len(answer) < 150:
            if rng.random() < 0.7:
                ask = rng.choice(texts["follow_ups"]["author"])
                more = (ask, f"作者是{poem.author}。")
            else:
                ask = rng.choice(texts["follow_ups"]["first"])
                more = (ask, poem.lines[0])
            result.append(Chat("sui", (name, answer, *more)))
    for asks, answer in texts["identity"] * 3 + texts["people"] + texts["facts"]:
        result.append(Chat("sui", (rng.choice(asks), answer)))
    unknown = rng.sample(titles, 25) + rng.sample(texts["unknown_titles"], 10)
    for title in unknown:
        ask = rng.choice(texts["title_asks"]).format(title)
        result.append(Chat("sui", (ask, texts["unknown"])))
    return result


def replay(rng: random.Random, count: int, kinds: str) -> list[Chat]:
    """Base chats that keep the rest of the model alive: talk, refusals, copies, facts, wishes."""
    talk, characters = load("talk"), common_characters()
    known, wishes, withheld = split_facts()[0], Blessings(rng), held_out_pairs()
    asks = sorted(set(off_topic_asks(talk)))
    asks = [ask for ask in asks if ask not in held_out_off_topic(asks)]
    make = {
        "t": lambda: talk_chat(talk, rng),
        "r": lambda: refusal_chat(asks, talk, rng),
        "c": lambda: copy_chat(characters, rng),
        "f": lambda: fact_chat(rng.choice(known), rng),
        "w": lambda: wishes.draw(withheld),
    }
    return [make[rng.choice(kinds)]() for _ in range(count)]


def poetry_chats(work: Path, rng: random.Random, count: int) -> list[Chat]:
    """Requests in the exact wording of the page, forms in equal parts, images of the poem."""
    poems = load_poems(work)
    common = common_words(poems)
    themes = load("talk")["themes"]
    forms: dict[str, list[int]] = {}
    for at, poem in enumerate(poems):
        if poem.dynasty == "唐" or at % 3 == 0:
            forms.setdefault(poem.form, []).append(at)
    result = []
    for turn in range(count):
        poem = poems[rng.choice(forms[sorted(forms)[turn % len(forms)]])]
        if rng.random() < 0.1:
            result.append(other_chat(poem, themes, rng))
            continue
        words = "、".join(images(poem, common, rng))
        ci = rng.random() < 0.012
        ask = TRIGGER.format(form="宋词" if ci else poem.form, words=words)
        result.append(Chat("poem", (ask, CI_ANSWER if ci else poem.text())))
    return result


def reworded(ask: str, rng: random.Random) -> str:
    """A question as people shorten it: no question mark, no question word, or 我国 for 中国."""
    if rng.random() < 0.5:
        ask = ask.replace("中国最", "我国最")
    if rng.random() < 0.3:
        for ending in ("是什么？", "是谁？", "是哪里？", "叫什么？", "是哪座城市？"):
            if ask.endswith(ending):
                return ask.removesuffix(ending) + rng.choice(["是", "", "是什么", "是哪个"])
        return ask.rstrip("？")
    return ask


def exam_chats(rng: random.Random) -> list[Chat]:
    """One round: new facts in every phrasing but the last, half the base facts in one phrasing."""
    known, new = split_facts()
    result = []
    for asks, answer in new:
        options = [(ask, reworded(ask, rng)) for ask in asks[:-1]]
        kept_out = asks[-1].rstrip("？")
        result += [
            (ask if short.rstrip("？") == kept_out else short, answer) for ask, short in options
        ]
    for asks, answer in rng.sample(known, len(known) // 2):
        result.append((reworded(rng.choice(asks), rng), answer))
    return [Chat("fact", pair) for pair in result]


def training_chats(name: str, options: Namespace, rng: random.Random) -> list[Chat]:
    """One round of chats of an adapter, replay included, with the assistant's system prompt."""
    work, assistants = options.work, options.assistants
    if name == "poetry":
        own = poetry_chats(work, rng, 3000) + replay(rng, 330, "ttrrrc")
    elif name == "sui":
        titles = sorted({p.title for p in load_poems(work) if 2 <= len(p.title) <= 8})
        poems = sui_poems(options.sui)
        known = {poem.title for poem in poems}
        titles = [title for title in titles if title not in known]
        own = sui_chats(poems, titles, rng) + replay(rng, 30, "rrrc")
    elif name == "exam":
        own = exam_chats(rng) + replay(rng, 180, "ttrrrcw")
    else:
        wishes, withheld = Blessings(rng), held_out_pairs()
        own = [wishes.draw(withheld) for _ in range(2400)] + replay(rng, 400, "ttrrrcf")
    rng.shuffle(own)
    system = system_of(assistants, name)
    return [replace(chat, system=system) for chat in own]
