"""Claims that can fail: every verdict is reached, every reference is a row, a wrong one is said in one line."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from ehrbook import tasks
from ehrbook.book.ablation.settings import ABLATIONS, KEYS, Setting, base_setting, expand
from ehrbook.book.claims import pages
from ehrbook.book.claims.numbers import (
    Found,
    NotRunError,
    Rows,
    less,
    our_values,
    published_rows,
    published_value,
    read_files,
    read_tables,
)
from ehrbook.book.claims.verdicts import Claim, Rule, failing, judge_claims, load_claims, verdict
from ehrbook.book.profile import Profile, load_profile
from ehrbook.book.published import find_row, load_published
from ehrbook.embed import load_specs
from ehrbook.errors import InputError
from ehrbook.evaluate import ALL, MACRO, load_models
from tests.conftest import ROOT

CLAIMS, MATRIX = ROOT / "published" / "claims.yml", ROOT / "published" / "matrix.yml"
CHAPTER = json.loads((ROOT / "chapters" / "07-claims.ipynb").read_text())
CODE = ["".join(cell["source"]) for cell in CHAPTER["cells"] if cell["cell_type"] == "code"]
NAMED = [ROOT / name for name in re.findall(r"\"\.\./((?:published|benchmarks)/[a-z-]+\.csv)\"", "\n".join(CODE))]
FILES = read_files(*NAMED)
GROUPS = tasks.task_groups(tasks.load_tasks())
ROWS = load_claims(CLAIMS)
BY_NAME = {claim.name: claim for claim in ROWS}
STUDY = BY_NAME["embedding-value"].needs
DEMO = {**STUDY, "source": "synthetic", "encoder": "minilm", "context": 512, "paper_faithful": False}
LABS = "Laboratory results"
LARGE = {"encoder": "qwen3-embedding-8b", "chunking": "none", "chunk": ""}


def setting(
    ablation: str, place: int, group: str, value: float, difference: float, **keys: object
) -> dict[str, object]:
    own = {**dict.fromkeys(KEYS, ""), "encoder": "qwen3-embedding-8b", "context": 8192, "serialization": "list"}
    own |= {"chunking": "none", "instructions": "task"} | keys
    label = next(iter(keys.values()), "reference")
    ends = {"difference_lower": difference - 0.01 * (place > 0), "difference_upper": difference + 0.01 * (place > 0)}
    numbers = {"value": value, "lower": value - 0.05, "upper": value + 0.05, "difference": difference, **ends}
    return {"ablation": ablation, "place": place, "setting": label, **own, "group": group, **numbers}


def made_ablations() -> pd.DataFrame:
    """The published differences, each with an interval of 0.01 to either side."""
    return pd.DataFrame(
        [
            setting("serialization", 0, MACRO, 0.769, 0, serialization="list"),
            setting("serialization", 1, MACRO, 0.721, -0.048, serialization="list-first"),
            setting("serialization", 2, MACRO, 0.749, -0.020, serialization="markdown"),
            setting("serialization", 0, LABS, 0.842, 0, serialization="list"),
            setting("serialization", 1, LABS, 0.715, -0.127, serialization="list-first"),
            setting("serialization", 2, LABS, 0.859, 0.017, serialization="markdown"),
            setting("instructions", 0, MACRO, 0.769, 0, instructions="task"),
            setting("instructions", 1, MACRO, 0.740, -0.029, instructions="empty"),
            setting("size", 0, MACRO, 0.701, 0, encoder="bert-base", chunking="mean", chunk=512),
            setting("size", 1, MACRO, 0.727, 0.026, encoder="qwen3-embedding-0.6b"),
            setting("size", 2, MACRO, 0.769, 0.068, encoder="qwen3-embedding-8b"),
            setting("context", 0, MACRO, 0.741, 0, context=512),
            setting("context", 1, MACRO, 0.768, 0.027, context=2048),
            setting("context", 2, MACRO, 0.772, 0.031, context=4096),
            setting("context", 3, MACRO, 0.769, 0.028, context=8192),
            setting("context", 4, MACRO, 0.1, -0.6, context=8192, chunking="mean", chunk=512),
            setting("parts", 0, LABS, 0.842, 0),
            setting("parts", 1, LABS, 0.752, -0.090, without="labs"),
            setting("parts", 2, LABS, 0.856, 0.014, only="labs"),
            setting("window", 0, MACRO, 0.769, 0),
            setting("window", 1, MACRO, 0.767, -0.002, window="1mo"),
            setting("window", 2, MACRO, 0.772, 0.003, window="1y"),
        ]
    )


def made_differences() -> pd.DataFrame:
    differences = {("clmbr", -1): 0.0, ("counts-lightgbm", -1): -0.03, ("counts-lightgbm", 8): 0.063}
    return pd.DataFrame(
        [
            {"group": MACRO, "rival": rival, "k": k, "difference": d, "lower": d - 0.015, "upper": d + 0.015}
            for (rival, k), d in differences.items()
        ]
    )


def made_tables() -> dict[str, pd.DataFrame]:
    """Results of a build in which everything is as published."""
    values = {"embedding": 0.769, "embedding-clmbr": 0.788, "clmbr": 0.769, "counts-lightgbm": 0.777}
    intervals = [
        {"group": MACRO, "model": model, "k": ALL, "value": v, "lower": v - 0.02, "upper": v + 0.02}
        for model, v in values.items()
    ]
    labels = [
        {"task": task, "model": model, "metric": "AUROC", "value": v, "lower": v - 0.04, "upper": v + 0.04}
        for task, model, v in (
            ("hyperlipidemia", "embedding", 0.5),
            ("hyperlipidemia", "oracle", 0.5),
            ("anemia", "embedding", 0.8),
            ("anemia", "oracle", 0.9),
            ("lupus", "embedding", 0.8),
        )
    ]
    return {
        "group_means": pd.DataFrame(intervals),
        "group_differences": made_differences(),
        "all_label_results": pd.DataFrame(labels),
        "ablations": made_ablations(),
    }


Write = Callable[..., dict[str, pd.DataFrame]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write result tables as a build does, changed where a keyword says so, and read them back."""

    def _write(**changed: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
        (tmp_path / "public").mkdir(exist_ok=True)
        for name, table in {**made_tables(), **changed}.items():
            path = tmp_path / "public" / f"{name}.csv"
            path.unlink(missing_ok=True)
            if table is not None:
                table.to_csv(path, index=False)
        return read_tables(tmp_path)

    return _write


def judged(tables: Mapping[str, pd.DataFrame], claims: list[Claim] | None = None, **changes: object) -> pd.DataFrame:
    return judge_claims(claims or ROWS, FILES, tables, {**STUDY, **changes}, GROUPS).set_index("name", drop=False)


# Rules


@pytest.mark.parametrize(
    ("rule", "holds", "undecided", "fails"),
    [
        ({"direction": "above"}, (0.01, 0.09), (0.0, 0.09), (-0.09, -0.01)),
        ({"direction": "below"}, (-0.09, -0.01), (-0.09, 0.0), (0.01, 0.09)),
        ({"equivalent": 0.02}, (-0.01, 0.019), (-0.01, 0.03), (0.03, 0.09)),
        ({"equivalent": 0.05, "to": 0.5}, (0.46, 0.54), (0.4, 0.6), (0.56, 0.7)),
        ({"not_below": 0.02}, (-0.01, 0.3), (-0.03, 0.3), (-0.09, -0.03)),
    ],
)
def test_an_interval_decides_or_does_not(
    rule: dict[str, Any], holds: tuple[float, float], undecided: tuple[float, float], fails: tuple[float, float]
) -> None:
    for name, ends in (("holds", holds), ("undecided", undecided), ("fails", fails)):
        assert verdict([Found(sum(ends) / 2, *ends)], Rule(**rule)) == name
    assert verdict([Found(0.05, np.nan, np.nan)], Rule(**rule)) == "undecided"


def test_a_difference_of_nothing_decides_no_direction() -> None:
    assert verdict([Found(0, 0, 0)], Rule(direction="above")) == "undecided"


def test_never_looks_at_each_and_within_at_the_value() -> None:
    never, within = Rule(never="above"), Rule(within=0.01)
    assert verdict([Found(0.1, -0.01, 0.2), Found(-0.1, -0.2, -0.01)], never) == "holds"
    assert verdict([Found(0.1, -0.01, 0.2), Found(0.1, 0.01, 0.2)], never) == "fails"
    assert verdict([], never) == verdict([Found(0.1, np.nan, np.nan)], never) == "undecided"
    published = Found(0.769, 0.744, 0.794)
    for value, exact, rounded in ((0.779, "holds", "holds"), (0.78, "fails", "holds"), (0.79, "fails", "fails")):
        found = [Found(value, 0.7, 0.8)]
        assert [verdict(found, within, published, real) for real in (False, True)] == [exact, rounded]


def test_a_rule_is_one_rule() -> None:
    with pytest.raises(ValueError, match="give one of direction"):
        Rule()
    with pytest.raises(ValueError, match="give one of direction"):
        Rule(direction="above", within=0.1)


# The file of claims


@pytest.mark.parametrize("claim", ROWS, ids=lambda claim: claim.name)
def test_every_published_reference_is_one_row_and_what_was_published_is_what_is_claimed(claim: Claim) -> None:
    if claim.published is None:
        assert claim.about == "the book"
        return
    printed = published_rows(claim.published, FILES, claim.name)
    value = published_value(printed).value
    assert len(printed) == 1 + (claim.published.less is not None)
    assert not any(row["known_error"] for row in printed)
    low, high = claim.test.region
    assert low < value < high
    assert (claim.test.within is None) == (claim.published.less is not None)


def test_no_name_stands_twice() -> None:
    for path in (CLAIMS, MATRIX):
        names = re.findall(r"^([^\s#][^:]*):", path.read_text(), flags=re.M)
        assert sorted(names) == sorted(set(names)) == sorted(yaml.safe_load(path.read_text()))


def test_what_claims_ask_of_a_build_exists() -> None:
    groups, encoders = {*GROUPS.values(), MACRO}, load_specs()
    for claim in ROWS:
        keys = [{**claim.ours.keys, **chosen} for chosen in (claim.ours.value, claim.ours.less or {})]
        for one in keys:
            assert one.get("group", MACRO) in groups
            assert one.get("task", "anemia") in GROUPS
            assert one.get("ablation", "size") in ABLATIONS
            assert one.get("encoder", "minilm") in encoders
            assert all(load_models([str(one[name])]) for name in ("model", "rival") if name in one)
        assert claim.encoder is None or claim.encoder in encoders
        assert set(claim.needs) <= set(Profile.model_fields)


def test_the_profile_of_the_study_runs_all_that_is_claimed_of_it() -> None:
    profile = Profile(name="ehrshot", **yaml.safe_load((ROOT / "profiles" / "ehrshot.yml").read_text()))
    values = profile.model_dump()
    points = expand(profile.ablations, base_setting(values))
    for claim in (claim for claim in ROWS if claim.about == "the paper"):
        assert all(values[key] == value for key, value in claim.needs.items() if key != "paper_faithful")
        keys = {**claim.ours.keys, **claim.ours.value}
        assert keys.get("k", ALL) in (ALL, *profile.compared_shots)
        assert {keys.get("rival", "clmbr"), keys.get("model", "clmbr")} <= set(profile.models)
        if "ablation" in keys:
            own = [point.setting for point in points if point.ablation == keys["ablation"]]
            both = [_as_of_a_setting(chosen) for chosen in (claim.ours.value, claim.ours.less or {})]
            assert all(any(_fits(one, chosen) for one in own) for chosen in both), claim.name
            paired = any(_fits(own[0], chosen) for chosen in both)
            assert paired or claim.name in ("context-saturates", "size-helps"), claim.name


def _as_of_a_setting(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {key: (value,) if key in ("only", "without") else value or None for key, value in chosen.items()}


def _fits(setting: Setting, chosen: Mapping[str, Any]) -> bool:
    return all(getattr(setting, key) == value for key, value in chosen.items())


def test_the_chapter_reads_the_files_and_parameters_that_claims_need() -> None:
    items = pages.load_matrix(MATRIX, ROOT)
    needed = {claim.published.file for claim in ROWS if claim.published}
    needed |= {measured.file for item in items for measured in item.measured}
    assert {path.name for path in NAMED} == needed
    parameters = re.findall(r"^(\w+):", CODE[0], flags=re.M)
    named = {key for claim in ROWS for key in claim.needs}
    assert named <= set(parameters)
    assert set(parameters) == {*re.findall(r"^    \"(\w+)\":", "\n".join(CODE), flags=re.M), "profile", "build"}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["published", "less", "model"], "Qwen3-Emb-0.6", "published.less, model-size.csv: no row has model"),
        (
            ["published", "keys", "groop"],
            "x",
            "published.value, model-size.csv: there is no column 'groop'; did you mean",
        ),
        (["published", "value"], {}, "published.value, model-size.csv: .* rows have group 'all groups'; give keys"),
        (["published", "file"], "model-sizes.csv", "published.file: model-sizes.csv is none .* 'model-size.csv'"),
        (["published", "from"], "x", "published.from: Extra inputs"),
        (["published"], None, "published: say where the published number stands"),
        (["test"], {"direction": "up"}, "test.direction: Input should be 'above' or 'below'"),
        (["tests"], {}, "tests: .* did you mean 'test'"),
        (["ours", "file"], "ablation.csv", "ours.file: ablation.csv is no result table; did you mean 'ablations'"),
        (["ours", "keys", "ablatio"], "size", "ours, ablations.csv: there is no column 'ablatio'; did you mean"),
        (["needs", "sources"], "ehrshot", "needs: the chapter has no parameter 'sources'; did you mean 'source'"),
    ],
)
def test_a_wrong_reference_is_one_line_that_names_file_claim_and_field(
    path: list[str], value: object, said: str, tmp_path: Path, write: Write
) -> None:
    row = yaml.safe_load(CLAIMS.read_text())["size-helps"]
    place = row
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    changed = tmp_path / "claims.yml"
    changed.write_text(yaml.safe_dump({"size-helps": row}))
    with pytest.raises(InputError, match=f"claims.yml: claim 'size-helps'[,:] {said}") as raised:
        judge_claims(load_claims(changed), FILES, write(), STUDY, GROUPS)
    assert "\n" not in str(raised.value)


