"""For whom does it work: who is in which group at the prediction time, and how well each group is ranked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl

from ehrbook.data import STATIC, known_events
from ehrbook.errors import InputError
from ehrbook.evaluate.bootstrap import Weights, bootstrap_metrics
from ehrbook.evaluate.calibration import Bools, Floats, Integers, check_scores, with_limits

UNKNOWN = "unknown"
AGE_BANDS = ("under 40", "40-64", "65 and over")
THIRDS = ("lowest third", "middle third", "highest third")

NOT_EVALUABLE = "not evaluable"
# The same number as in ehrbook/book/suppression.py, said again since nothing here may depend on the book.
_FLOOR = 11
WITHHELD = f"withheld: fewer than {_FLOOR}"
COMPLEMENT = "withheld: would give another level back"

_ORDER = (*AGE_BANDS, *THIRDS, "whole", "cut")
# Persons are what the floor is about: fifteen labels can be one subject's.
_COUNTS = ["n_subjects", "positives", "negatives", "positive_subjects", "negative_subjects"]
_MOMENT = pl.col("time").cast(pl.Datetime("us")).dt.timestamp("us").fill_null(STATIC)


def subgroups(
    records: pl.DataFrame | pl.LazyFrame,
    codes: pl.DataFrame,
    labels: pl.DataFrame,
    truncated: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Add to each label the groups its subject is in at the prediction time; rows and their order stay.

    ``records`` and ``codes`` are the tables of `ehrbook.data.schema`; ``labels`` has the columns subject_id,
    prediction_time and split, and text_sha256 where ``truncated`` (text_sha256, truncated: was the text cut to the
    encoder's context?) is given. Only what was known counts, as `ehrbook.data.history` cuts. String columns added:

    - sex: as recorded last, in lower case; "unknown" without a record, or with two at the same time;
    - age_band: "under 40", "40-64", "65 and over" in whole years, "unknown" without a birth;
    - utilisation: "lowest third", "middle third", "highest third" of the number of known events; the cut points come
      from the rows of ``labels`` with split "train" only, so that no group is shaped by who judges;
    - truncated: "whole", "cut", "unknown".

    Raises `InputError` for missing columns and for labels without a train row.
    """
    _need(labels, ["subject_id", "prediction_time", "split", *(["text_sha256"] if truncated is not None else [])])
    train = (labels["split"] == "train").fill_null(False).to_numpy()
    if not train.any():
        raise InputError("labels: no row has split 'train', which sets the thirds of utilisation; add the train labels")
    moment = pl.col("prediction_time").cast(pl.Datetime("us"))
    keyed = labels.select("subject_id", moment).with_row_index("row")
    keyed = keyed.with_columns(moment=pl.col("prediction_time").dt.timestamp("us")).sort("moment")
    events = _event_counts(records, keyed)
    for known in (_births(records, codes), _sexes(records, codes)):
        keyed = keyed.join_asof(known, on="moment", by="subject_id", strategy="backward", check_sortedness=False)
    keyed = keyed.sort("row")
    cuts = np.quantile(events[train], [1 / 3, 2 / 3])
    third = np.searchsorted(cuts, events, side="left")
    return labels.with_columns(
        sex=keyed["sex"].fill_null(UNKNOWN),
        age_band=_age_band(keyed),
        utilisation=pl.Series(np.array(THIRDS)[third], dtype=pl.String),
        truncated=_truncated(labels, truncated),
    )


def _need(labels: pl.DataFrame, columns: list[str]) -> None:
    if missing := [column for column in columns if column not in labels.columns]:
        raise InputError(f"labels: columns {', '.join(missing)} are missing; join them on before asking for subgroups")


def _of_concept(records: pl.DataFrame | pl.LazyFrame, codes: pl.DataFrame, concept: str) -> pl.DataFrame:
    """Return subject_id, moment (microseconds, `STATIC` without a time) and description of one concept's events."""
    told = codes.lazy().filter(pl.col("concept") == concept).select("code", "description")
    found = records.lazy().select("subject_id", "code", moment=_MOMENT).join(told, on="code")
    return found.drop("code").collect(engine="streaming")


def _births(records: pl.DataFrame | pl.LazyFrame, codes: pl.DataFrame) -> pl.DataFrame:
    dated = _of_concept(records, codes, "birth").filter(pl.col("moment") != STATIC)
    first = dated.group_by("subject_id").agg(pl.col("moment").min())
    return first.with_columns(birth=pl.from_epoch("moment", time_unit="us")).sort("moment")


def _sexes(records: pl.DataFrame | pl.LazyFrame, codes: pl.DataFrame) -> pl.DataFrame:
    said = _of_concept(records, codes, "gender").with_columns(sex=pl.col("description").str.to_lowercase())
    one = pl.when(pl.col("sex").n_unique() == 1).then(pl.col("sex").first()).otherwise(pl.lit(UNKNOWN))
    return said.group_by("subject_id", "moment").agg(sex=one).sort("moment")


def _event_counts(records: pl.DataFrame | pl.LazyFrame, keyed: pl.DataFrame) -> Integers:
    """Count the known events of each row of ``keyed``: (rows,), in the order of its column row."""
    asked = keyed.group_by("subject_id").agg("row", "moment")
    each = records.lazy().select("subject_id", times=_MOMENT).join(asked.lazy(), on="subject_id", how="semi")
    sorted_times = each.group_by("subject_id").agg(pl.col("times").sort()).collect(engine="streaming")
    counts = np.zeros(keyed.height, dtype=np.int64)
    found = asked.join(sorted_times, on="subject_id")
    for rows, moments, times in zip(found["row"], found["moment"], found["times"], strict=True):
        known = times.to_numpy()
        counts[rows.to_numpy()] = [known_events(known, moment) for moment in moments]
    return counts


