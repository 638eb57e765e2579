"""Station 3, texts: a record, cut at the prediction time, written as text.

Read in this order: `record` (the model every form is written from), `content` (what goes into a text), `units`,
`build` (tables to records), then the forms: `lists`, `document` with `markdown` and `structured` (JSON, XML, YAML),
`forms` (their names, and your own); `text_lines` (what a context can hold), `texts` (all texts of a cohort),
`report` (what was lost on the way), `instructions`.
"""

from ehrbook.serialize.build import build_records
from ehrbook.serialize.content import PARTS, Content
from ehrbook.serialize.forms import FORMS, load_form
from ehrbook.serialize.instructions import Instructions, fill, instruction, load_instructions, wording
from ehrbook.serialize.record import Event, Record
from ehrbook.serialize.report import measurement_fates, sample_lines, truncation
from ehrbook.serialize.texts import save_texts, text_key, write_texts

__all__ = [
    "FORMS",
    "PARTS",
    "Content",
    "Event",
    "Instructions",
    "Record",
    "build_records",
    "fill",
    "instruction",
    "load_form",
    "load_instructions",
    "measurement_fates",
    "sample_lines",
    "save_texts",
    "text_key",
    "truncation",
    "wording",
    "write_texts",
]