def test_a_file_of_claims_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "claims.yml"
    for text, said in (("a: [", "is no YAML"), ("- a", "write rows of"), ("a: b", "write rows of")):
        broken.write_text(text)
        with pytest.raises(InputError, match=f"claims.yml.* ?{said}") as raised:
            load_claims(broken)
        assert "\n" not in str(raised.value)


# Numbers of a build


def test_a_difference_of_models_is_read_with_its_own_interval(write: Write) -> None:
    tables = write()
    keys: dict[str, str | int | float] = {"group": MACRO, "k": 8, "rival": "counts-lightgbm"}
    found = our_values(Rows(file="group_differences.csv", keys=keys), tables, GROUPS, "here")[0]
    assert (found.value, found.lower, found.upper) == pytest.approx((0.063, 0.048, 0.078))
    assert found.paired
    with pytest.raises(NotRunError, match=r"group_differences.csv has no row with .*k '64'"):
        our_values(Rows(file="group_differences.csv", keys={**keys, "k": 64}), tables, GROUPS, "here")


def test_ends_that_are_averaged_or_crossed_are_never_too_narrow() -> None:
    random = np.random.default_rng(3)
    for shared in (0.0, 0.5, 0.99, -0.3):
        spread = np.array([0.02, 0.05, 0.03])
        covariance = np.outer(spread, spread) * (shared + (1 - shared) * np.eye(3))
        draws = random.multivariate_normal([0.7, 0.6, 0.8], covariance, size=20_000)
        ends = np.percentile(draws, [2.5, 97.5], axis=0)
        true = np.percentile(draws.mean(axis=1), [2.5, 97.5])
        assert ends[0].mean() <= true[0] + 1e-3
        assert ends[1].mean() >= true[1] - 1e-3
        one, other = (Found(draws[:, place].mean(), *ends[:, place]) for place in (0, 1))
        true = np.percentile(draws[:, 0] - draws[:, 1], [2.5, 97.5])
        assert less(one, other).lower <= true[0] + 1e-3
        assert less(one, other).upper >= true[1] - 1e-3


