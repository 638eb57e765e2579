"""Run the chapters of a profile, in order, only those that need it, and keep what they leave behind clean."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehrbook.book.chapter import Chapter, chapters_in_toc, parameters_for, read_chapter
from ehrbook.book.profile import Profile, shown_values
from ehrbook.book.stamp import Stamp, digest, make_stamp, sha256, table_file, why
from ehrbook.embed import find_spec
from ehrbook.embed.files import find_folders
from ehrbook.errors import ChapterError, InputError

# Alike in every run, and without a connection: a reader's records never leave the machine.
KERNEL = {
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",
}
_MEASURE = "import resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
_MAXRSS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB


@dataclass(frozen=True)
class Outcome:
    """What became of a chapter: the reason it ran (None: up to date), seconds, peak memory in MiB."""

    slug: str
    reason: str | None
    seconds: float
    peak_mib: float


def build_folder(profile: Profile, root: Path) -> Path:
    """Return the folder of everything that a run of ``profile`` makes."""
    return root / "build" / profile.name


@contextmanager
def only_run(build: Path) -> Iterator[None]:
    """Hold the profile's lock, so that two runs never write the same files; raise `InputError` when it is taken."""
    build.mkdir(parents=True, exist_ok=True)
    with (build / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{build} is in use by another run of this profile; wait for it to end") from error
        yield


def run_chapters(profile: Profile, root: Path, only: str | None = None) -> list[Outcome]:
    """Run every chapter that is not up to date, saying of each why it runs or that it does not.

    ``only`` stops after the chapter of that name. Raises `InputError` for bad input and `ChapterError` otherwise.
    """
    build = build_folder(profile, root)
    find_folders(find_spec(profile.encoder), profile.model_folder)  # weights that are missing are said at once
    _prepare_kernel(build)
    chapters = [read_chapter(path) for path in chapters_in_toc(root)]
    if only is not None and only not in (slugs := [chapter.slug for chapter in chapters]):
        raise InputError(f"chapter '{only}' does not exist; valid: {', '.join(slugs)}")
    outcomes = []
    writers: dict[str, tuple[str, str]] = {}
    for chapter in chapters:
        outcome, stamp = _run_if_needed(chapter, profile, build, root, writers)
        outcomes.append(outcome)
        writers |= {name: (chapter.slug, digest(stamp)) for name in chapter.writes}
        if chapter.slug == only:
            break
    return outcomes


def _prepare_kernel(build: Path) -> None:
    """Make "python3" this very interpreter, whatever kernels the machine has, and quiet about its transport."""
    os.environ.update(KERNEL, JUPYTER_PATH=str(build / "jupyter"))
    # A kernel that is shut down can close its sockets before their last callback runs; what failed is raised anyway.
    logging.getLogger("tornado.general").setLevel(logging.CRITICAL)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "30")
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"]
    spec = {"argv": command, "display_name": "Python 3", "language": "python"}
    _replace(build / "jupyter" / "kernels" / "python3" / "kernel.json", json.dumps(spec))


def _run_if_needed(
    chapter: Chapter, profile: Profile, build: Path, root: Path, writers: dict[str, tuple[str, str]]
) -> tuple[Outcome, Stamp]:
    parameters = parameters_for(chapter, profile, os.path.relpath(build, chapter.path.parent))
    stamp = make_stamp(chapter, parameters, build, root, writers)
    receipt_file = build / "stamps" / f"{chapter.slug}.json"
    receipt = json.loads(receipt_file.read_text()) if receipt_file.exists() else None
    reason = why(receipt, stamp, build)
    if reason is None and receipt is not None:
        print(f"{chapter.slug}: up to date", flush=True)
        return Outcome(chapter.slug, None, 0.0, receipt["peak_mib"]), stamp
    print(f"{chapter.slug}: runs, {reason}", flush=True)
    receipt_file.unlink(missing_ok=True)
    started = time.monotonic()
    peak = _execute(chapter, parameters, build)
    seconds = time.monotonic() - started
    written = [build / "public" / "chapters" / chapter.path.name, *(table_file(build, name) for name in chapter.writes)]
    absent = [path.name for path in written if not path.exists()]
    if absent:
        raise ChapterError(f"{chapter.slug} ended without writing {', '.join(absent)}")
    receipt = {
        "stamp": stamp,
        "written": {str(path.relative_to(build)): sha256(path) for path in written},
        "reason": reason,
        "seconds": round(seconds, 1),
        "peak_mib": round(peak),
    }
    _replace(receipt_file, json.dumps(receipt, indent=1))
    return Outcome(chapter.slug, reason, seconds, peak), stamp


def _execute(chapter: Chapter, parameters: dict[str, Any], build: Path) -> float:
    """Run the notebook through papermill into a private file, clean it, move it into place; return peak MiB."""
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    notebook = nbformat.read(chapter.path, as_version=4)
    _cell_tagged(notebook, "parameters").source = _assignments(chapter, parameters)
    notebook.cells.append(nbformat.v4.new_code_cell(_MEASURE, id="measure"))
    private = build / "private"
    private.mkdir(parents=True, exist_ok=True, mode=0o700)
    private.chmod(0o700)
    running = private / f"{chapter.slug}.running.ipynb"
    failed = private / f"{chapter.slug}.failed.ipynb"
    nbformat.write(notebook, running)
    try:
        papermill.execute_notebook(
            str(running),
            str(running),
            kernel_name="python3",
            cwd=str(chapter.path.parent),
            stderr_file=sys.stderr,
            progress_bar={"desc": chapter.slug, "leave": False},
        )
    except papermill.exceptions.PapermillExecutionError as error:
        os.replace(running, failed)
        if error.ename == InputError.__name__:
            raise InputError(error.evalue) from None
        said = f"{chapter.slug}, cell {error.cell_index + 1}: {error.ename}: {error.evalue}"
        raise ChapterError(f"{said} (the notebook so far: {failed})") from None
    except DeadKernelError:
        os.replace(running, failed)
        said = (
            f"{chapter.slug}: the kernel died, most often for want of memory; try a smaller context or fewer subjects"
        )
        raise ChapterError(f"{said} (the notebook so far: {failed})") from None
    done = nbformat.read(running, as_version=4)
    peak = float("".join(output.get("text", "") for output in done.cells.pop().outputs)) / _MAXRSS_PER_MIB
    _cell_tagged(done, "parameters").source = _assignments(chapter, shown_values(parameters))
    _clean(done)
    from ehrbook.book.figures import lift_figures, to_json

    lift_figures(done)
    _replace(build / "public" / "chapters" / chapter.path.name, to_json(done))
    running.unlink()
    failed.unlink(missing_ok=True)
    return peak


def _cell_tagged(notebook: Any, tag: str) -> Any:
    return next(cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))


def _assignments(chapter: Chapter, values: dict[str, Any]) -> str:
    """Write the parameters cell with the values of this run, so that the page shows what was run."""
    return "\n".join(f"{name}: {kind} = {values[name]!r}" for name, (kind, _) in chapter.parameters.items())


def _clean(notebook: Any) -> None:
    """Drop what differs from run to run: wall-clock times, counters of papermill, progress bars, versions."""
    for key in [key for key in notebook.metadata if key not in ("kernelspec", "ehrbook")]:
        del notebook.metadata[key]
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    os.replace(part, path)
