"""Other layouts and other tokenizers in llama.cpp: the same ids, the same greedy tokens."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import httpx
import pytest
from gguf import GGUFReader

from convert.errors import UnsupportedError
from convert.gguf import model as gguf
from convert.gguf.tokenizer import read_vocabulary
from convert.merge.merged import merged
from convert.relayout import bpe
from convert.run import build
from tests.convert.making import house, llama
from tests.convert.test_gguf import TEXTS, ids_of_llama, written

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # transformers warns of itself
    pytest.mark.usefixtures("any_model"),
]

TINY = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 512, "head_dim": 32,
    "eos_token_id": 2, "tie_word_embeddings": False,
}  # fmt: skip
PROMPTS = ("床前明月光", "Hello there, 12", "处处闻啼鸟，夜来风雨声")


def random_model(kind: str, tokenizer: Path, folder: Path, **changes: Any) -> Path:
    """A model of that kind with random weights, norms and biases, and that folder's tokenizer."""
    torch.manual_seed(3)
    config = getattr(transformers, f"{kind}Config")(**TINY | changes)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
        else:
            parameter.data *= 4
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (tokenizer / name).exists():
            shutil.copyfile(tokenizer / name, folder / name)
    return folder


def greedy(model: Any, ids: list[int], tokens: int) -> list[int]:
    out = list(ids)
    with torch.no_grad():
        for _ in range(tokens):
            out.append(int(model(torch.tensor([out])).logits[0, -1].argmax()))
            if out[-1] == 2:
                break
    return out[len(ids) :]


def greedy_of_llama(client: httpx.Client, ids: list[int], tokens: int) -> list[int]:
    wish = {"prompt": ids, "n_predict": tokens, "temperature": 0, "return_tokens": True,
            "cache_prompt": False, "samplers": ["temperature"]}  # fmt: skip
    answer: list[int] = client.post("/completion", json=wish).json()["tokens"]
    return answer


def assert_same(base: Path, reference: Any, path: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    reference = reference.float().eval()
    with llama(written(base, path, "f32")) as client:
        for prompt in PROMPTS:
            ids = tokenizer.encode(prompt).ids
            assert ids_of_llama(client, prompt) == ids
            assert greedy_of_llama(client, ids, 24) == greedy(reference, ids, 24)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Llama", {"attention_bias": True}),
        ("Llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
        ("Qwen2", {}),
        ("Qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
        ("Qwen3", {"head_dim": 64}),
        ("Qwen3", {"tie_word_embeddings": True}),
    ],
)
def test_a_random_model_says_the_same(
    models: Path, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    base = random_model(kind, models / "tiny-qwen2", tmp_path / "base", **changes)
    reference = transformers.AutoModelForCausalLM.from_pretrained(base)
    assert_same(base, reference, tmp_path / "x.gguf")


def as_llama(base: Path) -> Any:
    """InternLM2's weights in transformers' Llama, which computes the same."""
    from safetensors.torch import load_file

    config = json.loads((base / "config.json").read_text())
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    hidden, head = config["hidden_size"], config["hidden_size"] // heads
    state: dict[str, Any] = {}
    for path in base.glob("*.safetensors"):
        for name, tensor in load_file(path).items():
            if "wqkv" not in name:
                state[name] = tensor
                continue
            fused = tensor.reshape(groups, heads // groups + 2, head, hidden)
            for what, part in (("q", fused[:, :-2]), ("k", fused[:, -2]), ("v", fused[:, -1])):
                key = name.replace("attention.wqkv", f"self_attn.{what}_proj")
                state[key] = part.reshape(-1, hidden)
    renamed = {
        "tok_embeddings": "embed_tokens", "attention.wo": "self_attn.o_proj",
        "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "feed_forward.w1": "mlp.gate_proj", "feed_forward.w3": "mlp.up_proj",
        "feed_forward.w2": "mlp.down_proj",
    }  # fmt: skip
    for old, new in renamed.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    state["lm_head.weight"] = state.pop("output.weight")
    wanted = {k: config[k] for k in TINY if k in config} | {"rms_norm_eps": config["rms_norm_eps"]}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**wanted))
    model.load_state_dict(state)
    return model


def test_internlm2_with_fused_projections(models: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(models / "tiny-internlm2", base)
    config = json.loads((base / "config.json").read_text())
    config["rope_scaling"] = {"type": "dynamic", "factor": 2.0}  # as the published 7B has it
    (base / "config.json").unlink()
    (base / "config.json").write_text(json.dumps(config))
    assert_same(base, as_llama(base), tmp_path / "x.gguf")


def test_the_manifest_counts_the_tensors_of_the_file(models: Path, tmp_path: Path) -> None:
    """`hanlin verify` holds one against the other; a fused tensor comes apart into three."""
    assistants = house(tmp_path / "assistants", base=str(models / "tiny-internlm2"))
    (done,) = build(assistants, engine="llamacpp", workspaces=tmp_path / "workspaces")
    told = json.loads((done.folder / "manifest.json").read_text())["tensors"]["count"]
    assert told == len(GGUFReader(done.folder / "model.gguf").tensors)


def test_a_fused_tensor_of_another_shape_is_refused(models: Path) -> None:
    base = models / "tiny-internlm2"
    with merged(base, None) as (source, config), pytest.raises(UnsupportedError, match="wqkv"):
        gguf.plan(source, {**config, "num_attention_heads": 2, "head_dim": 48}, base, "f32")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"use_sliding_window": True}, "sliding window"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"architectures": ["Qwen3ForCausalLM"], "attention_bias": True}, "attention biases"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 4}}, "longrope"),
    ],
)
def test_what_llama_cpp_would_not_compute_is_refused(
    models: Path, change: dict[str, Any], match: str
) -> None:
    base = models / "tiny-qwen2"
    with merged(base, None) as (source, config), pytest.raises(UnsupportedError, match=match):
        gguf.plan(source, {**config, **change}, base, "f32")


