"""Events under construction: columns that grow part by part and become the records table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

NONE = np.iinfo(np.int64).min  # a time or a visit that is not there


@dataclass
class Events:
    """Columns of events, in parts; codes, units and texts are kept as places in ``words`` until the end."""

    words: dict[str, int] = field(default_factory=dict)
    parts: list[dict[str, NDArray[np.generic]]] = field(default_factory=list)

    def add(
        self,
        subject: NDArray[np.int64],
        time: ArrayLike,
        code: str | NDArray[np.str_],
        *,
        visit: ArrayLike = NONE,
        end: ArrayLike = NONE,
        value: ArrayLike = np.nan,
        unit: str | NDArray[np.str_] = "",
        text: str | NDArray[np.str_] = "",
    ) -> None:
        """Add one event an entry of ``subject``; everything else is of the same length, or one for all."""
        n = len(subject)
        self.parts.append(
            {
                "subject": subject,
                "time": np.broadcast_to(np.asarray(time, dtype=np.int64), n),
                "code": self._places(code, n),
                "visit": np.broadcast_to(np.asarray(visit, dtype=np.int64), n),
                "end": np.broadcast_to(np.asarray(end, dtype=np.int64), n),
                "value": np.broadcast_to(np.asarray(value, dtype=np.float32), n),
                "unit": self._places(unit, n),
                "text": self._places(text, n),
            }
        )

    def _places(self, words: str | NDArray[np.str_], n: int) -> NDArray[np.int64]:
        if isinstance(words, str):
            return np.full(n, self.words.setdefault(words, len(self.words)))
        distinct, inverse = np.unique(words, return_inverse=True)
        places = [self.words.setdefault(str(word), len(self.words)) for word in distinct]
        return np.array(places, dtype=np.int64)[inverse]

    def frame(self) -> pl.DataFrame:
        """Return the events as a frame in the order they were added; times are minutes, empty words are null."""
        columns = {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}
        words = pl.Series(list(self.words), dtype=pl.String).replace("", None)
        frame = pl.DataFrame({name: columns[name] for name in ("subject", "time", "visit", "end", "value")})
        times = [pl.when(pl.col(name) != NONE).then(pl.col(name)).alias(name) for name in ("visit", "end")]
        return frame.with_columns(
            *times,
            *(words.gather(columns[name]).alias(name) for name in ("code", "unit", "text")),
            value=pl.col("value").fill_nan(None),
        )


def to_time(minutes: str) -> pl.Expr:
    """Return a column of minutes since 1970 as times."""
    return (pl.col(minutes) * 60_000_000).cast(pl.Datetime("us"))


def concatenate(parts: Sequence[pl.DataFrame], empty: pl.DataFrame) -> pl.DataFrame:
    """Stack frames in order, casting to the columns and types of ``empty``."""
    return pl.concat([empty, *(part.select(empty.columns).cast(empty.schema) for part in parts)])
