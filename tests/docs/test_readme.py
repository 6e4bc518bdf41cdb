"""The READMEs list the command as it is, show the file that is shipped, answer as the loader."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from assistants import DeclarationError, load_house
from hanlin.__main__ import main
from hanlin.commands import app

PAGES = ["README.md", "README.zh-CN.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_listed_with_its_own_words(root: Path, page: str) -> None:
    text = " ".join((root / page).read_text(encoding="utf-8").split())
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"hanlin {name} {' '.join(command.help.split())}" in text


@pytest.mark.parametrize("page", PAGES)
def test_the_file_shown_is_the_one_shipped(root: Path, page: str) -> None:
    shown = (root / page).read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    shipped = (root / "assistants/wishes.yaml").read_text(encoding="utf-8")
    for line in shown.splitlines():
        assert "more" in line or line in shipped.splitlines(), line


@pytest.mark.parametrize("page", PAGES)
def test_the_slip_shown_is_answered_so(root: Path, page: str, tmp_path: Path) -> None:
    declared = (root / "assistants/wishes.yaml").read_text(encoding="utf-8")
    slip = declared.replace("temperature: 0.7", "temprature: 0.7")
    (tmp_path / "wishes.yaml").write_text(slip, encoding="utf-8")
    with pytest.raises(DeclarationError) as caught:
        load_house(tmp_path)
    answer = str(caught.value).replace(str(tmp_path), "assistants")
    assert answer in (root / page).read_text(encoding="utf-8")


def test_the_answer_to_a_base_that_is_not_there_is_the_one_shown(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside XTuner's, in the page for those who come from it."""
    monkeypatch.chdir(root)
    page = (root / "docs/xtuner.md").read_text(encoding="utf-8")
    command, answer, code = page.split("$ hanlin merge ", 1)[1].splitlines()[:3]
    arguments = command.partition(";")[0].split()
    assert code == f"exit {main(['merge', *arguments])}"
    assert capsys.readouterr().err == f"{answer}\n"
