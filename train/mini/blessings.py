"""Composes blessings from the bank in texts/blessings.yaml: right recipient, one occasion."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import yaml
from chats import TEXTS, Chat

STYLES = ("正常", "小红书", "严肃")
ASKS = ["祝{}{}", "祝{}{}", "祝{}{}", "祝福{}{}", "我想祝{}{}"]
GIVE_ASKS = [
    "我想给{}{}祝福",
    "我想送{}{}祝福",
    "送祝福给{}，{}",
    "我想祝福{}，{}",
    "祝福{}，{}",
    "给{}写一句{}祝福",
    "帮我写一段给{}的{}祝福",
]


def common_characters() -> list[str]:
    """The 3,755 characters of GB2312 level 1."""
    codes = [bytes([row, cell]) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF)]
    found = [code.decode("gb2312", errors="ignore") for code in codes]
    return [character for character in found if character]


@dataclass(frozen=True)
class Person:
    """A recipient, and whether the blessing must be respectful."""

    name: str
    respected: bool


class Blessings:
    """Draws recipients, occasions, styles and wordings."""

    def __init__(self, rng: random.Random) -> None:
        bank = yaml.safe_load((TEXTS / "blessings.yaml").read_text(encoding="utf-8"))
        self.bank: dict[str, Any] = bank
        self.rng = rng
        self.characters = common_characters()

    def random_name(self) -> Person:
        """A made-up person: family name with title or given name, or a nickname."""
        rng, people = self.rng, self.bank["people"]
        surname = rng.choice(people["surnames"])
        given = "".join(rng.choices(self.characters, k=rng.choice([1, 2, 2])))
        pick = rng.random()
        if pick < 0.25:
            return Person(surname + rng.choice(people["titles_respect"]), True)
        if pick < 0.4:
            return Person(surname + rng.choice(people["titles_close"]), False)
        if pick < 0.5:
            title = rng.choice(people["titles_respect"])
            return Person(surname + given + title, True)
        if pick < 0.58:
            return Person(rng.choice(["小", "阿", "老", "大"]) + rng.choice(self.characters), False)
        if pick < 0.64:
            role = rng.choice(["导师", "老师", "领导", "朋友", "同学", "师傅"])
            return Person(f"我的{role}{surname}{given}", role in "导师老师领导师傅")
        return Person(surname + given, False)

    def person(self) -> Person:
        """A recipient of the core list, of the wider list, or a made-up one."""
        people = self.bank["people"]
        pick = self.rng.random()
        if pick < 0.42:
            return self.random_name()
        group = "core" if pick < 0.72 else "more"
        respected = self.rng.random() < 0.5
        names = people[f"{group}_{'respect' if respected else 'close'}"]
        return Person(self.rng.choice(names), respected)

    def answer(self, person: Person, scene: str, style: str) -> str:
        """A blessing for one person, one occasion and one style."""
        rng, record = self.rng, self.bank["scenes"][scene]
        first, second = rng.sample(record["愿"], 2)
        text = rng.choice(record[style]) + rng.choice(self.bank["endings"][style])
        if style == "严肃":
            kind = "严肃尊" if person.respected else "严肃亲"
            text = rng.choice(self.bank["openers"][kind]) + text
        text = text.replace("{愿}", first).replace("{愿2}", second)
        return self.address(text, person)

    def address(self, text: str, person: Person) -> str:
        """Fill in the recipient and the pronoun, avoiding odd self-address."""
        you = "您" if person.respected else "你"
        plural = person.name.startswith("各位") or person.name.endswith("们")
        plural = plural or person.name in ("大家", "全班同学", "全体同事", "我们团队")
        you = "大家" if plural else you
        return text.replace("{名}", person.name).replace("{你}", you)

    def ask(self, person: Person, scene: str, style: str) -> str:
        """One of the ways to ask for a blessing."""
        rng, names = self.rng, self.bank["scenes"][scene]["ask"]
        if rng.random() < 0.75:
            text = rng.choice(ASKS).format(person.name, rng.choice(names[:2] + names))
        else:
            text = rng.choice(GIVE_ASKS).format(person.name, scene)
        if style != "正常" or rng.random() < 0.06:
            text += rng.choice(["，", ","]) + f"{style}风格"
        return text

    def other(self, person: Person, style: str) -> Chat:
        """A blessing for an occasion outside the eighteen, which the answer copies."""
        rng, bank = self.rng, self.bank
        event = rng.choice(bank["others"])
        joyful = event in bank["others_ask_joy"]
        event = event + "快乐" if joyful else event
        opener = rng.choice(bank["openers"]["严肃尊" if person.respected else "严肃亲"])
        text = rng.choice(bank["others_answers"][style])
        text = self.address(text.replace("{启}", opener).replace("{事}", event), person)
        ask = f"祝{person.name}{event}"
        ask += "" if style == "正常" else rng.choice(["，", ","]) + f"{style}风格"
        return Chat("wish", (ask, text))

    def draw(self, held_out: frozenset[tuple[str, str]] = frozenset()) -> Chat:
        """One random chat whose pair of recipient and occasion is not held out."""
        rng = self.rng
        style = rng.choices(STYLES, [36, 36, 28])[0]
        person = self.person()
        if rng.random() < 0.14:
            return self.other(person, style)
        scene = rng.choice(list(self.bank["scenes"]))
        if (person.name, scene) in held_out:
            return self.draw(held_out)
        text = self.answer(person, scene, style)
        return Chat("wish", (self.ask(person, scene, style), text))


def held_out_pairs(seed: int = 5) -> frozenset[tuple[str, str]]:
    """Pairs of a core recipient and an occasion that no training chat contains."""
    bank = yaml.safe_load((TEXTS / "blessings.yaml").read_text(encoding="utf-8"))
    people = bank["people"]["core_respect"] + bank["people"]["core_close"]
    pairs = [(name, scene) for name in people for scene in bank["scenes"]]
    return frozenset(random.Random(seed).sample(pairs, 60))
