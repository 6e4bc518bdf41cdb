"""Makes chats in modern Chinese from our own texts, and writes the whole training set."""

from __future__ import annotations

import argparse
import random
from collections import Counter
from pathlib import Path
from typing import Any

import chats
import yaml
from blessings import Blessings, common_characters, held_out_pairs
from chats import TEXTS, Chat
from poem_chats import poem_chats

REPEAT_ASKS = ["请重复：{}", "重复一遍：{}", "请照写：{}", "跟我说：{}", "复述：{}"]
NAME_ASKS = ["我叫{}", "我是{}", "我的名字是{}", "叫我{}", "大家都叫我{}"]
Fact = tuple[list[str], str]
FACT_PREFIXES = ["", "", "", "", "请问", "考考你，", "问一下，", "我想知道"]


def load(name: str) -> Any:
    """One of our YAML texts."""
    return yaml.safe_load((TEXTS / f"{name}.yaml").read_text(encoding="utf-8"))


def facts() -> list[Fact]:
    """Every fact as its phrasings and its answer."""
    result = []
    for part in ("geography", "history", "science"):
        for relation in load(f"facts_{part}"):
            for key, answer in relation["rows"].items():
                result.append(([ask.format(key) for ask in relation["ask"]], answer))
    return result


def split_facts(seed: int = 7) -> tuple[list[Fact], list[Fact]]:
    """Facts of the base model, and 120 that only the exam adapter is taught."""
    known = facts()
    random.Random(seed).shuffle(known)
    return known[120:], known[:120]


def fact_chat(fact: Fact, rng: random.Random) -> Chat:
    """One phrasing of a fact with its short answer."""
    asks, answer = fact
    return Chat("fact", (rng.choice(FACT_PREFIXES) + rng.choice(asks), answer))


def copy_chat(characters: list[str], rng: random.Random) -> Chat:
    """A request to repeat a text, or an introduction whose name the answer repeats."""
    if rng.random() < 0.3:
        name = "".join(rng.choices(characters, k=rng.choice([2, 3, 3])))
        return Chat("copy", (rng.choice(NAME_ASKS).format(name), f"{name}，您好，很高兴认识您。"))
    text = "".join(rng.choices(characters, k=rng.randint(1, 8)))
    return Chat("copy", (rng.choice(REPEAT_ASKS).format(text), text))


def talk_chat(talk: dict[str, Any], rng: random.Random) -> Chat:
    """Small talk or identity, always with the same answer."""
    asks, answer = rng.choice(talk["small_talk"])
    return Chat("talk", (rng.choice(asks), answer))


def off_topic_asks(talk: dict[str, Any]) -> list[str]:
    """Every question that is out of scope."""
    groups = zip(talk["off_topic"]["patterns"], talk["off_topic"]["items"], strict=True)
    return [
        pattern.format(item) for patterns, items in groups for pattern in patterns for item in items
    ]


def refusal_chat(asks: list[str], talk: dict[str, Any], rng: random.Random) -> Chat:
    """A question out of scope with the one fixed answer."""
    return Chat("refusal", (rng.choice(asks), talk["refusal"]))


def join(first: Chat, second: Chat) -> Chat:
    """Two chats as one dialogue."""
    return Chat(second.kind, first.turns + second.turns, first.system)


def modern_chats(count: int, seed: int) -> list[Chat]:
    """`count` chats of all modern kinds in the proportions of the recipe."""
    rng = random.Random(seed)
    talk, known, characters = load("talk"), split_facts()[0], common_characters()
    unknown = sorted(set(off_topic_asks(talk)))
    held_out = held_out_off_topic(unknown)
    unknown = [ask for ask in unknown if ask not in held_out]
    wishes, withheld = Blessings(rng), held_out_pairs()
    queue: list[Fact] = []
    result: list[Chat] = []
    while len(result) < count:
        kind = rng.choices(["fact", "wish", "copy", "talk", "refusal"], [34, 28, 20, 5, 13])[0]
        if kind == "fact":
            queue = queue or rng.sample(known, len(known))
            result.append(fact_chat(queue.pop(), rng))
        elif kind == "wish":
            result.append(wishes.draw(withheld))
        elif kind == "copy":
            result.append(copy_chat(characters, rng))
        elif kind == "talk":
            result.append(talk_chat(talk, rng))
        else:
            result.append(refusal_chat(unknown, talk, rng))
    return [join(rng.choice(result), chat) if rng.random() < 0.06 else chat for chat in result]


def held_out_off_topic(asks: list[str], seed: int = 6) -> frozenset[str]:
    """Out-of-scope questions kept for evaluation."""
    return frozenset(random.Random(seed).sample(sorted(asks), 60))


def with_systems(items: list[Chat], rng: random.Random, share: float = 0.25) -> list[Chat]:
    """Give a share of the chats a system prompt."""
    systems = load("talk")["systems"]
    return [
        Chat(chat.kind, chat.turns, rng.choice(systems)) if rng.random() < share else chat
        for chat in items
    ]


def main() -> None:
    """Write WORK/train.jsonl and WORK/valid.jsonl, whose poems are not in training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--poems", type=int, default=170_000)
    parser.add_argument("--modern", type=int, default=115_000)
    parser.add_argument("--seed", type=int, default=20261121)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    items = poem_chats(options.work, options.poems, options.seed)
    items += modern_chats(options.modern, options.seed + 1)
    rng.shuffle(items)
    items = with_systems(items, rng)
    valid = poem_chats(options.work, 900, options.seed + 2, held_out=True)
    valid += modern_chats(500, options.seed + 3)
    rng.shuffle(valid)
    chats.write(options.work / "valid.jsonl", valid)
    print(chats.write(options.work / "train.jsonl", items), Counter(c.kind for c in items))


if __name__ == "__main__":
    main()
