"""What a code is a kind of: the pairs (code, parent) above the codes of a cohort, from the data and from Athena."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ehrbook.data.read import Meds
from ehrbook.data.schema import empty_table
from ehrbook.data.source import Source, find_dictionary
from ehrbook.data.words import scan_dictionary

# CONCEPT_ANCESTOR holds standard concepts only; "Maps to" leads from all others to them.
ATHENA = ("CONCEPT.csv", "CONCEPT_ANCESTOR.csv", "CONCEPT_RELATIONSHIP.csv")


def find_parents(meds: Meds, source: Source, data: Path | None = None) -> pl.DataFrame:
    """Return the parents table (`ehrbook.data.schema`): distinct pairs, sorted, of the codes of ``meds`` and all above.

    The data's own ``parent_codes`` come first. For a code without any, the vocabulary download of Athena is asked
    where it lies in the data folder or beside it and the source has OMOP's codes: its parents are one level up in
    CONCEPT_ANCESTOR or, for a code that is not standard, what it "Maps to" (as femr's Ontology has it). A table
    without rows says that no hierarchy was found. Raises `InputError` for a file of Athena that lacks a column.
    """
    codes = meds.events.lazy().select("code").unique().collect(engine="streaming")
    own = empty_table("parents") if meds.parents is None else meds.parents.select("code", "parent")
    asked = pl.concat([codes, own.select(code="parent")]).unique()
    athena = _read_athena(asked, data) if source.descendants else empty_table("parents")
    pairs = pl.concat([own, athena.join(own, on="code", how="anti")])
    return climb_up(pairs, codes).sort("code", "parent")


def climb_up(pairs: pl.DataFrame, codes: pl.DataFrame) -> pl.DataFrame:
    """Return the distinct (code, parent) ``pairs`` of ``codes``, of their parents, and so on; circles end.

    >>> pairs = pl.DataFrame({"code": ["a", "b", "c", "x"], "parent": ["b", "c", "b", "y"]})
    >>> sorted(climb_up(pairs, pl.DataFrame({"code": ["a"]})).rows())
    [('a', 'b'), ('b', 'c'), ('c', 'b')]
    """
    pairs = pairs.filter(pl.col("code") != pl.col("parent")).unique()
    reached = level = codes.select("code").unique()
    while level.height:
        above = pairs.join(level, on="code", how="semi").select(code="parent").unique()
        level = above.join(reached, on="code", how="anti")
        reached = pl.concat([reached, level])
    return pairs.join(reached, on="code", how="semi")


def _read_athena(codes: pl.DataFrame, data: Path | None) -> pl.DataFrame:
    """Return the pairs above ``codes`` in an Athena download; none where it has no hierarchy."""
    concept, ancestor, relationship = (find_dictionary(name, data) for name in ATHENA)
    if concept is None or (ancestor is None and relationship is None):
        return empty_table("parents")
    named = scan_dictionary(concept, ["concept_id", "vocabulary_id", "concept_code"]).select(
        "concept_id", code=pl.concat_str("vocabulary_id", pl.lit("/"), "concept_code")
    )
    links = []
    if ancestor is not None:
        levels = scan_dictionary(ancestor, ["descendant_concept_id", "ancestor_concept_id", "min_levels_of_separation"])
        one_up = levels.filter(pl.col("min_levels_of_separation") == "1")
        links.append(one_up.select(code="descendant_concept_id", parent="ancestor_concept_id"))
    if relationship is not None:
        related = scan_dictionary(relationship, ["concept_id_1", "concept_id_2", "relationship_id"])
        mapped = related.filter(pl.col("relationship_id") == "Maps to")
        links.append(mapped.select(code="concept_id_1", parent="concept_id_2"))
    # Climbing by concept_id first keeps all but a few of Athena's millions of concepts from being named.
    asked = named.join(codes.lazy(), on="code", how="semi").select(code="concept_id").collect(engine="streaming")
    pairs = climb_up(pl.concat(links).collect(engine="streaming"), asked)
    wanted = pl.concat([pairs.select(concept_id="code"), pairs.select(concept_id="parent")]).unique()
    names = named.join(wanted.lazy(), on="concept_id", how="semi").collect(engine="streaming")
    below = pairs.join(names, left_on="code", right_on="concept_id").select("parent", code="code_right")
    return below.join(names.rename({"code": "parent_code"}), left_on="parent", right_on="concept_id").select(
        "code", parent="parent_code"
    )
