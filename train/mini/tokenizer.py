"""Builds the character tokenizer with byte fallback that llama.cpp reads as type "llama"."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import chats
from blessings import common_characters
from chats import TEXTS, Chat

SIZE = 7168
SPECIAL = ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ROLES = ["system", "user", "assistant"]
SPACE = "▁"
PUNCTUATION = "，。！？；：、“”‘’（）《》〈〉【】—…～·「」『』〇℃％＋－×÷＝°√π№"
EMOJI = (
    "🌟✨🎉🎂🎊💖💕🌸🌺🌻🌹🍀🌈🎈🎁🥳🥰😊😄😘💪🏆📈💰🧧🎆🏮🐉🥮🌕🌙💫⭐🔥👏👍🙏🤝🏠🏡🚀💼🎓🍵🍷🍻🥂🎶☀🌞"
    "🌷🌼🍁🍂❄⛄🎋🎏🛶🍚🥣💐💗🌊🌿🕊🐾🦋💍🤑🧨😂🤗❤🐱🐶\ufe0f\u200d"
)


def vocabulary(work: Path, poems_and_chats: list[Chat]) -> list[str]:
    """Tokens in order: specials, roles, bytes, space, ASCII, signs, common and other characters."""
    tokens = SPECIAL + ROLES + [f"<0x{byte:02X}>" for byte in range(256)] + [SPACE]
    tokens += [chr(code) for code in range(33, 127)] + list(PUNCTUATION) + list(EMOJI)
    tokens += common_characters()
    own = "".join(path.read_text(encoding="utf-8") for path in sorted(TEXTS.glob("*.yaml")))
    tokens += sorted(set(own) - {"\n", " "})
    counts = Counter(c for chat in poems_and_chats for text in chat.turns for c in text)
    with (work / "poems.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            counts.update("".join(json.loads(line)["lines"]))
    tokens += [c for c, _ in counts.most_common() if c not in "\n "]
    return list(dict.fromkeys(tokens))[:SIZE]


def tokenizer_json(tokens: list[str]) -> dict[str, Any]:
    """The file `tokenizer.json` of the tokenizers library."""
    added = [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": token in SPECIAL,
        }
        for index, token in enumerate(SPECIAL + ROLES)
    ]
    decoders = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [],
        },
    }


def config_json() -> dict[str, Any]:
    """The file `tokenizer_config.json`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": "<s>",
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "chat_template": chats.TEMPLATE,
    }


def save(folder: Path, tokens: list[str]) -> None:
    """Write the tokenizer files into a model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"tokenizer.json": tokenizer_json(tokens), "tokenizer_config.json": config_json()}
    for name, content in files.items():
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "chat_template.jinja").write_text(chats.TEMPLATE, encoding="utf-8")


def main() -> None:
    """Write WORK/tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    options = parser.parse_args()
    tokens = vocabulary(options.work, chats.read(options.work / "train.jsonl"))
    save(options.work / "tokenizer", tokens)
    print(len(tokens))


if __name__ == "__main__":
    main()
