"""What an assistant may say of itself: the types behind `assistants/*.yaml`.

Every type is frozen and refuses unknown keys. `python -m assistants --write` generates
`schema.json`, which gives editors completion and checks.
"""

from __future__ import annotations

import json
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from assistants import base_url, weights
from assistants.template import MESSAGE, placeholders, require_all, require_names

SCHEMA_FILE = Path(__file__).with_name("schema.json")

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"

MOST = 2**31 - 1
"""Engines read whole numbers as C's int."""


class Frozen(BaseModel):
    """A value: never changed once read, and never silently more than it declares."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


WeightsRef = Annotated[
    weights.Weights,
    BeforeValidator(lambda value: weights.parse(value) if isinstance(value, str) else value),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "description": "A local path, an embedded base, hf://owner/name@revision, "
            "modelscope://owner/name@revision, or pypi://package==version/member#sha256=…",
        }
    ),
]


class Text(Frozen):
    """A short text in Chinese and English; one plain string serves for both."""

    zh: str = Field(min_length=1)
    en: str = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        return {"zh": value, "en": value} if isinstance(value, str) else value

    def get(self, language: str) -> str:
        """The text in `language` ("zh…" or anything else for English)."""
        return self.zh if language.startswith("zh") else self.en


class History(StrEnum):
    """How much of a conversation the engine is sent."""

    none = "none"
    """Each turn stands alone: system prompt and the last user message."""
    full = "full"
    """The conversation as the client sent it."""


class ClientSystem(Enum):
    """What happens to a system message of the client's own."""

    replace = "replace"
    """It takes the place of the assistant's."""
    append = "append"
    """It follows the assistant's, in the same message."""
    refuse = "refuse"
    """The request is answered with an error that says so."""


class Unsupported(StrEnum):
    """What happens to a field that the engine would ignore without a word."""

    refuse = "refuse"
    """The request is answered with an error that names it."""
    drop = "drop"
    """It is left out, as the engine would."""


class Start(StrEnum):
    """When an assistant's engine is started."""

    at_once = "at_once"
    on_demand = "on_demand"


class Sampling(Frozen):
    """Defaults for what a request leaves out; a client's own value wins, within `limits`."""

    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=MOST)
    top_k: int | None = Field(None, ge=1, le=MOST)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    seed: int | None = None
    stop: tuple[str, ...] = Field((), max_length=16)


class Limits(Frozen):
    """What one assistant lets in: requests at once, requests waiting, tokens per answer."""

    concurrency: int = Field(64, ge=1, le=MOST)
    queue: int = Field(256, ge=0, le=MOST)
    queue_seconds: float = Field(30, gt=0, description="How long a request may wait for its turn.")
    max_tokens: int | None = Field(
        None, ge=1, le=MOST, description="The most a client may ask for."
    )


class Timeouts(Frozen):
    """How many seconds an engine may take; which of them ran out, the client is told."""

    connect: float = Field(2, gt=0, description="For a connection.")
    first_byte: float = Field(60, gt=0, description="Until a stream begins.")
    between: float = Field(30, gt=0, description="From one token of a stream to the next.")
    total: float = Field(600, gt=0, description="For all of it, every try included.")


class Control(Frozen):
    """One thing the page offers, rendered into the prompt exactly as the model was trained."""

    title: Text | None = None
    choices: dict[str, str] | None = Field(
        None, description="What is shown, and what stands for it in the prompt."
    )
    free: bool = Field(False, description="Whether a value of one's own may be typed.")
    default: str | None = None

    @field_validator("choices", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {str(item): str(item) for item in value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _offers_something(self) -> Self:
        if not self.choices and not self.free:
            raise ValueError("a control needs 'choices', or 'free: true' to be typed into")
        if self.default is not None and not self.free and self.default not in (self.choices or {}):
            raise ValueError(f"the default '{self.default}' is not among the choices")
        return self

    def render(self, value: str) -> str:
        """The piece of prompt for what was chosen or typed.

        Raises:
            ValueError: a value that is not among the choices of a control that is not free.
        """
        if self.choices and value in self.choices:
            return self.choices[value]
        if not self.free:
            raise ValueError(f"'{value}' is not among {', '.join(self.choices or {})}")
        return value.strip()

    @property
    def start_value(self) -> str:
        """What the control shows before anybody touched it."""
        return self.default if self.default is not None else next(iter(self.choices or {}), "")


class Model(Frozen):
    """The fine-tune, the same whatever engine serves it."""

    base: WeightsRef
    adapter: WeightsRef | None = None


class Turbomind(Frozen):
    """How LMDeploy's TurboMind serves it; the names are those of `lmdeploy serve api_server`."""

    quantize: Literal["none", "awq"] = "none"
    calibration: str | None = Field(
        None,
        min_length=1,
        description="Dialogues (JSONL) that 4-bit weights are fitted to; by default "
        "calibration/NAME.jsonl beside the declaration.",
    )
    session_len: int = Field(4096, ge=1, le=MOST)
    quant_policy: Literal[0, 4, 8] = 0
    tp: int = Field(1, ge=1, le=MOST)
    cache_max_entry_count: float = Field(0.8, gt=0, lt=1)
    max_batch_size: int = Field(128, ge=1, le=MOST)


class Llamacpp(Frozen):
    """How the embedded llama.cpp engine serves it."""

    type: Literal["q8_0", "f16", "f32"] = "q8_0"
    threads: int = Field(1, ge=1, le=MOST)
    context: int = Field(1024, ge=64, le=MOST, description="Tokens per conversation.")
    parallel: int = Field(
        4, ge=1, le=MOST, description="Conversations at once; each has its own context."
    )


class Assistant(Frozen):
    """One assistant: the name a client sends as `model`, and all that stands behind it."""

    name: str = Field(pattern=NAME_PATTERN)
    aliases: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    title: Text
    description: Text
    system: str | None = None
    client_system: ClientSystem = ClientSystem.replace
    history: History = History.full
    unsupported: Unsupported = Unsupported.refuse
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    examples: tuple[str, ...] = ()
    controls: dict[str, Control] = {}
    prompt: str | None = Field(
        None,
        description="How the controls make a prompt: {control} for each, {message} for typed text.",
    )
    model: Model
    turbomind: Turbomind = Turbomind()
    llamacpp: Llamacpp = Llamacpp()
    start: Start = Start.at_once
    pinned: bool = Field(
        False, description="Whether its engine stays when others need room; it may push them out."
    )
    upstreams: tuple[str, ...] = Field(
        (), description="Base URLs of engines run elsewhere; then nothing is started for it."
    )

    @field_validator("controls")
    @classmethod
    def _can_be_placeholders(cls, value: dict[str, Control]) -> dict[str, Control]:
        require_names(value)
        return value

    @field_validator("prompt")
    @classmethod
    def _names_its_controls(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and "controls" in info.data:  # or what is wrong with them comes first
            require_all(value, info.data["controls"])
        return value

    @field_validator("upstreams")
    @classmethod
    def _can_be_asked(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(base_url.checked, value))

    @property
    def template(self) -> str:
        """The prompt template; by default what was typed, then each control in its order."""
        if self.prompt is not None:
            return self.prompt
        return "".join(f"{{{name}}}" for name in (MESSAGE, *self.controls))

    @property
    def typed(self) -> bool:
        """Whether the prompt takes what a person types, beside what the controls stand for."""
        return MESSAGE in placeholders(self.template)


def json_schema() -> str:
    """The JSON Schema of a declaration file, as the text of `schema.json`."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Assistant.model_json_schema(),
    }
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"
