"""Components joined to acts: what a person does, and which act answers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from serve.ui.acts import Acts
from serve.ui.asking import Asking
from serve.ui.choosers import choosers
from serve.ui.drawer import dress_drawer
from serve.ui.house import Control
from serve.ui.layout import Layout
from serve.ui.pair.acts import PairActs

DRAFTED = "(text, about) => (about ?? '').includes(' data-typed>') ? text : ''"
"""What is typed where the prompt has a place for it, and nothing elsewhere."""

PROPOSED = "(...told) => window.hanlin.hands.proposed(...told)"
READY = "(...chats) => window.hanlin.hands.ready(...chats)"

OWN: Mapping[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "concurrency_limit": None,
}
"""A listener that any number of pages can use at once and no outside client can call."""


def on(triggers: Any, fn: Any, inputs: Any, outputs: Any, **more: Any) -> Any:
    """A listener of the page's own."""
    return gr.on(triggers, fn, inputs, outputs, **OWN, **more)


def join_conversation(page: Layout, asking: Asking) -> list[Any]:
    """Everything that is answered, and what ends an answer; returns what can be cancelled."""
    shown = [page.chat, page.message, page.why]
    answers = [
        submit(page.message, asking.ask, page.told, shown),
        on(page.chat.example_select, asking.ask_example, page.told, shown),
        on(page.chat.retry, asking.ask_again, page.told, shown),
        on(page.chat.edit, asking.ask_edited, page.told, shown),
        on(page.surprise.click, asking.surprise, page.told, shown),
    ]
    see_to(page.message, answers, [page.chat])
    on(page.message.stop, asking.stop, page.told, shown, cancels=answers)
    cleared = on(page.clear.click, asking.clear, page.told, shown, cancels=answers)
    propose(page, cleared.then(asking.propose, page.told, page.memory.proposed, **OWN))
    return answers


def see_to(box: gr.Textbox, answers: list[Any], chats: list[gr.Chatbot]) -> None:
    """What the browser sees to before and after an answer (hands.js)."""
    name = box.elem_id
    on(box.change, None, box, box, js=f"(text) => window.hanlin.hands.rest('{name}', text)")
    for answer in answers:
        answer.then(None, chats, box, js=READY, **OWN)


def submit(box: gr.Textbox, fn: Any, told: Any, shown: Any) -> Any:
    """What is written is asked; the browser notes what that was."""
    on(box.submit, None, box, None, js=f"(text) => window.hanlin.hands.send('{box.elem_id}', text)")
    return on(box.submit, fn, told, shown)


def propose(page: Layout, proposed: Any) -> None:
    """A prompt that was proposed is put into the message box, if it is wanted there."""
    told = [page.memory.proposed, page.memory.whose, page.message]
    proposed.then(None, told, page.message, js=PROPOSED, **OWN)


def join_judging(page: Layout, asking: Asking) -> None:
    """Thumbs, and the word that may follow."""
    shown = [page.why, page.word, page.memory.judged]
    on(page.chat.like, asking.judge, page.told, shown)
    on([page.word.submit, page.word_send.click], asking.explain, page.told, shown)


def join_places(blocks: gr.Blocks, page: Layout, acts: Acts, answers: list[Any]) -> None:
    """Opening the page, going elsewhere on it, changing language or light, time going by."""
    opened = [page.recalled, page.memory.here]
    on(blocks.load, acts.open, opened, page.dressed, js="() => [window.hanlin.tab.recall(), null]")
    on(
        [page.cards.click, page.brand.click],
        acts.cut,
        page.told,
        page.dressed,
        cancels=answers,
        trigger_mode="multiple",  # of two quick steps back, Gradio loses the second otherwise
    )
    on(page.bar.click, acts.go, page.told, page.dressed, trigger_mode="multiple")
    # The browser takes one step at a time (hands.js); these two begin at the bar (places.js).
    told = page.told | {side.chat for side in page.desk.sides}
    on(page.switch.click, None, None, None, js="() => window.hanlin.translate()")
    on(page.bar.select, acts.translate, told, page.dressed, trigger_mode="multiple")
    on(page.theme.click, None, None, None, js="() => window.hanlin.theme()")
    memory = page.memory
    on(page.tick.tick, acts.look, memory.seen, [memory.news, memory.lost])
    on(memory.lost.change, None, None, None, js="() => location.reload()")
    on(memory.news.change, None, None, None, js="() => window.hanlin.refresh()")
    on(page.bar.tick, acts.refresh, page.told, page.dressed, trigger_mode="multiple")
    on(page.board.tick.tick, acts.watch_on, memory.here, page.board.drawn)


