"""Gradio's own labels in the page's language: it follows the browser's, which may be another one.

Whatever the browser's language, Gradio is given its English words; `labels.js` says each of them
in the language of the page, and again whenever either is drawn anew. Pure.
"""

from __future__ import annotations

from serve.ui.texts import Texts

WORDS = {
    "chatbot.retry": "Retry",
    "chatbot.edit": "Edit",
    "chatbot.submit": "Submit",
    "chatbot.cancel": "Cancel",
    "chatbot.like": "Like",
    "chatbot.dislike": "Dislike",
    "chatbot.clear": "Clear",
    "chatbot.copy_message": "Copy message",
    "chatbot.copied_message": "Copied message",
}
"""What Gradio calls them by, and how it says them in English."""

LOST = "Connection to the server was lost. Attempting reconnection..."
"""What Gradio says, in English only, until the page's server is there again."""

LOCALES = (
    "ar", "ca", "ckb", "de", "en", "es", "et", "eu", "fa", "fi", "fr", "he", "hi", "id", "ja", "ko",
    "lt", "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sv", "ta", "th", "tr", "uk", "ur", "uz",
    "zh-CN", "zh-TW",
)  # fmt: skip
"""The languages that Gradio knows."""


def labels(words: Texts) -> dict[str, str]:
    """Gradio's English → the page's language; what ends in a blank is only how a label begins."""
    return {
        "Retry": words.retry,
        "Edit": words.edit,
        "Submit": words.send,
        "Cancel": words.cancel,
        "Like": words.like,
        "Dislike": words.dislike,
        "Clear": words.clear,
        "Copy message": words.copy,
        "Copied message": words.copied,
        "chatbot conversation": words.conversation,
        "user's message: ": words.you_said,
        "bot's message: ": words.it_said,
        "number input for ": "",
        "range slider for ": "",
        "Close": words.close,
        LOST: words.lost,
    }
