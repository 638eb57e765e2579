"""Turn a source's events into the records and codes tables that all later stations read."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from ehrbook.data.read import Meds
from ehrbook.data.source import Dictionary, Source, find_dictionary

# Equal times are broken by content, so that the order of rows in a file never reaches a text.
ORDER = ["subject_id", "time", "code", "numeric_value", "text_value", "visit_id"]


def adapt(meds: Meds, source: Source, data: Path | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (records, codes) in the schemas of `ehrbook.data.schema`.

    Nothing is dropped: exact duplicates, events after death and undescribed codes stay, and are counted where
    they are shown.
    """
    codes = describe(meds, source, data)
    records = meds.events
    if source.unit_in_code is not None:
        written = pl.col("code").str.extract(source.unit_in_code).replace({"UNK": None, "N/A": None})
        records = records.with_columns(unit=pl.coalesce("unit", written))
    for visit in source.visits.values():
        if visit.end is not None:
            records = _close(records, visit.start, visit.end, visit.same_visit)
    return records.sort(ORDER, nulls_last=False), codes


def _close(records: pl.DataFrame, start: str, end: str, same_visit: bool) -> pl.DataFrame:
    """Write into the opening event of a visit the time of the first closing event at or after it."""
    by = ["subject_id", "visit_id"] if same_visit else ["subject_id"]
    opens = pl.col("code").str.contains(start) & pl.col("time").is_not_null()
    numbered = records.with_row_index("row")
    closings = (
        numbered.filter(pl.col("code").str.contains(end), pl.col("time").is_not_null())
        .select(*by, closing="time")
        .sort("closing")
    )
    closed = (
        numbered.filter(opens)
        .sort("time")
        .join_asof(closings, left_on="time", right_on="closing", by=by, strategy="forward", check_sortedness=False)
        .select("row", "closing")
    )
    return (
        numbered.join(closed, on="row", how="left", maintain_order="left")
        .with_columns(end=pl.coalesce("closing", "end"))
        .drop("row", "closing")
    )


def describe(meds: Meds, source: Source, data: Path | None = None) -> pl.DataFrame:
    """Return the codes table: vocabulary, domain, concept and words of every distinct code.

    Words come from the first of: the dataset's own ``codes.parquet``, the source's dictionaries, the words that
    the code itself carries. A code without any is described by itself and marked "none": it is never dropped.
    """
    codes = meds.events.select("code").unique().sort("code")
    concepts = [(pattern, name) for name, visit in source.visits.items() for pattern in [visit.start]]
    concepts += [(pattern, name) for name, patterns in source.concepts.items() for pattern in patterns]
    domains = [(rule.code, rule.domain) for rule in source.domains]
    codes = codes.with_columns(
        vocabulary=pl.col("code").str.extract(source.vocabulary).fill_null(pl.lit("other")),
        domain=_first_match(domains).fill_null(pl.lit("other")),
        concept=_first_match(concepts),
    ).join(meds.descriptions.rename({"description": "dataset"}), on="code", how="left")
    spoken = {code: _own_words(code, source) for code in codes["code"]}
    named: dict[str, str] = {}
    for dictionary in source.dictionaries:
        for code, words in _look_up(codes["code"], dictionary, data).items():
            named.setdefault(code, words)
    codes = codes.with_columns(
        dictionary=pl.col("code").replace_strict(named, default=None, return_dtype=pl.String),
        own=pl.col("code").replace_strict(spoken, default=None, return_dtype=pl.String),
    )
    return codes.with_columns(
        description=pl.coalesce("dataset", "dictionary", "own", "code").str.replace_all(r"\s+", " ").str.strip_chars(),
        description_source=pl.when(pl.col("dataset").is_not_null())
        .then(pl.lit("dataset"))
        .when(pl.col("dictionary").is_not_null())
        .then(pl.lit("dictionary"))
        .when(pl.col("own").is_not_null())
        .then(pl.lit("code"))
        .otherwise(pl.lit("none")),
    ).select("code", "vocabulary", "domain", "concept", "description", "description_source")


def _first_match(rules: list[tuple[str, str]]) -> pl.Expr:
    """Name a code by the first rule (pattern, name) that it matches; null where none does."""
    matches = [pl.when(pl.col("code").str.contains(pattern)).then(pl.lit(name)) for pattern, name in rules]
    return pl.coalesce(matches) if matches else pl.lit(None, dtype=pl.String)


def _own_words(code: str, source: Source) -> str | None:
    """Say a code in the words that it carries itself."""
    for wording in source.words:
        match = re.search(wording.code, code)
        if match:
            said = wording.say
            for number, group in enumerate(match.groups(), start=1):
                said = said.replace(f"{{{number}}}", group)
            return said
    return None


def _look_up(codes: pl.Series, dictionary: Dictionary, data: Path | None) -> dict[str, str]:
    """Return the words that one dictionary has for ``codes``; nothing where its file is not there."""
    path = find_dictionary(dictionary.file, data)
    if path is None:
        return {}
    table = pl.read_csv(path, infer_schema=False).drop_nulls([*dictionary.key, dictionary.words])
    words = {tuple(row[:-1]): row[-1] for row in table.select(*dictionary.key, dictionary.words).iter_rows()}
    found = {}
    for code in codes:
        match = re.search(dictionary.code, code)
        if match and match.groups() in words:
            found[code] = dictionary.say.replace("{words}", words[match.groups()].strip())
    return found
