"""Anthropic's Messages: requests to chat completions, answers back."""

from serve.gateway.surfaces.messages.asking import translate
from serve.gateway.surfaces.messages.failure import envelope

REQUEST_ID = b"request-id"
VERSION = "anthropic-version"
"""The header by which Anthropic's clients are known."""
VERSIONS = "2023-06-01"
"""The one value it has had since."""

__all__ = ["REQUEST_ID", "VERSION", "VERSIONS", "envelope", "translate"]
