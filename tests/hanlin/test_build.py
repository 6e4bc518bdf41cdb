"""`hanlin convert` and `hanlin merge`, and bars that can be given up."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from assistants.weights import EMBEDDED
from hanlin.__main__ import main
from hanlin.build import bars


def test_what_is_given_up_ends_at_its_next_step() -> None:
    with bars(Console(file=io.StringIO())) as watched:
        task = watched.task("wishes", 10)
        task.advance(5)
        watched.give_up()
        with pytest.raises(KeyboardInterrupt):
            task.advance(5)
        with pytest.raises(KeyboardInterrupt):
            watched.task("poetry", None)


def test_convert_says_what_it_would_do_did_and_had_done(
    house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "w"
    arguments = ["convert", f"--assistants={house / 'assistants'}", f"--workspaces={work}"]
    assert main([*arguments, "--dry-run"]) == 0
    assert "to do" in capsys.readouterr().out
    assert not list(tmp_path.glob("w/*/llamacpp"))
    assert main([*arguments, "wishes"]) == 0
    assert "wishes  built  " in capsys.readouterr().out
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "poetry  built  " in told
    assert "wishes  was built already  " in told
    assert main([*arguments, "--force", "wishes"]) == 0
    assert "wishes  built  " in capsys.readouterr().out
    assert main([*arguments, "wishs"]) == 1
    assert "Did you mean 'wishes'" in capsys.readouterr().err


def test_merge_refuses_what_is_no_adapter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = EMBEDDED / "hanlin-mini", tmp_path / "out"
    assert main(["merge", str(base), str(tmp_path), str(out)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["merge", str(base), str(base), str(out), "--max-shard-size=x"]) == 1
    assert "'x' is not a size" in capsys.readouterr().err
    assert not out.exists()