def join_keeping(page: Layout) -> None:
    """Whatever is said, written or set is kept by the browser, for the tab (keep.js)."""
    left, right = page.desk.sides
    told: list[Any] = [
        *(page.memory.whose, page.chat, page.message, page.memory.picked),
        *(*page.drawer.sliders.all, page.drawer.system),
        *(left.pick, right.pick, left.chat, right.chat, page.desk.message),
    ]
    js = "(...told) => window.hanlin.tab.keep(...told)"
    on([part.change for part in told], None, told, None, js=js)


def join_drawer(page: Layout, acts: Acts) -> None:
    """Opening and closing it is the browser's own business; putting everything back is not."""
    drawer = page.drawer

    async def reset(told: dict[Any, Any]) -> dict[Any, Any]:
        memory = page.memory
        assistant = (await acts.house.glance()).get(told[memory.here].chosen)
        return dress_drawer(drawer, assistant, told[memory.here].language, drawn="")

    on(page.settings.click, None, None, None, js="() => window.hanlin.drawer()")
    on(drawer.reset.click, reset, page.told, drawer.dressed)


def join_controls(page: Layout, asking: Asking) -> None:
    """The chosen assistant's controls; whatever is picked becomes the prompt."""
    memory = page.memory

    def draw(offered: dict[str, Any] | None, picked: dict[str, dict[str, str]]) -> None:
        if offered is None:
            return
        name, language = offered["assistant"], offered["language"]
        controls = {key: Control.model_validate(c) for key, c in offered["controls"].items()}
        mine = picked.get(name, {})
        fields = choosers(controls, mine, language)

        # Gradio's `input` follows key presses only and misses what is pasted or written by an input
        # method; `change` also comes when a field is merely drawn, and is then passed over.
        drawn = [mine.get(key, control.default) for key, control in controls.items()]
        shown = gr.State(drawn)

        async def render(before: list[str], others: dict[str, Any], *values: Any) -> Any:
            now = [str(value or "") for value in values]
            if now == before:
                return (gr.skip(),) * 3
            named = dict(zip(controls, now, strict=True))
            prompt = {} if offered["typed"] else await asking.render(name, named)
            return now, {**others, name: named}, prompt

        picks = on(
            [field.change for field in fields],
            render,
            [shown, memory.picked, *fields],
            [shown, memory.picked, memory.proposed],
            trigger_mode="always_last",
        )
        propose(page, picks)

    with page.controls:
        gr.render(
            [memory.offered, memory.picked],
            triggers=[memory.offered.change],
            show_progress="hidden",
        )(draw)
    propose(page, on(memory.offered.change, asking.propose, page.told, memory.proposed))
    # The browser decides whether a key that is pressed is the server's business.
    drafted = [page.message.change, page.about.change]
    on(drafted, None, [page.message, page.about], page.drafted, js=DRAFTED)
    # One listener for all that the preview is made of: the last to come is told what is there then.
    # It stands outside of what is drawn: Gradio forgets who else listens to a component when
    # something that is drawn begins to.
    on(
        [memory.offered.change, memory.picked.change, page.drafted.change],
        asking.preview,
        {memory.offered, memory.picked, page.message},
        page.preview,
        trigger_mode="always_last",
    )


def join_pair(acts: PairActs, told: set[Any]) -> None:
    """Side by side."""
    desk = acts.desk
    sides = [part for side in desk.sides for part in (side.chat, side.figures)]
    shown = [*sides, desk.message]
    asked = [
        submit(desk.message, acts.ask, told, shown),
        on(desk.surprise.click, acts.surprise, told, shown),
    ]
    see_to(desk.message, asked, [side.chat for side in desk.sides])
    on(desk.message.stop, acts.stop, told, shown, cancels=asked)
    on(desk.clear.click, acts.clear, told, shown, cancels=asked)
    sampling = [desk.sampling, *desk.sliders.all]
    on(
        [side.pick.input for side in desk.sides],
        acts.pick,
        told,
        [*shown, *sampling, desk.head],
        cancels=asked,
    )
    on(desk.same.change, acts.share, told, sampling)