@pytest.mark.parametrize(
    ("ablation", "value", "other", "expected", "paired"),
    [
        ("context", {"context": 2048}, None, (0.027, 0.017, 0.037), True),
        ("context", {"context": 512}, {"context": 2048}, (-0.027, -0.037, -0.017), True),
        ("context", {"context": 8192}, {"context": 4096}, (-0.003, -0.023, 0.017), False),
        ("context", {"context": 8192}, None, (0.028, 0.018, 0.038), True),  # not its chunks
        ("context", {"context": 8192, "chunking": "mean", "chunk": 512}, None, (-0.6, -0.61, -0.59), True),
        ("size", LARGE, {}, (0.068, 0.058, 0.078), True),
        ("size", LARGE, {**LARGE, "encoder": "qwen3-embedding-0.6b"}, (0.042, 0.022, 0.062), False),
    ],
)
def test_settings_are_compared_with_the_reference_in_pairs_and_else_with_room(
    ablation: str, value: dict[str, Any], other: dict[str, Any] | None, expected: Any, paired: bool, write: Write
) -> None:
    rows = Rows(file="ablations.csv", keys={"ablation": ablation, "group": MACRO}, value=value, less=other)
    (found,) = our_values(rows, write(), GROUPS, "here")
    assert (found.value, found.lower, found.upper) == pytest.approx(expected)
    assert found.paired == paired


