"""A form of your own, for chapter 2: the record as a story, a sentence a visit, newest first."""

from collections import defaultdict
from collections.abc import Iterator

from ehrbook.serialize import Record


def write_story(record: Record) -> Iterator[str]:
    """Yield who the subject is, then what each visit found."""
    who, visits, found = [], [], defaultdict(dict)
    for event in record.events:  # oldest first, and none after the prediction
        if event.domain == "demographic" and event.concept != "birth":
            who.append(event.description)
        elif event.concept not in (None, "icu") and event.domain == "visit":
            visits.append(event)
        elif event.visit_id is not None:
            found[event.visit_id][event.description.lower()] = event.value
    yield f"{', '.join(who)}, {record.age} years old."
    for visit in reversed(visits):
        days = (record.prediction_time - visit.time).days
        facts = found[visit.visit_id].items()
        said = ", ".join(
            f"{name} {value}" if value else name for name, value in facts
        )
        yield f"{visit.description} {days} days ago: {said or 'nothing recorded'}."
