"""What goes into a text, whatever its form: parts of the record, a window of time, the fate of codes without words."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from ehrbook.errors import InputError, nearest
from ehrbook.serialize.units import load_measurements

# The parts of the study's ablations, in our domains. Its laboratory results are all of LOINC, vital signs included,
# and its conditions are whatever is nothing else.
PARTS = {
    "demographics": ("demographic",),
    "visits": ("visit",),
    "conditions": ("condition", "other"),
    "medications": ("medication",),
    "procedures": ("procedure",),
    "labs": ("lab", "vital"),
}
# Laboratory results and vital signs outside of the 24 measurements: the preprint left them out of its Markdown (its
# code's "no_labs_single").
SINGLE_LABS = "single-labs"

_WINDOW = re.compile(r"[1-9][0-9]{0,4}[hdw]|[1-9][0-9]{0,2}(mo|y)")


@dataclass(frozen=True)
class Content:
    """The choices of a profile about what a text says.

    only, without: names of `PARTS`, of which only the first, or all but the second, are written; without may also
    name "single-labs".
    window: how far back from the prediction time, such as 1h, 1d, 1w, 1mo, 1y, 3y; None for the whole past.
    undescribed: codes without words are written as they stand ("keep") or not at all ("leave_out").
    paper_faithful: quirks of the study's code, for a replication: the list says the bare word "Birth"
    instead of the age, units are ignored, and a temperature of 100.1 F is called high. A window then leaves out
    demographics, which are dated at birth.

    Raises `InputError` for a name or a window that does not exist.
    """

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    window: str | None = None
    undescribed: str = "keep"
    paper_faithful: bool = False

    def __post_init__(self) -> None:
        known = {"only": [*PARTS], "without": [*PARTS, SINGLE_LABS]}
        for key, names in (("only", self.only), ("without", self.without)):
            for name in names:
                if name not in known[key]:
                    raise InputError(f"{key}: part '{name}' does not exist; {nearest(name, known[key])}")
        if self.only and self.without:
            raise InputError("only and without exclude each other: leave one of them empty")
        if set(self.without) >= set(PARTS):
            raise InputError("without: nothing would be left; leave out fewer parts")
        if self.window is not None and not _WINDOW.fullmatch(self.window):
            raise InputError(f"window: '{self.window}' is no length of time; write 1h, 1d, 1w, 1mo, 1y, 3y or null")
        if self.undescribed not in ("keep", "leave_out"):
            raise InputError(f"undescribed: '{self.undescribed}' does not exist; valid: keep, leave_out")

    def codes(self, codes: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of a codes table that a text may say.

        >>> table = pl.DataFrame({"code": ["a", "b"], "domain": ["lab", "visit"]})
        >>> Content(only=("labs",)).codes(table)["code"].to_list()
        ['a']
        """
        parts = set(self.only or PARTS) - set(self.without)
        domains = [domain for part in parts for domain in PARTS[part]]
        kept = codes.filter(pl.col("domain").is_in(domains)) if len(parts) < len(PARTS) else codes
        if SINGLE_LABS in self.without:
            measured = pl.col("concept").is_in([*load_measurements()]).fill_null(False)
            kept = kept.filter(measured | ~pl.col("domain").is_in(PARTS["labs"]))
        return kept.filter(pl.col("description_source") != "none") if self.undescribed == "leave_out" else kept

    def window_starts(self, times: pl.Series) -> list[int] | None:
        """Return for each prediction time when its window begins, in microseconds since 1970; None without a window.

        Months and years are those of the calendar.
        """
        return None if self.window is None else times.dt.offset_by(f"-{self.window}").dt.timestamp("us").to_list()
