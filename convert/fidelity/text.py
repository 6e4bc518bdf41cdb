"""The text a merge is judged on: held-back dialogues of the assistant's own, or the next best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from assistants import Assistant
from assistants.prompt import messages
from convert.forward.calibration import held_dialogues, windows
from convert.forward.chat import Chat

WINDOWS, POSITIONS = 2, 64
"""Enough for figures that hardly change from text to text; more only takes longer."""

_FIXED = (
    ("请用一句话介绍隋朝的大运河。", "隋朝大运河以洛阳为中心，北通涿郡，南达余杭，长两千多公里。"),
    ("What is the capital of France?", "The capital of France is Paris, on the river Seine."),
    ("写一首五言绝句。", "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Text:
    """Windows of token ids, and where they come from."""

    source: str
    tokens: Tensor


def text_for(assistant: Assistant, dialogues: Path | None, chat: Chat) -> Text:
    """Dialogues that calibration never sees; where there are none, what the assistant's own
    examples look like to the model; where it has none, a few fixed sentences."""
    if dialogues is not None:
        source = f"{dialogues.name}, held back"
        texts = [chat.tokens(dialogue) for dialogue in held_dialogues(dialogues)]
    elif assistant.examples:
        source = "the assistant's examples"
        asked = [{"role": "user", "content": example} for example in assistant.examples]
        texts = [chat.tokens([*messages(assistant, [turn])]) for turn in asked]
    else:
        source = "fixed sentences"
        texts = [
            chat.tokens([{"role": "user", "content": asked},
                         {"role": "assistant", "content": answered}])
            for asked, answered in _FIXED
        ]  # fmt: skip
    return Text(source, windows(texts, WINDOWS, POSITIONS))