def _age_band(keyed: pl.DataFrame) -> pl.Series:
    now, birth = pl.col("prediction_time").dt, pl.col("birth").dt
    before = (now.month() < birth.month()) | ((now.month() == birth.month()) & (now.day() < birth.day()))
    years = now.year() - birth.year() - before.cast(pl.Int32)
    band = pl.when(years < 40).then(pl.lit(AGE_BANDS[0])).when(years < 65).then(pl.lit(AGE_BANDS[1]))
    known = band.otherwise(pl.lit(AGE_BANDS[2]))
    return keyed.select(pl.when(pl.col("birth").is_null()).then(pl.lit(UNKNOWN)).otherwise(known)).to_series()


def _truncated(labels: pl.DataFrame, truncated: pl.DataFrame | None) -> pl.Series:
    if truncated is None:
        return pl.repeat(UNKNOWN, labels.height, dtype=pl.String, eager=True)
    asked = truncated.select("text_sha256", "truncated").unique("text_sha256", keep="first", maintain_order=True)
    joined = labels.select("text_sha256").join(asked, on="text_sha256", how="left", maintain_order="left")
    word = pl.when("truncated").then(pl.lit("cut")).when(~pl.col("truncated")).then(pl.lit("whole"))
    return joined.select(word.otherwise(pl.lit(UNKNOWN))).to_series()


def subgroup_metrics(
    y: Bools, p: Floats, subjects: Integers, weights: Weights, levels: pl.DataFrame, *, real: bool
) -> pd.DataFrame:
    """Return the AUROC within each level of each subgroup, with 95 % percentile intervals over subjects.

    ``levels`` has n rows, one a label, and a string column a subgroup, such as those of `subgroups`; the other
    arguments are those of `ehrbook.evaluate.calibration`. The intervals of two levels come from the same resamples.
    No test compares them: with so many small groups some would differ by chance.

    Columns: subgroup, level, n (labels), n_subjects, positives, positive_subjects, auroc, lower, upper, status: "ok",
    "not evaluable" (one class only) or withheld. With ``real`` subjects a level with 1 to 10 subjects, in all or of
    one class, is withheld, numbers and all. So that it cannot be worked out from the whole and the other levels, the
    next smallest level is withheld too where it is the only one, or where those withheld are few even together.
    Raises `InputError` when ``levels`` has not one row a label.
    """
    check_scores(y, p, subjects, weights)
    if levels.height != len(y):
        raise InputError(f"levels: {levels.height} rows for {len(y)} labels; give one a label, in the same order")
    rows = []
    for subgroup in levels.columns:
        values = levels[subgroup].fill_null(UNKNOWN)
        for level in sorted(values.unique().to_list(), key=_rank):
            inside = (values == level).to_numpy()
            of = (y[inside], p[inside], subjects[inside])
            rows.append((subgroup, level, *_counts(of[0], of[2]), *_auroc(*of, weights)))
    columns = ["subgroup", "level", "n", *_COUNTS, "auroc", "lower", "upper"]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(["n", *_COUNTS], "Int64"))
    one_class = (table["positives"] == 0) | (table["negatives"] == 0)
    table["status"] = np.where(one_class, NOT_EVALUABLE, "ok")
    return (_withhold(table) if real else table).drop(columns=["negatives", "negative_subjects"])


def _rank(level: str) -> tuple[bool, int, str]:
    return level == UNKNOWN, _ORDER.index(level) if level in _ORDER else -1, level


def _counts(y: Bools, subjects: Integers) -> tuple[int, ...]:
    of_class = [len(np.unique(subjects[y == value])) for value in (True, False)]
    return len(y), len(np.unique(subjects)), int(y.sum()), int((~y).sum()), *of_class


def _auroc(y: Bools, p: Floats, subjects: Integers, weights: Weights) -> tuple[float, float, float]:
    if y.all() or not y.any():
        return np.nan, np.nan, np.nan
    drawn = bootstrap_metrics(y, p, subjects, weights)[:, :1]
    value, lower, upper = with_limits(drawn)[0].tolist()
    return value, lower, upper


def _is_small(count: int) -> bool:
    return 0 < count < _FLOOR


def _withhold(table: pd.DataFrame) -> pd.DataFrame:
    """Take the numbers of small levels away, and of as many others as would give them back."""
    small = table[_COUNTS].map(_is_small).any(axis=1)
    hidden = small.copy()
    for _, part in table.groupby("subgroup", sort=False):
        left = part.index[~small[part.index]]
        by_size = iter(part.loc[left].sort_values("n", kind="stable").index)
        while (among := hidden[part.index]).any() and (
            among.sum() == 1 or part.loc[among, _COUNTS].sum().map(_is_small).any()
        ):
            following = next(by_size, None)
            if following is None:
                break
            hidden[following] = True
    shown = table.copy()
    shown.loc[hidden, ["n", *_COUNTS]] = pd.NA
    shown.loc[hidden, ["auroc", "lower", "upper"]] = np.nan
    shown.loc[hidden, "status"] = COMPLEMENT
    shown.loc[small, "status"] = WITHHELD
    return shown
