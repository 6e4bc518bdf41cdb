"""OpenAI's Responses: requests to chat completions, answers back."""

from serve.gateway.surfaces.responses.asking import translate
from serve.gateway.surfaces.responses.failure import envelope

__all__ = ["envelope", "translate"]
