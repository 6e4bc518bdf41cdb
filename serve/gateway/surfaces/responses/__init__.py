"""OpenAI's Responses: how a request for one is read, asked as a chat, and answered."""

from serve.gateway.surfaces.responses.asking import translate
from serve.gateway.surfaces.responses.failure import envelope

__all__ = ["envelope", "translate"]
