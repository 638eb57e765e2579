"""The commands: build the book, run one chapter, show the pages."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ehrbook.errors import ChapterError, InputError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

models = typer.Typer(no_args_is_help=True, help="The encoders: which there are, and whether one works here.")
app.add_typer(models, name="models")

ModelFolder = Annotated[str, typer.Option(help="The folder that holds folders of weights, if not the hub's cache.")]
ProfileName = Annotated[str, typer.Option(help="A file of profiles/, without .yml.")]
Data = Annotated[str, typer.Option(help="The data folder, for a profile that needs one.")]
On = Annotated[str, typer.Option(help="here, ray or slurm.")]
Count = Annotated[int, typer.Option(help="Processes here, actors of Ray or jobs of SLURM.")]
Slurm = Annotated[list[str] | None, typer.Option(help="An option of sbatch: key=value. Repeatable.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Override a parameter: key=value. Repeatable.")]


def _pairs(settings: list[str] | None, option: str, example: str) -> dict[str, str]:
    pairs = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"{option} {setting}: write key=value, for example {option} {example}")
        pairs[key.strip()] = value
    return pairs


def _overrides(data: str, settings: list[str] | None) -> dict[str, str]:
    overrides = _pairs(settings, "--set", "context=128")
    if data:
        overrides["data"] = json.dumps(str(Path(data).expanduser()), ensure_ascii=False)  # quoted, as YAML wants it
    return overrides


@app.command()
def book(profile: ProfileName = "demo", data: Data = "", settings: Settings = None) -> None:
    """Run the chapters that need it and render the book."""
    from ehrbook.book.profile import load_profile
    from ehrbook.book.run import build_folder, only_run, run_chapters
    from ehrbook.book.site import build_site

    root = Path.cwd()
    chosen = load_profile(profile, _overrides(data, settings))
    started = time.monotonic()
    with only_run(build_folder(chosen, root)):
        outcomes = run_chapters(chosen, root)
        rendering = time.monotonic()
        page, rendered = build_site(chosen, root)
    rows = [(o.slug, "ran" if o.reason else "up to date", o.seconds, f"{o.peak_mib:,.0f} MiB") for o in outcomes]
    rows.append(("pages", "rendered" if rendered else "up to date", time.monotonic() - rendering, ""))
    for name, what, seconds, peak in [*rows, ("all", "", time.monotonic() - started, "")]:
        print(f"{name:20}{what:12}{seconds:8.1f} s{peak:>14}".rstrip())
    print(page)


@app.command()
def chapter(slug: str, profile: ProfileName = "demo", data: Data = "", settings: Settings = None) -> None:
    """Run the chapters up to SLUG, such as 03-embedding, without rendering."""
    from ehrbook.book.profile import load_profile
    from ehrbook.book.run import build_folder, only_run, run_chapters

    chosen = load_profile(profile, _overrides(data, settings))
    with only_run(build_folder(chosen, Path.cwd())):
        run_chapters(chosen, Path.cwd(), only=slug)


@app.command()
def claims(profile: ProfileName = "demo", data: Data = "", settings: Settings = None) -> None:
    """Hold the claims of the book against a build, running the chapters that need it; exit code 1 if one fails."""
    from ehrbook.book.claims.pages import read_judged, say_claims
    from ehrbook.book.claims.verdicts import failing
    from ehrbook.book.profile import load_profile
    from ehrbook.book.run import build_folder, only_run, run_chapters
    from ehrbook.data import load_source

    chosen, root = load_profile(profile, _overrides(data, settings)), Path.cwd()
    with only_run(build := build_folder(chosen, root)):
        run_chapters(chosen, root, only="07-claims")
    judged = read_judged(build / "public" / "claims.csv")
    print(say_claims(judged, 2 if load_source(chosen.source).real else 3))
    if said := failing(judged):
        print(said, file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def pdf(profile: ProfileName = "demo") -> None:
    """Print the rendered pages of a profile as one PDF, by the Chromium or Chrome of this machine."""
    from ehrbook.book.pdf import write_pdf
    from ehrbook.book.run import only_run

    html = _rendered(profile)
    with only_run(html.parent):
        print(write_pdf(html, Path("_toc.yml"), html.parent / "book.pdf"))


@app.command()
def student() -> None:
    """Write the student edition, a book without solutions, as build/student and build/student.zip."""
    from ehrbook.book.editions.student import write_student
    from ehrbook.book.run import only_run

    with only_run(Path.cwd() / "build"):
        print(write_student(Path.cwd()))


@app.command()
def teacher(profile: ProfileName = "demo") -> None:
    """Write build/teacher.zip: solutions, schedules, learning goals, questions for discussion, slides."""
    from ehrbook.book.editions.teacher import write_teacher
    from ehrbook.book.profile import load_profile
    from ehrbook.book.run import build_folder, only_run

    chosen, root = load_profile(profile), Path.cwd()
    with only_run(build_folder(chosen, root)):
        print(write_teacher(chosen, root))


@app.command()
def launch(folder: Path) -> None:
    """Write the chapters that Colab and Binder open into FOLDER: the content of the branch "launch"."""
    from ehrbook.book.editions.launch import write_launch

    print(write_launch(Path.cwd(), folder))


def _rendered(profile: str) -> Path:
    """Return the folder of a profile's pages; raise `InputError` where there are none."""
    html = Path("build") / profile / "html"
    if not (html / "index.html").exists():
        raise InputError(f"{html} holds no pages: make book PROFILE={profile} first")
    return html


