"""Tokenizers of retired architectures, without their remote code: the same ids, the same turns."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

from convert.errors import ConvertError, DamagedError, UnsupportedError  # noqa: E402
from convert.relayout import sentencepiece  # noqa: E402
from tests.convert import made_retired as made  # noqa: E402
from tests.convert.made_retired import BYTES, refused, workspace  # noqa: E402
from tests.convert.making import ROOT  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # transformers warns of itself
    pytest.mark.usefixtures("any_model"),
]

IDS = made.IDS
TEXTS = [
    "", " ", "  ", "我你好", " 我", "a<eoh>\n<|Bot|>:我你好<eoa>", "<eoh>我", "\U0001f600", "a  a",
    "我你好你好我我你", "\t a\n", "<eoa><eoh>", "ａ①é", "e\u0301",
]  # fmt: skip
PLAIN = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}


def test_internlm_is_whole_without_remote_code(tmp_path: Path) -> None:
    folder = workspace(tmp_path, made.internlm_folder(tmp_path / "base"))
    assert not list(folder.glob("*.py"))
    assert "auto_map" not in (folder / "config.json").read_text()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    assert tokenizer("我你好").input_ids == [1, IDS["▁我"], IDS["你好"]]
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [2, IDS["<eoa>"]]
    turns = [
        {"role": "system", "content": "你是翰林"}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": "我"}, {"role": "user", "content": "你好"},
    ]  # fmt: skip
    said = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert said == (
        "<s><|System|>:你是翰林\n<|User|>:a<eoh>\n<|Bot|>:我<eoa>\n<|User|>:你好<eoh>\n<|Bot|>:"
    )
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    assert (ids.count(1), ids.count(IDS["<eoh>"]), ids.count(IDS["<eoa>"])) == (1, 2, 1)


def test_a_sentencepiece_model_read_by_hand(tmp_path: Path) -> None:
    """Merges by score, user-defined pieces apart, bytes for what has no piece."""
    tokenizer = by_hand(tmp_path, made.sentencepiece_model(made.PIECES))
    pieces = {
        "我你好": ["▁我", "你好"],
        "我你a": ["▁我你", "a"],
        "a<eoh>我": ["▁", "a", "<eoh>", "我"],
        " 我": ["▁", "▁我"],
        "é": ["▁", "<0xC3>", "<0xA9>"],
        "a</s>我": ["▁", "a", "</s>", "▁我"],
    }
    for text, expected in pieces.items():
        assert tokenizer.encode(text).tokens == ["<s>", *expected]
    assert tokenizer.decode(tokenizer.encode("我你好 é").ids) == "我你好 é"


def by_hand(tmp_path: Path, model: bytes) -> Tokenizer:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(model)
    special = {"<unk>": 0, "<s>": 1, "</s>": 2}
    found = sentencepiece.tokenizer(sentencepiece.read(path), special=special, bos="<s>")
    return Tokenizer.from_str(json.dumps(found))


def corpus() -> list[str]:
    files = [*(ROOT / "assistants").glob("*.yaml"), *(ROOT / "convert").glob("*.py")]
    return [line for file in sorted(files) for line in file.read_text("utf-8").splitlines() if line]


@pytest.mark.parametrize(
    "options",
    [
        {**PLAIN, "byte_fallback": True, "user_defined_symbols": ["<eoh>", "<eoa>"]},
        {**PLAIN, "byte_fallback": True, "add_dummy_prefix": False},
        {"user_defined_symbols": ["<eoh>", "<eoa>", "他们"]},
    ],
    ids=["internlm", "no-prefix", "nfkc"],
)
def test_ids_are_sentencepieces_own(tmp_path: Path, options: dict[str, Any]) -> None:
    package = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    model, lines = io.BytesIO(), corpus()
    package.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=2400,
        character_coverage=0.98, minloglevel=2, **options,
    )  # fmt: skip
    reference = package.SentencePieceProcessor(model_proto=model.getvalue())
    tokenizer = by_hand(tmp_path, model.getvalue())
    mixed = [a[3:] + " " + b[:9] for a, b in zip(lines[::3], lines[1::3], strict=False)]
    for text in [*TEXTS, *lines[::5], *mixed]:
        assert tokenizer.encode(text).ids == [1, *reference.encode(text)], text


def learned() -> list[bytes]:
    """A small byte-level vocabulary in the order of its merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=alphabet, show_progress=False, special_tokens=[]
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    vocab = tokenizer.get_vocab()
    ordered = sorted((text for text in vocab if len(text) > 1), key=vocab.__getitem__)
    back = {letter: byte for byte, letter in enumerate(_gpt2_letters())}
    return BYTES + [bytes(back[letter] for letter in text) for text in ordered]


def _gpt2_letters() -> list[str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    found: dict[int, str] = bytes_to_unicode()
    return [found[byte] for byte in range(256)]


def test_ids_are_tiktokens_own(tmp_path: Path) -> None:
    package = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    tokens = learned()
    folder = workspace(tmp_path, made.qwen_folder(tmp_path / "base", tokens))
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    special += [f"<|extra_{number}|>" for number in range(205)]
    pattern = (  # Qwen's own
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    reference = package.Encoding(
        "qwen", pat_str=pattern, mergeable_ranks={t: n for n, t in enumerate(tokens)},
        special_tokens={text: len(tokens) + n for n, text in enumerate(special)},
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))  # nothing that transformers adds
    turn = "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
    for text in [*TEXTS, turn, *corpus()[::3]]:
        normal = unicodedata.normalize("NFC", text)
        expected = reference.encode(normal, allowed_special="all")
        assert tokenizer(text).input_ids == plain.encode(text).ids == expected, text
        assert tokenizer.decode(expected, clean_up_tokenization_spaces=False) == normal
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [len(tokens) + 2, len(tokens)]


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (None, UnsupportedError, r"has no tokenizer\.model"),
        (b"", DamagedError, "is not a SentencePiece model"),
        (b"version https://git-lfs.github.com/spec/v1\n", DamagedError, "is not a SentencePiece"),
        (made.sentencepiece_model(made.PIECES)[:-3], DamagedError, "is not a SentencePiece model"),
        (made.sentencepiece_model(made.PIECES)[:60], DamagedError, "is not a SentencePiece model"),
        (made.sentencepiece_model(made.PIECES[3:]), UnsupportedError, "special token <s> is not"),
        (
            made.sentencepiece_model(made.PIECES).replace(b"\x18\x02\x98", b"\x18\x01\x98"),
            UnsupportedError,
            "only byte-pair SentencePiece models",
        ),
    ],
)
def test_tokenizers_that_cannot_be_kept(
    tmp_path: Path, content: bytes | None, error: type[ConvertError], said: str
) -> None:
    base = made.internlm_folder(tmp_path / "base")
    path = base / "tokenizer.model"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    refused(tmp_path, base, error, said)


@pytest.mark.parametrize("content", [None, b"x\n", b"AA== 0\nAQ== 2\n"])
def test_a_tiktoken_file_that_cannot_be_kept(tmp_path: Path, content: bytes | None) -> None:
    base = made.qwen_folder(tmp_path / "base", BYTES)
    path = base / "qwen.tiktoken"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    error = DamagedError if content else UnsupportedError
    refused(tmp_path, base, error, r"has no qwen\.tiktoken|is not a tiktoken vocabulary")