def test_settings_that_are_no_reference_are_compared_in_pairs_where_these_were_written(write: Write) -> None:
    rows = Rows(
        file="ablations.csv",
        keys={"ablation": "context", "group": MACRO},
        value={"context": 8192},
        less={"context": 4096},
    )
    crossed = our_values(rows, write(), GROUPS, "here")[0]
    pair = {"ablation": "context", "place": 3, "less": 2, "group": MACRO}
    tables = {
        **write(),
        "setting_differences.csv": pd.DataFrame(
            [{**pair, "difference": -0.003, "lower": -0.01, "upper": 0.004}]
        ).astype(str),
    }
    found = our_values(rows, tables, GROUPS, "here")[0]
    assert (found.value, found.lower, found.upper, found.paired) == (-0.003, -0.01, 0.004, True)
    assert not crossed.paired
    turned = our_values(rows.model_copy(update={"value": rows.less, "less": rows.value}), tables, GROUPS, "here")[0]
    assert (turned.value, turned.lower, turned.upper) == (0.003, -0.004, 0.01)


def test_the_reference_is_the_first_setting_that_was_run(write: Write) -> None:
    later = made_ablations().query("ablation != 'size' or place > 1")
    rows = Rows(file="ablations.csv", keys={"ablation": "size", "group": MACRO}, value=LARGE)
    (found,) = our_values(rows, write(ablations=later), GROUPS, "here")
    assert found.said == "qwen3-embedding-8b less qwen3-embedding-8b"


