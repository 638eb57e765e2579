"""Station 1, records: read or generate a cohort, say what its codes mean, cut it in time.

Read in this order: `schema` (the tables), `source` (a source's words, as data), then four ways to get events: `read`
and `meds_folder` (MEDS), `ehrshot`, `omop` with `omop_files`, `synthetic`; `adapt` and `words` (events to records and
codes), `parents` (what a code is a kind of), `coverage`, `splits`, `history` (the cut in time), `cohort` (who is in
it).
"""

from ehrbook.data.adapt import adapt
from ehrbook.data.cohort import Cohort, describe_cohort, events_per_vocabulary, example_subject, load_cohort
from ehrbook.data.coverage import coverage, described_share
from ehrbook.data.history import NO_END, STATIC, histories, history, known_ends, known_events
from ehrbook.data.read import Meds, read_meds
from ehrbook.data.schema import TABLES, empty_table, read_table, scan_table, table_path, table_writer, write_table
from ehrbook.data.source import Source, load_source
from ehrbook.data.splits import SPLITS, assign_splits, split_subjects
from ehrbook.data.synthetic import generate, write_cohort

__all__ = [
    "NO_END",
    "SPLITS",
    "STATIC",
    "TABLES",
    "Cohort",
    "Meds",
    "Source",
    "adapt",
    "assign_splits",
    "coverage",
    "describe_cohort",
    "described_share",
    "empty_table",
    "events_per_vocabulary",
    "example_subject",
    "generate",
    "histories",
    "history",
    "known_ends",
    "known_events",
    "load_cohort",
    "load_source",
    "read_meds",
    "read_table",
    "scan_table",
    "split_subjects",
    "table_path",
    "table_writer",
    "write_cohort",
    "write_table",
]