@app.command()
def embed(
    profile: ProfileName = "demo",
    data: Data = "",
    settings: Settings = None,
    on: On = "here",
    workers: Count = 1,
    slurm: Slurm = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be embedded, and stop.")] = False,
) -> None:
    """Embed the texts of a profile, on one machine or many; the chapters find the vectors."""
    from ehrbook.book.profile import load_profile
    from ehrbook.book.vectors import embed_profile
    from ehrbook.embed import Workers

    who = Workers(on, workers, _pairs(slurm, "--slurm", "partition=gpu"))
    print(embed_profile(load_profile(profile, _overrides(data, settings)), Path.cwd(), who, plan))


@app.command()
def ablate(
    names: Annotated[list[str] | None, typer.Argument(help="Ablations, such as size context; all if empty.")] = None,
    profile: ProfileName = "demo",
    data: Data = "",
    settings: Settings = None,
    on: On = "here",
    workers: Count = 1,
    slurm: Slurm = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say texts, tokens and minutes, and stop.")] = False,
) -> None:
    """Embed and judge the settings of a profile's ablations; chapter 5 finds the results."""
    from ehrbook.book.profile import load_profile
    from ehrbook.book.vectors import ablate_profile
    from ehrbook.embed import Workers

    who = Workers(on, workers, _pairs(slurm, "--slurm", "partition=gpu"))
    print(ablate_profile(load_profile(profile, _overrides(data, settings)), Path.cwd(), names or [], who, plan))


@app.command()
def serve(
    profile: ProfileName = "demo", port: Annotated[int, typer.Option(help="Port on this machine.")] = 8000
) -> None:
    """Show the pages of a profile in a browser, on this machine only."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    html = _rendered(profile)
    handler = partial(SimpleHTTPRequestHandler, directory=str(html))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        print(f"http://127.0.0.1:{port}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    except OSError as error:
        raise InputError(f"port {port}: {error.strerror}; choose another with PORT=...") from error
    except KeyboardInterrupt:
        print()


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DATA", help="A folder of MEDS, OMOP or EHRSHOT files.")],
    source: Annotated[str, typer.Option(help="A file of ehrbook/data/sources, without .yml; guessed if empty.")] = "",
) -> None:
    """Say on one page what is in a data folder, and which tasks it can carry."""
    from ehrbook.book.check import check as describe

    print(describe(folder, source or None))


@app.command()
def synthesize(
    folder: Path,
    subjects: Annotated[int, typer.Option(min=1, help="Subjects.")] = 360,
    events: Annotated[int, typer.Option(min=200, max=20_000, help="Events of a subject, on average.")] = 882,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Same seed, same bytes.")] = 7,
    workers: Annotated[int, typer.Option(min=1, help="Processes; they do not change the result.")] = 2,
) -> None:
    """Write a synthetic cohort as a new MEDS FOLDER, any size; the demo's size by default."""
    from ehrbook.data import write_cohort

    write_cohort(folder, subjects, seed, events, [0.4, 0.2, 0.4], workers)
    print(f"{folder}: {subjects:,} subjects; what the oracle knows is in {folder / 'oracle'}, never part of a record")


@models.command("list")
def models_list(model_folder: ModelFolder = "") -> None:
    """List the encoders, and whether the weights of each are on this machine."""
    from ehrbook.book.models import list_models

    print(list_models(model_folder))


@models.command("check")
def models_check(
    name: Annotated[str, typer.Argument(help="An encoder's name, or the path of a model's folder.")],
    model_folder: ModelFolder = "",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float64; the encoder's own if empty.")] = "",
) -> None:
    """Hold an encoder's vectors of made-up records against those of its makers' way; exit code 1 if they differ."""
    from ehrbook.book.models import check_model

    checked = check_model(name, model_folder, dtype or None)
    print(checked)
    if not checked.good:
        raise typer.Exit(1)


def main() -> None:
    """Run a command; bad input ends with one line and exit code 2, a failed chapter with one line and 1."""
    try:
        app()
    except InputError as error:
        sys.exit(_say(error, 2))
    except ChapterError as error:
        sys.exit(_say(error, 1))


def _say(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
