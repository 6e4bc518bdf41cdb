"""Trains the LoRA adapter of one assistant on hanlin-mini."""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from adapter_chats import NAMES, training_chats
from chats import Chat
from pack import encode
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM

PAD, IGNORE = 3, -100
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LONGEST = 640


def groups(lengths: list[int], budget: int, rng: random.Random) -> list[list[int]]:
    """Chats of similar length in batches of about `budget` tokens, in random order."""
    order = sorted(range(len(lengths)), key=lambda at: lengths[at] + rng.random() * 12)
    result: list[list[int]] = [[]]
    for at in order:
        if result[-1] and (len(result[-1]) + 1) * lengths[at] > budget:
            result.append([])
        result[-1].append(at)
    rng.shuffle(result)
    return result


def collate(encoded: list[tuple[list[int], list[bool]]]) -> tuple[Tensor, Tensor]:
    """Right-padded token ids and labels."""
    longest = max(len(tokens) for tokens, _ in encoded)
    ids = torch.full((len(encoded), longest), PAD)
    labels = torch.full((len(encoded), longest), IGNORE)
    for at, (tokens, learn) in enumerate(encoded):
        row = torch.tensor(tokens)
        ids[at, : len(tokens)] = row
        labels[at, : len(tokens)] = torch.where(torch.tensor(learn), row, IGNORE)
    return ids, labels


def batches(options: argparse.Namespace, tokenizer: Tokenizer) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches; every round draws its chats anew."""
    rng = random.Random(options.seed)
    while True:
        items: list[Chat] = training_chats(options.name, options, rng)
        encoded = [encode(chat, tokenizer) for chat in items]
        encoded = [pair for pair in encoded if len(pair[0]) <= LONGEST]
        for group in groups([len(tokens) for tokens, _ in encoded], options.budget, rng):
            yield collate([encoded[at] for at in group])


def adapted(base: Path, rank: int, start: Path | None) -> PeftModel:
    """The base with an adapter on every linear layer, fresh or continued from `start`."""
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    if start:
        return PeftModel.from_pretrained(model, start, is_trainable=True)
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=PROJECTIONS,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def save(model: PeftModel, out: Path) -> None:
    """Write the adapter folder without any machine path."""
    model.peft_config["default"].base_model_name_or_path = "hanlin-mini"
    card = out / "README.md"
    kept = card.read_text(encoding="utf-8") if card.exists() else None
    model.save_pretrained(out, save_embedding_layers=False)
    (out / "adapter_model.safetensors").chmod(0o644)
    if kept is not None:
        card.write_text(kept, encoding="utf-8")


def train(options: argparse.Namespace) -> PeftModel:
    """Train for the given minutes with a cosine over the wall clock."""
    torch.manual_seed(options.seed)
    tokenizer = Tokenizer.from_file(str(options.base / "tokenizer.json"))
    model = adapted(options.base, options.rank, options.start)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=options.rate, weight_decay=0.0)
    start, mean, seen = time.time(), 0.0, 0
    for step, (ids, labels) in enumerate(batches(options, tokenizer)):
        done = (time.time() - start) / (options.minutes * 60)
        if done >= 1:
            print(f"{options.name} end step {step} loss {mean:.4f} tokens {seen}", flush=True)
            return model
        share = min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimiser.param_groups:
            group["lr"] = options.rate * share
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        seen += int((ids != PAD).sum())
        value = float(loss.detach())
        mean = value if step == 0 else 0.96 * mean + 0.04 * value
        if step % 50 == 0:
            print(f"{options.name} step {step} loss {mean:.4f} tokens {seen}", flush=True)
    raise AssertionError("the batches never end")


def main() -> None:
    """Train one adapter and write its folder."""
    here = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--base", type=Path, default=None, help="default: WORK/hanlin-mini")
    parser.add_argument("--out", type=Path, default=None, help="default: WORK/adapters/NAME")
    parser.add_argument("--start", type=Path, default=None, help="adapter folder to go on from")
    parser.add_argument("--assistants", type=Path, default=here / "assistants")
    parser.add_argument("--sui", type=Path, default=Path("sui_poems_dev.jsonl"))
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--budget", type=int, default=1600, help="tokens per batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261121)
    options = parser.parse_args()
    options.base = options.base or options.work / "hanlin-mini"
    torch.set_num_threads(options.threads)
    save(train(options), options.out or options.work / "adapters" / options.name)


if __name__ == "__main__":
    main()
