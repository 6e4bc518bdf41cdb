"""Measures the base and the adapters: form, rhyme, images, recipients, facts, recitals, manners."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

import torch
from adapter_chats import NAMES, sui_poems, sui_recitals, system_of
from answering import Model
from blessings import STYLES, Blessings, Person, common_characters, held_out_pairs
from corpus import REGULAR, rhymes
from modern import held_out_off_topic, load, off_topic_asks, split_facts
from poem_chats import TRIGGER, common_words
from poem_chats import load as load_poems

Figures = dict[str, object]
FOREIGN = ["张三", "李四光", "王小明", "赵敏", "周文", "吴天明", "郑和平", "林小雨"]
EMOJI = "🎂🎉✨🥳🧧🎆🏮🎊🌕💖🍚🌿🛶💕🍀🌹💫🥮🌙🍁🌼🍂😊🧨🥣❄💪🔥🤝🏆🏡🏠🌞🥂💍💐🌈💰🤑📈🚀💼🌻"
MARKS = {
    "生日": "生日",
    "春节": "春节|新春|新年|拜年|辞旧迎新",
    "元宵节": "元宵|上元",
    "端午节": "端午",
    "七夕节": "七夕",
    "中秋节": "中秋",
    "重阳节": "重阳",
    "除夕": "除夕",
    "腊八节": "腊八",
    "谈判顺利": "谈判",
    "乔迁新居": "乔迁|新居|新家",
    "周年纪念": "周年",
    "新婚快乐": "新婚|婚礼|喜糖",
    "家庭和睦": "和睦|和和美美|一家|笑声",
    "比赛取得好成绩": "比赛|赛场",
    "发财": "发财|财|富",
    "工作升职": "升职|荣升",
    "康复": "康复",
}


def percent(flags: list[bool]) -> float:
    """Share of true flags in per cent."""
    return round(100 * sum(flags) / max(1, len(flags)), 1)


def lines_of(text: str) -> list[str]:
    """Lines of a poem in an answer."""
    for mark in "，。！？；\n":
        text = text.replace(mark, " ")
    return text.split()


def poetry(model: Model, work: Path, seed: int, count: int) -> tuple[Figures, list[list[str]]]:
    """Form, images and rhyme on random pairs of images that no one poem was drawn for."""
    rng = random.Random(seed)
    poems = load_poems(work)
    corpus = {line for poem in poems for line in poem.lines}
    words = sorted(common_words(poems, least=300))
    popular = load("talk")["popular_images"]
    figures: Figures = {}
    shown: list[list[str]] = []
    sets = {"random": [rng.sample(words, 2) for _ in range(count)]}
    sets["popular"] = [rng.sample(popular, 2) for _ in range(count)]
    for name, pairs in sets.items():
        shapes = [list(REGULAR.items())[i % 4] for i in range(count)]
        asks = [
            TRIGGER.format(form=form, words="、".join(pair))
            for (_, form), pair in zip(shapes, pairs, strict=True)
        ]
        texts = model.answers([[ask] for ask in asks], 0.7)
        rows = [lines_of(text) for text in texts]
        right = [
            len(row) == size and all(len(line) == width for line in row)
            for row, ((size, width), _) in zip(rows, shapes, strict=True)
        ]
        hits = [sum(w in t for w in pair) for t, pair in zip(texts, pairs, strict=True)]
        figures[name] = {
            "n": count,
            "form": percent(right),
            "both images": percent([h == 2 for h in hits]),
            "one image or more": percent([h >= 1 for h in hits]),
            "rhyme": percent([len(row) > 3 and rhymes(row) for row in rows]),
            "lines copied": percent([line in corpus for row in rows for line in row]),
        }
        shown += [[ask, text] for ask, text in zip(asks, texts, strict=True)]
    return figures, shown


def wish_flags(person: Person, scene: str, style: str, text: str) -> dict[str, bool]:
    """Heuristic checks of one blessing."""
    named = {s for s, marks in MARKS.items() if any(m in text for m in marks.split("|"))}
    loose = {"发财", "家庭和睦"}
    emoji = any(c in text for c in EMOJI)
    styles = {"小红书": emoji, "严肃": not emoji and len(text) >= 20, "正常": not emoji}
    polite = not person.respected or "你" not in text
    return {
        "recipient": person.name in text,
        "occasion": scene in named,
        "no other occasion": not (named - {scene} - loose),
        "style": styles[style],
        "您 for elders": polite,
    }


def wishes(model: Model, seed: int, count: int) -> tuple[Figures, list[list[str]]]:
    """Blessings for pairs kept out of training, and for made-up names."""
    rng = random.Random(seed)
    maker = Blessings(rng)
    people = maker.bank["people"]
    respected = set(people["core_respect"])
    pairs = sorted(held_out_pairs())
    held = [(Person(name, name in respected), scene) for name, scene in pairs]
    made = [(maker.random_name(), rng.choice(list(MARKS))) for _ in range(count)]
    figures: Figures = {}
    shown: list[list[str]] = []
    for name, cases in (("pairs kept out", held[:count]), ("made-up names", made)):
        styles = [STYLES[i % 3] for i in range(len(cases))]
        suffix = {"正常": "", "小红书": "，小红书风格", "严肃": "，严肃风格"}
        asks = [
            f"祝{person.name}{maker.bank['scenes'][scene]['ask'][0]}{suffix[style]}"
            for (person, scene), style in zip(cases, styles, strict=True)
        ]
        texts = model.answers([[ask] for ask in asks], 0.7)
        flags = [
            wish_flags(person, scene, style, text)
            for (person, scene), style, text in zip(cases, styles, texts, strict=True)
        ]
        figures[name] = {"n": len(cases)} | {
            key: percent([flag[key] for flag in flags]) for key in flags[0]
        }
        shown += [[ask, text] for ask, text in zip(asks, texts, strict=True)]
    return figures, shown


def exam(model: Model, seed: int, count: int) -> tuple[Figures, list[list[str]]]:
    """Exact short answers: base facts, and adapter facts in trained and in unseen phrasings."""
    known, new = split_facts()
    rng = random.Random(seed)
    cases = {
        "base facts": [(rng.choice(asks), answer) for asks, answer in rng.sample(known, count)],
        "adapter facts, trained phrasing": [(asks[0], answer) for asks, answer in new],
        "adapter facts, unseen phrasing": [(asks[-1], answer) for asks, answer in new],
        "base facts, new wording": [
            (f"同学们，{asks[0].rstrip('？')}呢", answer)
            for asks, answer in rng.sample(known, count)
        ],
    }
    figures: Figures = {}
    shown: list[list[str]] = []
    for name, pairs in cases.items():
        texts = model.answers([[ask] for ask, _ in pairs], 0.0, 60)
        right = [text.strip() == answer for text, (_, answer) in zip(texts, pairs, strict=True)]
        figures[name] = {"n": len(pairs), "exact": percent(right)}
        shown += [[ask, t, answer] for t, (ask, answer) in zip(texts, pairs, strict=True)]
    return figures, shown


def sui(model: Model, path: Path, work: Path, seed: int) -> tuple[Figures, list[list[str]]]:
    """Exact recitals, refused unknown titles, and the author asked in a second turn."""
    texts = load("sui")
    recitals = sui_recitals(sui_poems(path))
    answers = model.answers([[name] for name, _, _ in recitals], 0.0, 480)
    exact = [text == answer for text, (_, answer, _) in zip(answers, recitals, strict=True)]
    known = {poem.title for poem in sui_poems(path)}
    held = sorted({p.title for p in load_poems(work, held_out=True)} - known)
    titles = random.Random(seed).sample([title for title in held if 2 <= len(title) <= 8], 40)
    refused = model.answers([[title] for title in titles], 0.0, 60)
    second = [[n, a, "作者是谁？"] for n, a, p in recitals if p and len(a) < 200][:60]
    authors = [p.author for _, a, p in recitals if p and len(a) < 200][:60]
    named = model.answers(second, 0.0, 40)
    poem = "鸡声茅店月，人迹板桥霜。"
    foreign = [["早行", f"作者：{name}，内容：{poem}", "作者是谁？"] for name in FOREIGN]
    copied = model.answers(foreign, 0.0, 40)
    facts = [(asks[-1], answer) for asks, answer in texts["facts"]]
    told = model.answers([[ask] for ask, _ in facts], 0.0, 60)
    figures: Figures = {
        "recitals": {"n": len(exact), "exact": percent(exact)},
        "unknown titles refused": percent([text == texts["unknown"] for text in refused]),
        "author in second turn": percent([a in t for a, t in zip(authors, named, strict=True)]),
        "made-up author taken from context": percent(
            [name in text for name, text in zip(FOREIGN, copied, strict=True)]
        ),
        "history facts": percent([t == a for t, (_, a) in zip(told, facts, strict=True)]),
    }
    shown = [[n, t, a] for t, (n, a, _) in zip(answers, recitals, strict=True)]
    shown += [[title, text] for title, text in zip(titles, refused, strict=True)]
    shown += [[*turns, text] for turns, text in zip(foreign, copied, strict=True)]
    return figures, shown


def manners(model: Model, seed: int) -> tuple[Figures, list[list[str]]]:
    """Small talk, held-out questions out of scope, and copies of random characters."""
    talk, rng = load("talk"), random.Random(seed)
    small = [(ask, answer) for asks, answer in talk["small_talk"] for ask in asks[:2]]
    held = sorted(held_out_off_topic(sorted(set(off_topic_asks(talk)))))
    fresh = talk["off_topic_unseen"]
    names = ["".join(rng.choices(common_characters(), k=3)) for _ in range(40)]
    said = model.answers([[ask] for ask, _ in small], 0.0, 80)
    refused = model.answers([[ask] for ask in held + fresh], 0.0, 80)
    repeated = model.answers([[f"请重复：{name}"] for name in names], 0.0, 20)
    right = [text == talk["refusal"] for text in refused]
    figures: Figures = {
        "small talk exact": percent([t == a for t, (_, a) in zip(said, small, strict=True)]),
        "off topic refused, held out": percent(right[: len(held)]),
        "off topic refused, other wording": percent(right[len(held) :]),
        "three random characters copied": percent(
            [n == t for n, t in zip(names, repeated, strict=True)]
        ),
    }
    shown = [[ask, text] for ask, text in zip(held + fresh, refused, strict=True)]
    return figures, shown + [[n, t] for n, t in zip(names, repeated, strict=True)]


def main() -> None:
    """Print the figures of the base or of one assistant and keep the answers."""
    here = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--base", type=Path, default=None, help="default: WORK/hanlin-mini")
    parser.add_argument("--adapter", type=Path, default=None, help="none: the base alone")
    parser.add_argument("--assistants", type=Path, default=here / "assistants")
    parser.add_argument("--sui", type=Path, default=Path("sui_poems_dev.jsonl"))
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    system = system_of(options.assistants, options.name)
    model = Model(options.base or options.work / "hanlin-mini", options.adapter, system)
    run: dict[str, Callable[[], tuple[Figures, list[list[str]]]]] = {
        "poetry": lambda: poetry(model, options.work, options.seed, options.count),
        "wishes": lambda: wishes(model, options.seed, options.count),
        "exam": lambda: exam(model, options.seed, options.count),
        "sui": lambda: sui(model, options.sui, options.work, options.seed),
    }
    figures, shown = run[options.name]()
    polite, more = manners(model, options.seed)
    result = {"figures": figures | {"manners": polite}, "answers": shown + more}
    kind = "tuned" if options.adapter else "untuned"
    path = options.work / f"{options.name}.{kind}.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")
    print(options.name, kind, json.dumps(result["figures"], ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
