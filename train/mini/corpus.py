"""Reads a chinese-poetry snapshot at its pinned commit and keeps clean poems of known form."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import opencc
from pypinyin import Style, lazy_pinyin

COMMIT = "99ebbef7e1345c0985c44b9fd96a3f9e776f117b"
FOLDER = "全唐诗"
REGULAR = {(4, 5): "五言绝句", (4, 7): "七言绝句", (8, 5): "五言律诗", (8, 7): "七言律诗"}
FREE = "古诗"
PUNCTUATION = re.compile(r"[，。？！；]")
HAN_ONLY = re.compile(r"^[㐀-鿿]+$")
# Variant shapes that opencc keeps although a modern reader writes them otherwise.
VARIANTS = str.maketrans(
    "疎髪鴈劒埽鼈櫺谿巖峯羣牀裏蘂蘃麤隂歳縁畧徧恠椀澁煙覩遶迴囘逈栁胷脩菴葢盃輭鑪飱鵞",
    "疏发雁剑扫鳖棂溪岩峰群床里蕊蕊粗阴岁缘略遍怪碗涩烟睹绕回回迥柳胸修庵盖杯软炉餐鹅",
)

Poem = dict[str, object]


def git(git_dir: Path, *arguments: str) -> bytes:
    """Output of one read-only git command on the snapshot."""
    command = ["git", f"--git-dir={git_dir}", "-c", "core.quotepath=off", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def source_files(git_dir: Path) -> list[str]:
    """Paths of the Tang and Song poem files at the pinned commit."""
    listing = git(git_dir, "ls-tree", "--name-only", COMMIT, f"{FOLDER}/").decode()
    names = [name for name in listing.splitlines() if re.search(r"/poet\.(tang|song)\.", name)]
    return sorted(names)


def raw_poems(git_dir: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every poem record together with its dynasty."""
    for name in source_files(git_dir):
        dynasty = "唐" if ".tang." in name else "宋"
        for record in json.loads(git(git_dir, "show", f"{COMMIT}:{name}")):
            yield dynasty, record


def split_lines(paragraphs: list[str]) -> list[str]:
    """Lines of a poem without punctuation; empty when a line is damaged or annotated."""
    pieces = [piece for paragraph in paragraphs for piece in PUNCTUATION.split(paragraph)]
    lines = [piece.strip() for piece in pieces if piece.strip()]
    return lines if all(HAN_ONLY.match(line) for line in lines) else []


def form_of(lines: list[str]) -> str | None:
    """Name of the form, or None for shapes that the recipe does not teach."""
    widths = {len(line) for line in lines}
    if len(widths) != 1:
        return None
    width = widths.pop()
    if (len(lines), width) in REGULAR:
        return REGULAR[len(lines), width]
    if width in (5, 7) and len(lines) % 2 == 0 and len(lines) >= 6 and len(lines) * width <= 90:
        return FREE
    return None


def rhyme(character: str) -> str:
    """Modern final of a character without its glide, good enough to sort rhyming poems."""
    final: str = lazy_pinyin(character, style=Style.FINALS, strict=True)[0]
    if len(final) > 2 and final[0] in "iuüv" and final[1] in "aeo":
        final = final[1:]
    same = {"ün": "en", "in": "en", "un": "en", "uen": "en", "ing": "eng", "ueng": "eng"}
    same |= {"uo": "o", "ie": "e", "üe": "e", "ia": "a", "ua": "a", "iong": "ong"}
    return same.get(final, final)


def rhymes(lines: list[str]) -> bool:
    """True when the even lines share a modern final and do not repeat an end character."""
    ends = [line[-1] for line in lines[1::2]]
    return len({rhyme(end) for end in ends}) == 1 and len(set(ends)) == len(ends)


def clean_poems(git_dir: Path) -> Iterator[Poem]:
    """Simplified, de-duplicated poems of a known form that rhyme for a modern reader."""
    convert = opencc.OpenCC("t2s").convert

    def simplify(text: object) -> str:
        return str(convert(str(text))).translate(VARIANTS)

    seen: set[str] = set()
    for dynasty, record in raw_poems(git_dir):
        paragraphs = record.get("paragraphs") or []
        lines = split_lines([simplify(text) for text in paragraphs])
        form = form_of(lines) if lines else None
        key = "".join(lines[:2])
        if form is None or key in seen or (form != FREE and not rhymes(lines)):
            continue
        seen.add(key)
        yield {
            "title": simplify(record.get("title", "")),
            "author": simplify(record.get("author", "")),
            "dynasty": dynasty,
            "form": form,
            "lines": lines,
        }


def main() -> None:
    """Write WORK/poems.jsonl and print how many poems of each form were kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="git directory of the snapshot")
    parser.add_argument("--work", type=Path, default=Path("work"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    with (options.work / "poems.jsonl").open("w", encoding="utf-8") as out:
        for poem in clean_poems(options.source):
            counts[f"{poem['dynasty']} {poem['form']}"] += 1
            out.write(json.dumps(poem, ensure_ascii=False) + "\n")
    print(dict(counts))


if __name__ == "__main__":
    main()
