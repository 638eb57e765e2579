"""What codes mean: the words, the domain and the concept of every code, from several sources in order.

Words come from the first of: the dataset's own ``codes.parquet``, the source's dictionaries (files in the data folder
or beside it, such as an Athena ``CONCEPT.csv`` or a public code list), the words that the code itself carries. A code
without any is described by itself and marked "none": it is never dropped here.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import polars as pl

from ehrbook.data.read import Meds, event_files, read_schema
from ehrbook.data.source import Dictionary, Source, find_dictionary
from ehrbook.errors import InputError

COLUMNS = ["code", "vocabulary", "domain", "concept", "description", "description_source"]


def describe(meds: Meds, source: Source, data: Path | None = None) -> pl.DataFrame:
    """Return the codes table (`ehrbook.data.schema`): one row a distinct code of ``meds``, sorted."""
    codes = _with_table(meds.events)
    patterns = [(visit.start, name) for name, visit in source.visits.items()]
    patterns += [(pattern, name) for name, wanted in source.concepts.items() for pattern in wanted]
    parts = [_look_up(codes, dictionary, data) for dictionary in source.dictionaries]
    found = pl.concat([_nothing(), *parts]).unique("code", keep="first", maintain_order=True)
    own = pl.DataFrame({"code": codes["code"], "own": [_own_words(code, source) for code in codes["code"]]})
    return (
        codes.join(meds.descriptions.rename({"description": "dataset"}), on="code", how="left")
        .join(found, on="code", how="left")
        .join(own.cast({"own": pl.String}), on="code", how="left")
        .join(_below(source, meds, data), on="code", how="left")
        .with_columns(
            vocabulary=pl.col("code").str.extract(source.vocabulary).fill_null(pl.lit("other")),
            domain=pl.coalesce(
                pl.col("omop_table").replace_strict(source.tables, default=None, return_dtype=pl.String),
                _first_match([(rule.code, rule.domain) for rule in source.domains]),
                pl.lit("other"),
            ),
            concept=pl.coalesce(_first_match(patterns), "ancestor"),
            description=_clean(pl.coalesce("dataset", "dictionary", "own", "code")),
            description_source=pl.coalesce(
                *(
                    pl.when(pl.col(place).is_not_null()).then(pl.lit(name))
                    for place, name in (("dataset", "dataset"), ("dictionary", "dictionary"), ("own", "code"))
                ),
                pl.lit("none"),
            ),
        )
        .select(COLUMNS)
        .sort("code")
    )


def _with_table(events: pl.DataFrame) -> pl.DataFrame:
    """Return (code, omop_table) of every distinct code: the table most of its events are in."""
    # Streaming takes no memory to speak of; at once, strings are copied: 5 GiB at 42 million events.
    grouped = events.lazy().group_by("code", "omop_table").len().collect(engine="streaming")
    counts = grouped.sort("code", "len", "omop_table", descending=[False, True, False])
    return counts.unique("code", keep="first", maintain_order=True).select("code", "omop_table")


def _clean(words: pl.Expr) -> pl.Expr:
    return words.str.replace_all(r"\s+", " ").str.strip_chars()


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema={"code": pl.String, "dictionary": pl.String})


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


def _look_up(codes: pl.DataFrame, dictionary: Dictionary, data: Path | None) -> pl.DataFrame:
    """Return (code, dictionary: its words) for the codes that one dictionary has; none where its file is not there."""
    path = find_dictionary(dictionary.file, data)
    if path is None:
        return _nothing()
    groups = codes.with_columns(group=pl.col("code").str.extract_groups(dictionary.code)).unnest("group")
    keys = dict(zip((str(place + 1) for place in range(len(dictionary.key))), dictionary.key, strict=True))
    asked = groups.rename(keys).drop_nulls(dictionary.key)
    table = scan_dictionary(path, [*dictionary.key, dictionary.words])
    known = table.join(asked.lazy(), on=dictionary.key, how="inner").collect(engine="streaming")
    before, _, after = dictionary.say.partition("{words}")
    words = pl.concat_str(pl.lit(before), pl.col(dictionary.words).str.strip_chars(), pl.lit(after))
    return known.sort(dictionary.words).unique("code", keep="first").select("code", dictionary=words)


def scan_dictionary(path: Path, columns: list[str]) -> pl.LazyFrame:
    """Scan columns of a dictionary as strings: CSV, gzipped or not, comma- or tab-separated (Athena), or Parquet."""
    if path.suffix == ".parquet":
        table = pl.scan_parquet(path)
    else:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            tabs = "\t" in file.readline()
        # Athena's files do not quote, and names hold quotation marks of their own.
        quote = None if tabs else '"'
        table = pl.scan_csv(path, separator="\t" if tabs else ",", quote_char=quote, infer_schema=False)
        table = table.rename(str.lower)
    have = table.collect_schema().names()
    if missing := [column for column in columns if column not in have]:
        raise InputError(f"{path}: column '{missing[0]}' is missing (it has {', '.join(have)}); download it again")
    return table.select(pl.col(columns).cast(pl.String)).drop_nulls()


def _below(source: Source, meds: Meds, data: Path | None) -> pl.DataFrame:
    """Return (code, ancestor: a concept) for the codes below the source's roots, where a hierarchy is to be had."""
    roots = pl.DataFrame(
        [(root, concept) for concept, wanted in source.descendants.items() for root in wanted],
        schema={"root": pl.String, "concept": pl.String},
        orient="row",
    )
    found = [pl.DataFrame(schema={"code": pl.String, "ancestor": pl.String})]
    if meds.parents is not None:
        found.append(_climb_down(roots, meds.parents))
    files = [find_dictionary(name, data) for name in ("CONCEPT.csv", "CONCEPT_ANCESTOR.csv")]
    if roots.height and files[0] and files[1]:
        found.append(_athena(roots, files[0], files[1]))
    return pl.concat(found).unique("code", keep="first", maintain_order=True)