@pytest.mark.parametrize(
    ("file", "keys", "value"),
    [
        ("ablations.csv", {"ablation": "serialization"}, {"serialization": "list"}),
        ("group_means.csv", {"group": MACRO}, {"k": ALL}),
    ],
)
def test_a_row_of_ours_that_is_not_told_apart_is_one_line(
    file: str, keys: dict[str, Any], value: dict[str, Any], write: Write
) -> None:
    with pytest.raises(InputError, match=r"here: [24] rows have .*; give keys that one row has"):
        our_values(Rows(file=file, keys=keys, value=value), write(), GROUPS, "here")


# Verdicts


def test_where_all_is_as_published_every_claim_of_the_paper_holds_but_one_that_cannot_be_told(write: Write) -> None:
    table = judged(write())
    paper = table[table["about"] == "the paper"]
    assert paper.loc[paper["verdict"] != "holds", "verdict"].to_dict() == {"context-saturates": "undecided"}
    assert paper.loc["context-saturates", "why"].endswith("both answers in it, and is wider than the true one")
    assert set(table.loc[table["about"] != "the paper", "verdict"]) == {"needs synthetic subjects"}
    assert failing(table) is None


def test_a_perturbed_table_makes_a_claim_fail_and_the_command_end_with_its_name(write: Write) -> None:
    turned = made_differences()
    turned.loc[turned["k"] == 8, ["difference", "lower", "upper"]] -= 0.2
    table = judged(write(group_differences=turned))
    assert table.loc[table["verdict"] == "fails", "name"].tolist() == ["ahead-with-few"]
    assert failing(table) == "claims that fail: ahead-with-few"
    means = made_tables()["group_means"].assign(value=lambda rows: rows["value"] - 0.016 * (rows["model"] == "clmbr"))
    assert failing(judged(write(group_means=means))) == "claims that fail: clmbr-value"
    labels = made_tables()["all_label_results"]
    labels.loc[labels["task"].eq("hyperlipidemia") & labels["model"].ne("oracle"), ["value", "lower", "upper"]] += 0.3
    broken = judged(write(all_label_results=labels), source="synthetic")
    assert failing(broken) == "claims that fail: nothing-beats-the-oracle; control-is-a-coin"
    assert broken.loc["nothing-beats-the-oracle", "ours_said"] == "embedding on hyperlipidemia"


