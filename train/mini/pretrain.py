"""Trains hanlin-mini from random weights for a given number of minutes on a few CPU cores.

Each process has one thread and takes the next two rows of the batch when it is free, so a
core that other programs keep busy slows the run only by what it loses, not to its own pace.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as multiprocessing
from model import Mini, Shape
from optimise import adam, muon
from torch import Tensor

ROWS, ROWS_AT_ONCE = 16, 2
WARM_UP_STEPS = 60
MATRIX_RATE, OTHER_RATE = 0.02, 4e-3
SAVE_SECONDS = 240


@dataclass
class Shared:
    """What the processes share: weights, one gradient set each, moments and counters."""

    weights: list[Tensor]
    gradients: list[list[Tensor]]
    moments: list[Tensor]
    losses: Tensor
    control: Tensor  # rate, step, stop
    batch_counter: Any
    update_counter: Any
    barrier: Any


class Rows:
    """Packed rows in a random order that every process computes alike."""

    def __init__(self, path: Path, seed: int) -> None:
        data = np.load(path)
        self.data = [data[key] for key in ("tokens", "documents", "weights")]
        self.seed = seed
        self.passed, self.order = -1, np.empty(0, dtype=np.int64)

    def batch(self, step: int) -> np.ndarray:
        """Indices of the rows of one step."""
        per_pass = len(self.data[0]) // ROWS
        if step // per_pass != self.passed:
            self.passed = step // per_pass
            rng = np.random.default_rng([self.seed, self.passed])
            self.order = rng.permutation(len(self.data[0]))
        start = step % per_pass * ROWS
        return self.order[start : start + ROWS]

    def part(self, step: int, index: int) -> tuple[Tensor, Tensor, Tensor, float]:
        """A few rows of a batch, and the sum of the weights of the whole batch."""
        rows = self.batch(step)
        total = float(self.data[2][rows][:, 1:].sum())
        rows = rows[index * ROWS_AT_ONCE : (index + 1) * ROWS_AT_ONCE]
        tokens, documents, weights = (array[rows] for array in self.data)
        return (
            torch.from_numpy(tokens.astype(np.int64)),
            torch.from_numpy(documents.astype(np.int64)),
            torch.from_numpy(weights.astype(np.float32)),
            total,
        )


def take(counter: Any) -> int:
    """The next number of a counter shared by the processes."""
    with counter.get_lock():
        counter.value += 1
        return int(counter.value) - 1


def rate(step: int, done: float) -> float:
    """Share of the full learning rate: linear warm-up, then cosine over the wall clock."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class Trainer:
    """One process of the training run; the first also keeps the clock, log and checkpoints."""

    def __init__(self, rank: int, shared: Shared, options: argparse.Namespace) -> None:
        torch.set_num_threads(1)
        self.rank, self.shared, self.options = rank, shared, options
        self.model = Mini(Shape())
        self.names = [name for name, _ in self.model.named_parameters()]
        gradients = shared.gradients[rank]
        for at, parameter in enumerate(self.model.parameters()):
            parameter.data = shared.weights[at]
            parameter.grad = gradients[at]
        sizes = [weight.numel() for weight in shared.weights]
        self.order = sorted(range(len(sizes)), key=lambda at: -sizes[at])
        self.loss = torch.compile(self.model.loss_sum)
        self.rows = Rows(options.work / "train.npz", options.seed)

    def gradients(self, step: int) -> None:
        """Add the gradients of as many parts of the batch as this process can take."""
        shared = self.shared
        for gradient in shared.gradients[self.rank]:
            gradient.zero_()
        while (index := take(shared.batch_counter)) < ROWS // ROWS_AT_ONCE:
            tokens, documents, weights, total = self.rows.part(step, index)
            with torch.autocast("cpu", torch.bfloat16):
                loss = self.loss(tokens, documents, weights) / total
            loss.backward()
            shared.losses[index] = loss.detach()

    def updates(self, step: int, share: float) -> None:
        """Update as many parameters as this process can take."""
        shared = self.shared
        while (turn := take(shared.update_counter)) < len(self.order):
            at = self.order[turn]
            weight, moments = shared.weights[at], shared.moments[at]
            gradient = torch.stack([own[at] for own in shared.gradients]).sum(0)
            if weight.ndim == 2 and "embed" not in self.names[at]:
                muon(weight, gradient, moments, MATRIX_RATE * share)
            else:
                adam(weight, gradient, moments, OTHER_RATE * share, step)

    def run(self) -> None:
        """Train until the first process says stop."""
        clock = Clock(self) if self.rank == 0 else None
        while True:
            if clock:
                clock.before_step()
            self.shared.barrier.wait()
            share, step, stop = self.shared.control.tolist()
            if stop:
                return
            self.gradients(int(step))
            self.shared.barrier.wait()
            self.updates(int(step), share)
            self.shared.barrier.wait()


