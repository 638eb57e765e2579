"""Station 3, texts: a record, cut at the prediction time, written as text.

Read in this order: `record` (the model every form is written from), `code_list` and `markdown` (two forms),
`texts` (all texts of a cohort).
"""

from ehrbook.serialize.code_list import write_list
from ehrbook.serialize.markdown import write_markdown
from ehrbook.serialize.record import Record, age_of, build_records
from ehrbook.serialize.texts import FORMS, text_key, write_texts

__all__ = [
    "FORMS",
    "Record",
    "age_of",
    "build_records",
    "text_key",
    "write_list",
    "write_markdown",
    "write_texts",
]