def test_on_other_subjects_no_claim_of_the_paper_is_said_to_hold(write: Write) -> None:
    for source in ("synthetic", "mimic", "omop"):
        table = judged(write(), **{**DEMO, "source": source})
        paper = table[table["about"] == "the paper"]
        assert set(paper["verdict"]) == {"needs EHRSHOT"}
        assert paper.loc["size-helps", "ours"] == pytest.approx(0.042, abs=0.005)  # shown, and not judged
    own = judged(write(), **DEMO)
    own = own[own["about"] != "the paper"]
    assert own["verdict"].to_dict() == dict.fromkeys(own["name"], "holds")
    assert own.loc["recent-over-first, planted", "published"] == pytest.approx(0.842 - 0.715)


def test_a_claim_says_what_it_needs_and_for_whom_it_was_published(write: Write) -> None:
    other = judged(write(), encoder="minilm", paper_faithful=False, context=512)
    assert other.loc["embedding-value", "verdict"] == "needs Qwen3-Embedding-8B"
    assert other.loc["embedding-value", "why"] == "also context=512, paper_faithful=true".replace("512", "8192")
    assert other.loc["on-par-with-clmbr", "verdict"] == "needs Qwen3-Embedding-8B"
    assert other.loc["clmbr-value", "verdict"] == "needs paper_faithful=true"
    assert other.loc["ahead-with-few", "verdict"] == "holds"
    assert other.loc["ahead-with-few", "why"] == "published for Qwen3-Embedding-8B, another encoder here"
    assert judged(write()).loc["ahead-with-few", "why"] == ""


def test_what_is_not_there_was_not_run_and_the_mend_is_said(write: Write) -> None:
    table = judged(write(ablations=None, group_differences=made_differences().query("k != 8")))
    assert table.loc["size-helps", ["verdict", "why"]].tolist() == [
        "not run",
        "this build has no ablations.csv; run the chapter that writes it",
    ]
    assert "group_differences.csv has no row with" in table.loc["ahead-with-few", "why"]
    few = made_ablations().query("window != '1mo' and ablation != 'size'")
    table = judged(write(ablations=few))
    assert table.loc["a-month-suffices", "why"] == (
        "ablations.csv has no setting with window '1mo'; add it to the ablations of the profile"
    )
    assert "no row with ablation 'size'" in table.loc["size-helps", "why"]
    assert failing(table) is None


def test_what_is_written_of_real_subjects_has_two_decimals(write: Write) -> None:
    uneven = made_differences().assign(difference=lambda rows: rows["difference"] + 0.0012)
    real, synthetic = (judged(write(group_differences=uneven), source=source) for source in ("ehrshot", "synthetic"))
    assert real.loc["ahead-with-few", "ours"] == 0.06
    assert synthetic.loc["ahead-with-few", "ours"] == pytest.approx(0.0642)


# Pages


