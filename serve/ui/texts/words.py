"""What the page says, by name; each language fills in every one of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Texts:
    """The page's words in one language; braces are filled in by `str.format`."""

    # the house and its assistants
    tagline: str
    choose: str
    all_assistants: str
    states: dict[str, str]
    house_gone: str
    house_locked: str
    house_empty: str
    lost: str
    unknown: str
    stands_alone: str
    remembers: str
    views_label: str
    chat_view: str
    pair_view: str
    status_view: str
    other_language: str
    theme: str
    leave: str

    # a conversation
    examples: str
    begin: str
    answering: str
    message: str
    placeholder: str
    typed_placeholder: str
    preview: str
    send: str
    stop: str
    clear: str
    copy: str
    copied: str
    retry: str
    edit: str
    cancel: str
    like: str
    dislike: str
    you_said: str
    it_said: str
    surprise: str
    keys: str
    conversation: str
    own_value: str

    # what can become of an answer
    loading: str
    loading_usual: str
    thinking: str
    gave_up: str
    gone: str
    locked: str
    too_long: str
    broke_off: str
    unknown_model: str
    busy: str
    slow: str
    refused: str
    failed: str
    empty: str
    cut_short: str
    stopped: str

    # the drawer of settings
    settings: str
    close: str
    temperature: str
    temperature_info: str
    top_p: str
    top_p_info: str
    max_tokens: str
    max_tokens_info: str
    system: str
    system_replace: str
    system_append: str
    system_refuse: str
    system_none: str
    system_more: str
    reset: str

    # praise and blame
    feedback_on: str
    word: str
    word_placeholder_up: str
    word_placeholder_down: str
    word_send: str
    kept: str
    not_kept: str

    # two side by side
    pair_title: str
    pair_about: str
    left: str
    right: str
    first_token: str
    speed: str
    tokens: str
    per_second: str
    in_out: str
    same: str

    # the state of the house
    status_title: str
    status_about: str
    status_none: str
    status_locked: str
    assistant: str
    state: str
    replicas: str
    why: dict[str, str]
    cut_off: str
    in_flight: str
    queue: str
    tokens_now: str
    first_now: str
    errors_now: str
    tokens_chart: str
    first_chart: str
    errors_chart: str
    time: str

    # the way in
    sign_in: str
    user_name: str
    password: str
    wrong_password: str
    not_let_in: str