def _climb_down(roots: pl.DataFrame, parents: pl.DataFrame) -> pl.DataFrame:
    """Follow (code, parent) pairs from the roots to all codes below them; a circle ends where it began."""
    reached = level = roots.select(code="root", ancestor="concept")
    while level.height:
        children = parents.join(level, left_on="parent", right_on="code").select("code", "ancestor").unique()
        level = children.join(reached, on=["code", "ancestor"], how="anti")
        reached = pl.concat([reached, level])
    return reached


def _athena(roots: pl.DataFrame, concepts: Path, ancestors: Path) -> pl.DataFrame:
    """Find the codes below the roots in the vocabulary download of Athena (athena.ohdsi.org)."""
    columns = ["concept_id", "vocabulary_id", "concept_code"]
    named = scan_dictionary(concepts, columns).select(
        "concept_id", code=pl.concat_str("vocabulary_id", pl.lit("/"), "concept_code")
    )
    tops = named.join(roots.lazy(), left_on="code", right_on="root")
    pairs = scan_dictionary(ancestors, ["ancestor_concept_id", "descendant_concept_id"])
    below = pairs.join(tops, left_on="ancestor_concept_id", right_on="concept_id").select(
        "descendant_concept_id", ancestor="concept"
    )
    return (
        named.join(below, left_on="concept_id", right_on="descendant_concept_id")
        .select("code", "ancestor")
        .collect(engine="streaming")
    )


def fits(folder: Path, source: Source) -> float:
    """Return the share of the distinct codes of a MEDS folder that a source has a rule for: is it this source?"""
    files = event_files(folder)
    for path in files:
        if "code" not in (names := read_schema(path).names):
            raise InputError(f"{path} is not MEDS: column 'code' is missing (it has {', '.join(names)})")
    codes = pl.concat([pl.scan_parquet(path).select(pl.col("code").cast(pl.String)).unique() for path in files])
    codes = codes.unique()
    rules = [rule.code for rule in source.domains] + [visit.start for visit in source.visits.values()]
    known = pl.any_horizontal([pl.col("code").str.contains(rule) for rule in rules])
    share = codes.select(known.mean()).collect().item()
    return float(share or 0.0)
