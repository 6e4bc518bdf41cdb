"""Answers many prompts at once with the base, with or without an adapter."""

from __future__ import annotations

from pathlib import Path

import torch
from chats import TEMPLATE
from peft import PeftModel
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


class Model:
    """A base, with or without an adapter, that answers many prompts at once."""

    def __init__(self, base: Path, adapter: Path | None, system: str) -> None:
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
        self.tokenizer.padding_side = "left"
        self.tokenizer.chat_template = TEMPLATE
        model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
        self.model = PeftModel.from_pretrained(model, adapter) if adapter else model
        self.system = system

    def answers(self, chats: list[list[str]], temperature: float, longest: int = 400) -> list[str]:
        """Answers to dialogues given as alternating turns; temperature 0 is greedy."""
        found: list[str] = []
        for start in range(0, len(chats), 40):
            found += self.batch(chats[start : start + 40], temperature, longest)
        return found

    def batch(self, chats: list[list[str]], temperature: float, longest: int) -> list[str]:
        """Answers to one batch."""
        roles = ("user", "assistant")
        texts = []
        for turns in chats:
            messages = [{"role": roles[i % 2], "content": t} for i, t in enumerate(turns)]
            if self.system:
                messages.insert(0, {"role": "system", "content": self.system})
            texts.append(
                self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True
                )
            )
        batch = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        sampling = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_p": 0.8, "top_k": 0}
        with torch.no_grad():
            out = self.model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=longest,
                eos_token_id=[5, 3],
                pad_token_id=3,
                **sampling,
            )
        new = out[:, batch["input_ids"].shape[1] :]
        return [self.tokenizer.decode(row, skip_special_tokens=True) for row in new]