def test_claims_survive_their_file_and_are_said_in_a_line_each(write: Write, tmp_path: Path) -> None:
    table = judged(write(ablations=None)).reset_index(drop=True)
    table.to_csv(tmp_path / "claims.csv", index=False)
    again = pages.read_judged(tmp_path / "claims.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    lines = pages.say_claims(again, 2).splitlines()
    assert len(lines) == len(ROWS) + 1
    said = {line.split()[0]: line for line in lines}
    assert re.search(r" holds +\+0.06 \(\+0.05 to \+0.08\) +\+0.063$", said["ahead-with-few"])
    assert re.search(r" not run +\+0.042$", said["size-helps"])


def test_the_table_shows_published_and_ours_side_by_side(write: Write) -> None:
    table = pages.claims_table(judged(write()), ["the paper"], real=True).set_index("claim")
    few = table.loc[BY_NAME["ahead-with-few"].claim]
    assert few["published"] == "Figure 5: +0.063 = 0.636 less 0.573"
    assert few["ours"] == "+0.06 (+0.05 to +0.08)"
    equal = table.loc[BY_NAME["embedding-value"].claim]
    assert equal["published"] == "Table 3: 0.769 (0.744 to 0.794)"
    assert equal[["ours", "holds if", "verdict"]].tolist() == ["0.77 (0.75 to 0.79)", "published ± 0.01", "holds"]


def test_the_figure_keeps_published_and_ours_apart_and_marks_verdicts(write: Write) -> None:
    failed = made_ablations()
    failed.loc[failed["window"] == "1mo", ["difference", "difference_lower", "difference_upper"]] -= 0.2
    drawn = pages.drawn_claims(judged(write(ablations=failed)))
    assert "embedding-value" not in set(drawn["name"])
    figure = pages.plot_claims(drawn)
    left, right = figure.axes
    assert left.get_xlim() != right.get_xlim()
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["holds", "undecided", "fails", "not judged"]
    marked = {line.get_label(): line.get_ydata().tolist() for line in right.lines if line.get_marker() != "None"}
    names = drawn["name"].tolist()
    assert [names[place] for place in marked["fails"]] == ["a-month-suffices"]
    assert [names[place] for place in marked["undecided"]] == ["context-saturates"]
    said = pages.say_drawn(drawn)
    published = drawn["published"].notna().sum()
    assert f"Published, {published} of {published} lie where the claim is true" in said
    assert "1 fails" in said


def test_the_prose_counts_verdicts(write: Write) -> None:
    said = pages.claim_words(judged(write(), **DEMO))
    about = [claim.about == "the paper" for claim in ROWS]
    assert (said["paper-claims"], said["paper-not-judged"], said["paper-holds"]) == (str(sum(about)),) * 2 + ("0",)
    assert said["own-holds"] == said["own-claims"] == str(len(ROWS) - sum(about))
    assert (said["coin-half"], said["coin-factor"], said["coin-margin"]) == ("0.04", "1.0", "0.05")
    wide = made_tables()["all_label_results"].assign(lower=0.4, upper=0.6)
    assert pages.claim_words(judged(write(all_label_results=wide), **DEMO))["coin-factor"] == "4.0"
    assert pages.claim_words(judged(write(all_label_results=None)))["coin-half"] == "an unknown length"


# The landing page


def test_the_landing_page_says_what_is_published() -> None:
    said = pages.landing_words(FILES)
    names = {"embedding": "Qwen3-Emb-8B", "clmbr": "CLMBR-T-Base", "counts": "Count-based + GBM"}
    names["combined"] = "Qwen3-Emb-8B + CLMBR-T-Base"
    keys = {"cohort": "EHRSHOT", "group": "all groups"}
    for short, model in names.items():
        row = find_row(ROOT / "published" / "all-examples.csv", **keys, model=model)
        assert said[f"landing-{short}"] == f"{row['value']:.3f} ({row['lower']:.3f} to {row['upper']:.3f})"
    few = load_published(ROOT / "published" / "few-shot.csv")
    fewest = few.loc[few["k"] > 0, "k"].min()
    assert said["landing-few"] == str(fewest)
    for short in ("embedding", "clmbr", "counts"):
        row = find_row(ROOT / "published" / "few-shot.csv", **keys, model=names[short], k=int(fewest))
        assert float(said[f"landing-few-{short}"]) == row["value"]
    for short in ("embedding", "clmbr"):
        row = find_row(ROOT / "published" / "runtimes.csv", cohort="EHRSHOT", model=names[short])
        hours, minutes = re.fullmatch(r"(?:(\d+) h )?(\d+) min", said[f"landing-time-{short}"]).groups(default="0")
        assert abs((60 * int(hours) + int(minutes)) * 60 - row["seconds"]) <= 30
    assert said["landing-combined-name"] == "Qwen3-Embedding-8B and CLMBR-T-Base side by side"


def test_the_strongest_of_several_baselines_and_combinations_is_said() -> None:
    examples = FILES["all-examples.csv"]
    counts = examples[(examples["model"] == "Count-based + GBM") & (examples["cohort"] == "EHRSHOT")]
    other = counts.assign(model="Count-based + LR", value="0.778")
    lone = examples[~examples["model"].str.contains("CLMBR-T-Base$") | (examples["model"] == "CLMBR-T-Base")]
    few = FILES["few-shot.csv"]
    few = pd.concat([few, few[few["model"] == "Count-based + GBM"].assign(model="Count-based + LR", value="0.6")])
    said = pages.landing_words(FILES | {"all-examples.csv": pd.concat([lone, other]), "few-shot.csv": few})
    assert (said["landing-counts-name"], said["landing-few-counts"]) == ("Count-based + LR", "0.6")
    assert said["landing-counts"].startswith("0.778 (")
    assert "landing-combined" not in said
    with pytest.raises(InputError, match=r"landing page: no row has model 'Qwen3-Emb-80B'; did you mean"):
        pages.landing_words(FILES, embedding="Qwen3-Emb-80B")


def test_every_number_of_the_landing_page_is_glued_by_the_chapter() -> None:
    assert any("pages.landing_words(files)" in cell and "page.glue(name, said)" in cell for cell in CODE)


# The matrix


def test_the_matrix_has_every_item_of_the_paper_and_each_has_its_place() -> None:
    items = pages.load_matrix(MATRIX, ROOT)
    wanted = [*(f"Figure {number}" for number in range(1, 9)), *(f"Table {number}" for number in range(1, 7))]
    assert all(any(re.match(rf"{name}\b", item.name) for item in items) for name in wanted)
    for item in (item for item in items if item.chapter):
        code = (ROOT / "chapters" / f"{item.chapter}.ipynb").read_text()
        assert re.search(rf'name=\\"{item.shows}\\"', code), item.name
        assert (item.needs == "nothing") == (item.profile == "demo")


def test_every_command_of_the_matrix_is_one_that_the_profile_takes(tmp_path: Path) -> None:
    for item in (item for item in pages.load_matrix(MATRIX, ROOT) if item.profile):
        chosen = dict(pair.split("=", 1) for pair in item.set.split())
        if item.profile == "ehrshot":  # without EHRSHOT's own file of CLMBR
            chosen |= {"data": str(tmp_path), "models": "[embedding, counts-logistic]"}
        assert load_profile(item.profile, chosen, ROOT / "profiles").name == item.profile


def test_minutes_are_read_where_somebody_measured_them() -> None:
    table = pages.matrix_table(pages.load_matrix(MATRIX, ROOT), FILES).set_index("item")
    assert table.loc["Figure 4", "minutes"].startswith("1,309 (embedding, 8 H200, runtimes.csv); 6.1 (CLMBR")
    assert table.loc["Figure 7 left", "minutes"] == ""
    assert table.loc["Table 3", "command"] == 'make book PROFILE=ehrshot DATA=<folder> SET="paper_faithful=true"'
    assert table.loc["Figure 2", "command"] == "make book PROFILE=demo"
    assert table.loc["Table 5", ["in this book", "command", "needs"]].tolist() == ["", "", "UK Biobank"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chapter": "04-few-shots"}, "Figure 4, chapter: '04-few-shots' does not exist; did you mean '04-few-shot'"),
        ({"profile": "ershot"}, "Figure 4, profile: 'ershot' does not exist; did you mean 'ehrshot'"),
        ({"profile": ""}, "Figure 4: profile: say it"),
        ({"needs": "not rebuilt"}, "Figure 4: chapter: leave it out of what is not rebuilt"),
        ({"needs": "luck"}, "Figure 4, needs: Input should be"),
        ({"minute": 3}, "Figure 4, minute: Extra inputs"),
    ],
)
def test_a_wrong_row_of_the_matrix_is_one_line(change: dict[str, object], said: str, tmp_path: Path) -> None:
    row = {**yaml.safe_load(MATRIX.read_text())["Figure 4"], **change}
    (tmp_path / "matrix.yml").write_text(yaml.safe_dump({"Figure 4": row}))
    with pytest.raises(InputError, match=f"matrix.yml: {said}") as raised:
        pages.load_matrix(tmp_path / "matrix.yml", ROOT)
    assert "\n" not in str(raised.value)


def test_minutes_that_nobody_wrote_are_one_line() -> None:
    (item,) = [item for item in pages.load_matrix(MATRIX, ROOT) if item.name == "Table 2"]
    for change, said in (
        ({"file": "cohorts.csv"}, "cohorts.csv is none of the files read; did you mean 'cohort.csv'"),
        ({"keys": {"step": "label"}}, "cohort.csv: no row has step 'label'"),
        ({"column": "seconds"}, "cohort.csv: there is no column 'seconds'; did you mean"),
    ):
        wrong = item.model_copy(update={"measured": [item.measured[0].model_copy(update=change)]})
        with pytest.raises(InputError, match=f"matrix.yml: Table 2, measured.*{said}"):
            pages.matrix_table([wrong], FILES)
