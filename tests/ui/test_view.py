"""The page's own HTML and the two shapes of a conversation."""

from __future__ import annotations

import subprocess
import sys

from serve.ui import view
from serve.ui.conversation import answered, growing, place, plain, retold, spoken, stopped
from serve.ui.house import Assistant, Glance
from serve.ui.place import Place
from serve.ui.texts import EN, ZH
from tests.ui.conftest import ROOT

TEXT = {"zh": "名", "en": "Name"}
ODD = {"zh": "<b>名</b>", "en": "<script>x</script>"}


def house(**more: object) -> Glance:
    return Glance(
        (Assistant(id="wishes", title=TEXT, description=TEXT, aliases=("tianji",), **more),)
    )


def test_cards_are_links_and_the_chosen_one_is_marked() -> None:
    html = view.cards(house(), "tianji", "en")
    assert 'href="?assistant=wishes"' in html
    assert 'aria-current="page"' in html
    assert "<h2>" not in html
    assert "<h2>" in view.cards(house(), "", "en")


def test_what_an_assistant_says_of_itself_is_never_markup() -> None:
    glance = Glance((Assistant(id="a", title=ODD, description=ODD, system="<i>s</i>"),))
    for language in ("zh", "en"):
        html = view.cards(glance, "a", language) + view.about(glance.assistants[0], language)
        assert "<b>" not in html
        assert "<script>" not in html
        assert "<i>" not in html
    assert "<b>" not in view.notice("<b>")


def test_states_are_words_and_unknown_ones_read_unavailable() -> None:
    assert "asleep" in view.cards(house(state="stopped"), "", "en")
    assert "unavailable" in view.cards(house(state="exploded"), "", "en")
    assert "连接中断" in view.cards(house().lost(), "", "zh")


def test_a_house_in_trouble_says_so() -> None:
    assert "cannot be reached" in view.cards(Glance(trouble="gone"), "", "en")
    assert "no assistants here yet" in view.cards(Glance(), "", "en")
    assert "“nobody”" in view.cards(house(), "nobody", "en")


def test_about_says_whether_it_remembers_and_whether_thumbs_are_kept() -> None:
    alone = house(history="none").assistants[0]
    assert "does not remember" in view.about(alone, "en")
    assert "remembers this conversation" in view.about(house().assistants[0], "en")
    assert "kept on this server" not in view.about(alone, "en")
    assert "kept on this server" in view.about(alone, "en", feedback=True)


def test_two_of_one_title_are_told_apart_by_their_names() -> None:
    two = (*house().assistants, Assistant(id="wishes-awq", title=TEXT, description=TEXT))
    html = view.cards(Glance(two), "", "en")
    assert "Name · wishes<" in html
    assert "Name · wishes-awq<" in html
    assert "·" not in view.cards(house(), "", "en")


def test_a_bar_shows_how_much_is_done_and_is_never_sent() -> None:
    shown = view.notice("等", 0.5)
    assert '<progress value="0.5" max="1">' in shown
    assert spoken([{"role": "assistant", "content": shown}]) == []
    assert "progress" not in view.notice("等")
    assert 'value="1"' in view.notice("等", 1.7)


def test_the_address_of_a_place_leads_back_to_it() -> None:
    for place_ in (Place(), Place("pair"), Place("status"), Place(assistant="a b&c")):
        assert Place.at(place_.address) == place_
    assert Place.at("?view=nonsense&assistant=x&prompt=%E7%A5%9D") == Place("", "x", "祝")


def test_notices_and_empty_answers_are_never_sent() -> None:
    chat = [
        {"role": "user", "content": [{"type": "text", "text": "一"}]},
        *answered("答", "坏了"),
        {"role": "user", "content": "二"},
        *answered("", ""),
    ]
    assert spoken(chat) == [
        {"role": "user", "content": "一"},
        {"role": "assistant", "content": "答"},
        {"role": "user", "content": "二"},
    ]


def test_a_stopped_answer_keeps_its_text_and_replaces_a_notice() -> None:
    user = {"role": "user", "content": "一"}
    assert [plain(t) for t in stopped([user, *answered("半", "")], "停")] == [
        "一",
        "半",
        view.notice("停"),
    ]
    assert [plain(t) for t in stopped([user, *answered("", "等")], "停")] == [
        "一",
        view.notice("停"),
    ]
    assert [plain(t) for t in stopped([user], "停")] == ["一", view.notice("停")]


def test_the_pages_own_sentences_change_their_language_and_nothing_else_does() -> None:
    said = [{"role": "user", "content": ZH.stopped}, {"role": "assistant", "content": EN.busy}]
    told = [
        *said,
        *answered("半", ZH.stopped),
        *answered("", ZH.refused, "No <such> \n\n field."),
        *answered("", ZH.gave_up.format(seconds=120)),
        *answered("", "a sentence of an older page"),
    ]
    again = retold(told, EN)
    assert again == [
        *said,
        *answered("半", EN.stopped),
        *answered("", EN.refused, "No <such> field."),
        *answered("", EN.gave_up.format(seconds=120)),
        *answered("", "a sentence of an older page"),
    ]
    assert retold(again, EN) == again
    assert retold(growing("", EN.thinking.format(seconds=5)), ZH)[0]["content"] == view.notice(
        EN.thinking.format(seconds=5)
    )


def test_what_is_quoted_is_apart_and_never_markup() -> None:
    shown = view.notice("坏了。", quoted="<b> \n\n & x")
    assert shown == '<p class="hanlin-notice">坏了。<q lang="en">&lt;b&gt; &amp; x</q></p>'
    assert view.noticed(shown) == ("坏了。", "<b> & x")
    assert view.noticed(view.notice("等", 0.5)) == ("等", "")


def test_places_come_as_numbers_or_pairs() -> None:
    assert place(3) == 3
    assert place([2, 0]) == 2


def test_no_listener_limits_how_many_are_served_and_nobody_costs_little() -> None:
    # In a process of its own: importing Gradio takes seconds and warns of things not ours.
    script = (
        "from pathlib import Path; from serve.ui.page import build; "
        "from serve.ui.house import House; from serve.ui.status.watch import Watch; "
        "from serve.ui.settings import PageSettings; url = 'http://127.0.0.1:1'; "
        "house, watch = House(url, key='k'), Watch(url, key='k', each=5); "
        "blocks = build(house, watch, PageSettings(gateway=url, feedback=Path('f'))); "
        "assert all(fn.concurrency_limit is None for fn in blocks.fns.values() if fn.fn); "
        "import gradio; usual = vars(gradio.Blocks()._queue); "
        "names = [name for name in usual if 'sleep_when_free' in name]; "
        "assert len(names) == 2; "
        "assert all(getattr(blocks._queue, name) > usual[name] for name in names)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
