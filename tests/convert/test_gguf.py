"""The GGUF file in llama.cpp itself: the same ids and the same greedy text as Hugging Face."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, dequantize, quantize

from convert.gguf import model as gguf
from convert.gguf.layouts import interleaved
from convert.gguf.model import to_q8_0
from convert.merge.merged import merged
from tests.convert.making import MINI, llama

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of itself

TEXTS = [
    "", " ", "  two  spaces ", "\n", "newlines\n\n\nand\ttabs\t", "你好，世界！", "祝姐姐生日快乐",
    "世界上最大的宫殿是", "明月几时有？把酒问青天。", "emoji 🎉🎁 👨‍👩‍👧", "rare 𠮷野家 龘靐齉 㗊",
    "don't you're I'LL we've", "12345 1,234.50 2024-01-31", "ＦＵＬＬ　ｗｉｄｔｈ", "café naïve",
    "a▁b ▁ ▁▁", "<0x41><0x0A>", "system", "the systems user assistants", "suser assistantuser",
    "<|im_start|>system\n你是助手<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|><|im_end|><|endoftext|>", "half <|im_st art|> token", "<unk><s></s>",
    "def f(x):\n    return x  # code\n", "ab" * 50, "\u200b zero\u00a0width", "‮rtl‬ العربية हिन्दी",
]  # fmt: skip


def written(base: Path, path: Path, kind: gguf.Type) -> Path:
    with merged(base, None) as (source, config):
        plan = gguf.plan(source, config, base, kind)
        gguf.write(plan, source, path, name="test", advance=lambda n: None)
    return path


def ids_of_llama(client: httpx.Client, text: str) -> list[int]:
    wish = {"content": text, "add_special": True, "parse_special": True}
    answer: list[int] = client.post("/tokenize", json=wish).json()["tokens"]
    return answer


def text_of_llama(client: httpx.Client, prompt: str, tokens: int) -> str:
    wish = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "cache_prompt": False}
    answer = client.post("/completion", json=wish).json()
    assert "content" in answer, answer
    return str(answer["content"])


def text_of_hugging_face(model: Any, tokenizer: Any, prompt: str, tokens: int) -> str:
    ids = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        out = model.generate(
            **ids, max_new_tokens=tokens, do_sample=False, temperature=None, top_p=None, top_k=None
        )
    new = out[0][ids["input_ids"].shape[1] :]
    return str(tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def chat(text: str) -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def load(base: Path) -> tuple[Any, Any]:
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(base)


@pytest.fixture(scope="module")
def mini_in_llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with llama(written(MINI, tmp_path_factory.mktemp("mini") / "mini.gguf", "f32")) as client:
        yield client


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_ids_of_the_embedded_base(mini_in_llama: httpx.Client, text: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINI)
    assert ids_of_llama(mini_in_llama, text) == tokenizer(text)["input_ids"]


PROMPTS = ["请写一首含有以下意象的七言绝句明月、秋风", "祝姐姐生日快乐，小红书风格", "你好"]


def test_greedy_text_of_the_embedded_base(mini_in_llama: httpx.Client) -> None:
    model, tokenizer = load(MINI)
    for prompt in map(chat, PROMPTS):
        expected = text_of_hugging_face(model, tokenizer, prompt, 40)
        assert text_of_llama(mini_in_llama, prompt, 40) == expected


def test_eight_bits_begin_as_the_original_does(tmp_path: Path) -> None:
    """Rounding to 8 bits may change a later choice between near equals, not the first ones."""
    model, tokenizer = load(MINI)
    with llama(written(MINI, tmp_path / "mini.gguf", "q8_0")) as client:
        same = 0
        for prompt in map(chat, PROMPTS):
            expected = text_of_hugging_face(model, tokenizer, prompt, 8)
            same += text_of_llama(client, prompt, 8) == expected
    assert same >= 2


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-qwen2", "tiny-qwen2-tied"])
def test_next_token_of_tiny_models(models: Path, tmp_path: Path, model: str) -> None:
    base = models / model
    reference, tokenizer = load(base)
    with llama(written(base, tmp_path / "x.gguf", "f32")) as client:
        for prompt in ("床前明月光", "Hello there, 12", "处处闻啼鸟"):
            assert ids_of_llama(client, prompt) == tokenizer(prompt)["input_ids"]
            expected = text_of_hugging_face(reference, tokenizer, prompt, 6)
            assert text_of_llama(client, prompt, 6) == expected


def test_the_chat_template_and_the_ends_travel_with_the_file(tmp_path: Path) -> None:
    reader = GGUFReader(written(MINI, tmp_path / "mini.gguf", "q8_0"))
    fields = {name: field.contents() for name, field in reader.fields.items()}
    template = (MINI / "chat_template.jinja").read_text(encoding="utf-8")
    assert fields["tokenizer.chat_template"] == template
    tokens = fields["tokenizer.ggml.tokens"]
    assert tokens[fields["tokenizer.ggml.eos_token_id"]] == "<|im_end|>"
    assert fields["tokenizer.ggml.add_bos_token"] is False
    kinds = {tensor.tensor_type for tensor in reader.tensors}
    assert kinds == {GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0}


def test_eight_bit_blocks_are_those_of_the_gguf_package() -> None:
    values = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    values[3] = 0
    values[4, :32] = 127.5
    ours = to_q8_0(values.copy())
    theirs = quantize(values, GGMLQuantizationType.Q8_0)
    assert ours.tobytes() == theirs.tobytes()
    back = dequantize(theirs, GGMLQuantizationType.Q8_0)
    assert np.abs(back - values).max() <= np.abs(values).max() / 127


def test_heads_are_interleaved() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    assert interleaved(rows, 4).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
