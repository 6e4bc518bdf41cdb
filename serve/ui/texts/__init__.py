"""Every word the page itself says, in Chinese and in English.

What an assistant says of itself (title, description, examples) comes from the gateway instead.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Literal

from serve.ui.texts.en import EN
from serve.ui.texts.words import Texts
from serve.ui.texts.zh import ZH

__all__ = ["EN", "LANGUAGE_COOKIE", "ZH", "Language", "Texts", "again", "preferred", "texts"]

Language = Literal["zh", "en"]

LANGUAGE_COOKIE = "hanlin-language"
"""In it a browser remembers which of the two was chosen on the page."""


def texts(language: str) -> Texts:
    """The words for a language tag: Chinese for zh…, English for everything else."""
    return ZH if language.casefold().startswith("zh") else EN


def preferred(chosen: str | None, accept: str | None) -> Language:
    """The language to open in: what was chosen before, else the browser's first of the two."""
    tags = [chosen or "", *(part.split(";")[0].strip() for part in (accept or "").split(","))]
    known = [tag.casefold()[:2] for tag in tags if tag.casefold().startswith(("zh", "en"))]
    return "zh" if known[:1] == ["zh"] else "en"


def again(said: str, words: Texts) -> str:
    """What the page said, in the language of `words`, whichever of the two it was said in.

    What it did not say itself stays as it is.
    """
    known = [(texts_, field.name) for texts_ in (EN, ZH) for field in fields(Texts)]
    for texts_, name in known:
        sentence = getattr(texts_, name)
        if not isinstance(sentence, str):
            continue
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.*)", re.escape(sentence))
        if found := re.fullmatch(pattern, said):
            return str(getattr(words, name).format(**found.groupdict()))
    return said