# --- SentencePiece ---------------------------------------------------------------------------


def pieces() -> tuple[dict[str, int], list[str]]:
    """A small vocabulary with bytes and the unions it learned, in their order."""
    learned = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    learned.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=800, special_tokens=specials, show_progress=False
    )
    texts = [t for t in TEXTS if "<" not in t] + [
        "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"
    ]
    learned.train_from_iterator(texts * 3, trainer)
    model = json.loads(learned.to_str())["model"]
    unions = list(dict.fromkeys("".join(pair) for pair in model["merges"]))
    return model["vocab"], unions


def sentencepiece_folder(folder: Path, *, prefix: bool) -> Path:
    """What Llama 2 (with a prefix) and InternLM2 (without) have, on random weights."""
    vocab, unions = pieces()
    folder.mkdir()
    known = {t: i for t, i in vocab.items() if i >= 259}
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    steps = [{"type": "Prepend", "prepend": "▁"}, spaces] if prefix else [spaces]
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    found = bpe.tokenizer(
        added_tokens=[bpe.special(text, vocab[text]) for text in ("<unk>", "<s>", "</s>")],
        normalizer={"type": "Sequence", "normalizers": steps},
        post_processor={
            "type": "TemplateProcessing", "pair": [],
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        model=bpe.model(
            vocab, bpe.merges(unions, known), unk_token="<unk>", fuse_unk=True, byte_fallback=True
        ),
    )  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(found), encoding="utf-8")
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    model = random_model("Llama", folder, folder / "model", vocab_size=len(vocab) + 5)
    (folder / "tokenizer.model").write_bytes(as_protobuf(vocab, unions, prefix=prefix))
    return model


def field(number: int, value: bytes | int | float) -> bytes:
    """One field of a protocol buffer message."""
    if isinstance(value, bytes):
        return bytes([*varint(number << 3 | 2), *varint(len(value))]) + value
    if isinstance(value, float):
        return bytes(varint(number << 3 | 5)) + struct.pack("<f", value)
    return bytes([*varint(number << 3), *varint(value)])


def varint(value: int) -> list[int]:
    out = []
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return [*out, value]


def as_protobuf(vocab: dict[str, int], unions: list[str], *, prefix: bool) -> bytes:
    order = {union: -float(i + 1) for i, union in enumerate(unions)}
    kinds = {"<unk>": 2, "<s>": 3, "</s>": 3}
    out = b""
    for token in sorted(vocab, key=vocab.__getitem__):
        kind = kinds.get(token, 6 if vocab[token] < 259 else 1)
        piece = field(1, token.encode()) + field(2, order.get(token, 0.0)) + field(3, kind)
        out += field(1, piece)
    out += field(2, field(3, 2) + field(35, 1))
    return out + field(3, field(3, int(prefix)) + field(4, 0))


@pytest.mark.parametrize("prefix", [True, False])
def test_ids_of_a_sentencepiece_tokenizer(tmp_path: Path, prefix: bool) -> None:
    base = sentencepiece_folder(tmp_path / "x", prefix=prefix)
    tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    with llama(written(base, tmp_path / "x.gguf", "f32")) as client:
        for text in [*TEXTS, "<s>after", "a</s> b", "春眠不觉晓 处处"]:
            assert ids_of_llama(client, text) == tokenizer.encode(text).ids, text


@pytest.mark.parametrize("prefix", [True, False])
def test_both_files_of_a_sentencepiece_tokenizer_say_the_same(tmp_path: Path, prefix: bool) -> None:
    base = sentencepiece_folder(tmp_path / "x", prefix=prefix)
    size = json.loads((base / "config.json").read_text())["vocab_size"]
    of_json = read_vocabulary(base, size)
    (base / "tokenizer.json").unlink()
    shutil.copyfile(tmp_path / "x" / "tokenizer.model", base / "tokenizer.model")
    assert read_vocabulary(base, size) == of_json


def test_merges_that_scores_cannot_say_are_refused(tmp_path: Path) -> None:
    base = sentencepiece_folder(tmp_path / "x", prefix=True)
    path = base / "tokenizer.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    merges = found["model"]["merges"]
    by_union: dict[str, int] = {}
    for left, right in merges:
        by_union[left + right] = by_union.get(left + right, 0) + 1
    twice = next(union for union, count in by_union.items() if count > 1)
    kept = next(i for i, pair in enumerate(merges) if "".join(pair) == twice)
    found["model"]["merges"] = merges[:kept] + merges[kept + 1 :]
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(UnsupportedError, match="would join"):
        read_vocabulary(base, 10_000)
    found["model"]["merges"] = [*merges[:kept], *merges[kept + 1 :], merges[kept]]
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(UnsupportedError, match="do not stand together"):
        read_vocabulary(base, 10_000)
