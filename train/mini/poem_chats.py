"""Turns poems into requests and answers, mostly requests that name images of the poem."""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml
from chats import TEXTS, Chat

STOP = set("不无何有自已未可此谁莫为更欲相应须犹却是非岂能得将与从一其之而以于又亦")
TRIGGER = "请写一首含有以下意象的{form}{words}"
IMAGE_ASKS = [
    (58, TRIGGER),
    (14, "请生成一首有关以下意象的{form}：{words}"),
    (6, "请写一首含有以下意象的{form}：{words}"),
    (6, "写一首{form}，意象：{words}"),
    (5, "用{words}写一首{form}"),
    (6, "写一首关于{words}的{form}"),
    (5, "请以{words}为意象，写一首{form}"),
]
THEME_ASKS = ["写一首关于{}的诗", "写一首{}的诗", "请写一首描写{}的{form}", "以{}为题写一首{form}"]
LINE_ASKS = ["请写出{}的诗句", "写两句关于{}的诗", "请写出描写{}的诗句", "来两句写{}的诗"]
CI_ASKS = [TRIGGER, "写一首宋词，意象：{words}", "写一首关于{words}的宋词", "填一首关于{words}的词"]
CI_ANSWER = "宋词我还没有学会。我会写绝句、律诗和古诗，请换一种体裁。"


@dataclass(frozen=True)
class Poem:
    """A poem of the corpus."""

    title: str
    form: str
    lines: tuple[str, ...]
    dynasty: str

    def text(self) -> str:
        """The poem as the assistant prints it: one couplet a line."""
        pairs = zip(self.lines[::2], self.lines[1::2], strict=True)
        return "\n".join(f"{first}，{second}。" for first, second in pairs)


def load(work: Path, held_out: bool = False, characters: int = 5000) -> list[Poem]:
    """Poems of corpus.py with frequent characters only: those for training or the 1 in 250 kept."""
    with (work / "poems.jsonl").open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    counts = Counter(c for record in records for line in record["lines"] for c in line)
    known = {c for c, _ in counts.most_common(characters)}
    return [
        Poem(r["title"], r["form"], tuple(r["lines"]), r["dynasty"])
        for r in records
        if known.issuperset("".join(r["lines"]))
        and held_out == (zlib.crc32(r["lines"][0].encode()) % 250 == 0)
    ]


def words_of(line: str) -> list[str]:
    """Pairs of characters at the places where words stand in a line of five or seven."""
    places = (0, 2, 3) if len(line) == 5 else (0, 2, 4, 5)
    return [line[place : place + 2] for place in places]


def common_words(poems: list[Poem], least: int = 25) -> set[str]:
    """Pairs frequent enough to be words, without those that hold a function character."""
    counts = Counter(word for poem in poems for line in poem.lines for word in words_of(line))
    return {w for w, n in counts.items() if n >= least and not STOP & set(w) and w[0] != w[1]}


def images(poem: Poem, common: set[str], rng: random.Random) -> list[str]:
    """One to four different images of a poem, mostly common words, in random order."""
    known = [w for line in poem.lines for w in words_of(line) if w in common]
    edges = [line[:2] for line in poem.lines] + [line[-2:] for line in poem.lines]
    wanted = rng.choices([1, 2, 3, 4], [15, 40, 27, 18])[0]
    chosen: list[str] = []
    for _ in range(wanted * 3):
        pick = rng.random()
        source = known if known and pick < 0.8 else edges
        word = rng.choice(source)
        if pick > 0.95:
            word = rng.choice([c for c in word if c not in STOP] or [word])
        if not any(set(word) & set(other) for other in chosen):
            chosen.append(word)
        if len(chosen) == wanted:
            break
    return chosen


def image_chat(poem: Poem, common: set[str], rng: random.Random) -> Chat:
    """A request that names images of the poem and its form."""
    ask = rng.choices([text for _, text in IMAGE_ASKS], [weight for weight, _ in IMAGE_ASKS])[0]
    form = "古诗" if rng.random() < 0.05 else poem.form
    if "关于" in ask and rng.random() < 0.5:
        form = "诗"
    words = "、".join(images(poem, common, rng))
    return Chat("poem", (ask.format(form=form, words=words), poem.text()))


def theme_chat(poem: Poem, themes: dict[str, list[str]], rng: random.Random) -> Chat | None:
    """A request for a poem or a couplet on a theme whose key characters the answer holds."""
    pairs = list(zip(poem.lines[::2], poem.lines[1::2], strict=True))
    names = list(themes)
    rng.shuffle(names)
    for name in names[:25]:
        keys = themes[name]
        fitting = [pair for pair in pairs if all(key in "".join(pair) for key in keys)]
        if fitting and rng.random() < 0.6:
            first, second = rng.choice(fitting)
            return Chat("lines", (rng.choice(LINE_ASKS).format(name), f"{first}，{second}。"))
        if all(key in "".join(poem.lines) for key in keys):
            ask = rng.choice(THEME_ASKS).format(name, form=poem.form)
            return Chat("theme", (ask, poem.text()))
    return None


def other_chat(poem: Poem, themes: dict[str, list[str]], rng: random.Random) -> Chat:
    """A theme request, a request by title, or the next line."""
    themed = theme_chat(poem, themes, rng) if rng.random() < 0.7 else None
    if themed:
        return themed
    if len(poem.title) <= 10 and rng.random() < 0.6:
        return Chat("title", (f"以《{poem.title}》为题写一首{poem.form}", poem.text()))
    at = rng.randrange(0, len(poem.lines), 2)
    return Chat("next", (f"{poem.lines[at]}，请接下一句", f"{poem.lines[at + 1]}。"))


def poem_chats(work: Path, count: int, seed: int, held_out: bool = False) -> list[Chat]:
    """`count` chats: every Tang poem about twice as often as a Song poem, new images each time."""
    rng = random.Random(seed)
    common = common_words(load(work))
    poems = load(work, held_out)
    themes = yaml.safe_load((TEXTS / "talk.yaml").read_text(encoding="utf-8"))["themes"]
    share = {"五言绝句": 2.2, "五言律诗": 1.0, "七言绝句": 1.0, "七言律诗": 1.0, "古诗": 0.8}
    weights = [share[p.form] * (2.2 if p.dynasty == "唐" else 1.0) for p in poems]
    result: list[Chat] = []
    for poem in rng.choices(poems, weights, k=count):
        pick = rng.random()
        if pick < 0.85:
            result.append(image_chat(poem, common, rng))
        elif pick < 0.855:
            words = "、".join(images(poem, common, rng))
            ask = rng.choice(CI_ASKS).format(form="宋词", words=words)
            result.append(Chat("ci", (ask, CI_ANSWER)))
        else:
            result.append(other_chat(poem, themes, rng))
    return result