class Clock:
    """The extra duties of the first process: the schedule, the log, validation and checkpoints."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.work = trainer, trainer.options.work
        self.log = (self.work / "train.log").open("a", encoding="utf-8")
        self.valid = Rows(self.work / "valid.npz", 0)
        self.step = -1
        self.mean = 0.0
        self.start = self.saved = time.time()
        count = sum(weight.numel() for weight in trainer.shared.weights)
        self.note(f"parameters {count} shape {vars(trainer.model.shape)}")

    def note(self, text: str) -> None:
        """Add a line to the log."""
        self.log.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        self.log.flush()

    def before_step(self) -> None:
        """Finish the last step and set rate, step and stop of the next one."""
        shared, now = self.trainer.shared, time.time()
        if self.step >= 0:
            self.after_step(now)
        self.step += 1
        shared.batch_counter.value = shared.update_counter.value = 0
        done = (now - self.start) / (self.trainer.options.minutes * 60)
        share = rate(self.step, done)
        shared.control.copy_(torch.tensor([share, self.step, float(done >= 1)]))
        if done >= 1:
            self.save()
            self.note(f"end step {self.step} loss {self.mean:.3f} valid {self.validate():.3f}")
            (self.work / "finished").touch()

    def after_step(self, now: float) -> None:
        """Log the loss, and save and validate from time to time."""
        loss = float(self.trainer.shared.losses.sum())
        self.mean = loss if self.step == 0 else 0.98 * self.mean + 0.02 * loss
        tokens = (self.step + 1) * ROWS * 256
        if (self.step + 1) % 25 == 0:
            speed = tokens / (now - self.start)
            self.note(
                f"step {self.step + 1} loss {self.mean:.3f} tokens {tokens} tok/s {speed:.0f}"
            )
        if now - self.saved > SAVE_SECONDS:
            self.save()
            self.note(f"step {self.step + 1} valid {self.validate():.3f}")
            self.saved = time.time()

    def validate(self) -> float:
        """Loss on the first held-out rows, with the compiled graph of training."""
        losses = []
        for index in range(ROWS // ROWS_AT_ONCE):
            tokens, documents, weights, total = self.valid.part(0, index)
            with torch.autocast("cpu", torch.bfloat16):
                losses.append(float(self.trainer.loss(tokens, documents, weights).detach()) / total)
        return sum(losses)

    def save(self) -> None:
        """Write a checkpoint so that a stop never leaves half a file."""
        state = {"model": self.trainer.model.state_dict(), "step": self.step}
        torch.save(state, self.work / "checkpoint.partial")
        (self.work / "checkpoint.partial").replace(self.work / "checkpoint.pt")


def shared_memory(model: Mini, count: int, context: Any) -> Shared:
    """Weights of `model` and empty buffers in memory that all processes see."""

    def empty(*shape: int) -> Tensor:
        return torch.zeros(shape).share_memory_()

    weights = [p.detach().clone().share_memory_() for p in model.parameters()]
    return Shared(
        weights=weights,
        gradients=[[empty(*w.shape) for w in weights] for _ in range(count)],
        moments=[empty(2, *w.shape) for w in weights],
        losses=empty(ROWS // ROWS_AT_ONCE),
        control=torch.zeros(3, dtype=torch.float64).share_memory_(),
        batch_counter=context.Value("q", 0),
        update_counter=context.Value("q", 0),
        barrier=context.Barrier(count),
    )


def take_part(rank: int, shared: Shared, options: argparse.Namespace) -> None:
    """Entry point of one process."""
    Trainer(rank, shared, options).run()


def main() -> None:
    """Train and leave WORK/checkpoint.pt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--minutes", type=float, default=70.0)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    context = multiprocessing.get_context("spawn")
    shared = shared_memory(Mini(Shape()), options.processes, context)
    started = [
        context.Process(target=take_part, args=(rank, shared, options))
        for rank in range(options.processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()


if __name__ == "__main__":
    main()
