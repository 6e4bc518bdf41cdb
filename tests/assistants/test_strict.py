"""What people and editors really put into YAML: each is read, or answered in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistants import DeclarationError, load_house

X = "name: x\ntitle: X\ndescription: d\nmodel: {base: hanlin-mini}\n"


def loaded(folder: Path, text: str) -> None:
    (folder / "x.yaml").write_bytes(text.encode())
    assert load_house(folder).names == ["x"]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + X,
        X.replace("\n", "\r\n"),
        X.replace("title: X", "title: &same X").replace("description: d", "description: *same"),
        X + "controls: {体裁: {free: true}}\nprompt: '{体裁}{message}{{'\n",
    ],
    ids=["byte order mark", "Windows", "anchor", "Chinese placeholder"],
)
def test_read(tmp_path: Path, text: str) -> None:
    loaded(tmp_path, text)


LAUGHS = "".join(f"  - &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (X + "sampling:\n\ttop_p: 1\n", "6: not YAML: indent with spaces, not with tabs"),
        (X.replace("description: d", "description: a: b"), "3: not YAML: put a text that contains"),
        (X + "---\n" + X, "5: not YAML: one file is one document"),
        (X + "system: {{name}}\n", "5: put a text that starts with { or [ in quotes"),
        (X.replace("name: x", "name: 2024-13-45"), "1: not YAML: '2024-13-45' is not a number or"),
        (X + f"limits: {{queue: {'9' * 5000}}}\n", "5: not YAML: '99"),
        (X + "limits: {queue: 9999999999}\n", "5: limits.queue: must be at most 2147483647"),
        (X + "timeouts: {total: .inf}\n", "5: timeouts.total: must be a finite number, not inf"),
        (X + "sampling: {top_p: .nan}\n", "5: sampling.top_p: must be a finite number"),
        (X + "examples: &a [*a]\n", "5: examples.0: must be a text"),
        (X + "examples:\n  - &l0 [a]\n" + LAUGHS, "6: examples.0: must be a text"),
        (X + f"examples: {'[' * 900}\n", "1: nested too deeply to be read"),
        (X + "system: a\0b\n", "5: not YAML: the character U+0000 is not allowed"),
        (X + "aliases: [y, x]\n", "5: 'x' is already its own name"),
        (X + "aliases: ['']\n", "5: aliases.0: must be a text that is not empty"),
        (X + "prompt: 'a {message'\n", "5: prompt: a brace has no partner; write {{ or }}"),
        (X + "prompt: 'a {}'\n", "5: prompt: a placeholder is a name in braces and no more"),
        (X + "prompt: '{message:9}'\n", "5: prompt: a placeholder is a name in braces and no"),
        (X + "controls: {1x: {free: true}}\nprompt: '{1x}'\n", "5: controls: '1x' cannot name"),
        (X + "prompt: '{message!r}'\n", "5: prompt: a placeholder is a name in braces and no"),
        (X + "controls: {message: {free: true}}\n", "5: controls: 'message' cannot name a control"),
        (X + "controls: {a.b: {free: true}}\n", "5: controls: 'a.b' cannot name a control"),
    ],
)
def test_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        loaded(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'x.yaml'}:{said}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_editors_leave_beside_a_file_is_no_declaration(tmp_path: Path) -> None:
    (tmp_path / ".#x.yaml").symlink_to("somebody@somewhere.1234")  # Emacs, while it is edited
    (tmp_path / "._x.yaml").write_bytes(b"\0\5\x16\7")  # macOS, on a disk of another system
    loaded(tmp_path, X)
