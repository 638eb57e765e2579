"""Station 5, scores: a few labelled examples, a logistic regression, and how sure the result is.

Read in this order: `shots` (the draw), `counts` (the baseline's features), `head` (the model), `bootstrap` (the
intervals), `few_shot` (the protocol that joins them). `leakage` stands apart: an alarm that reads texts.
"""

from ehrbook.evaluate.bootstrap import METRICS, draw_weights, intervals, weighted_metrics
from ehrbook.evaluate.counts import count_features
from ehrbook.evaluate.few_shot import evaluable, few_shot, group_means
from ehrbook.evaluate.head import STRENGTHS, Head, fit_head
from ehrbook.evaluate.leakage import facts, leakage_alarm
from ehrbook.evaluate.shots import ALL, MOST_SHOTS, draw_shots

__all__ = [
    "ALL",
    "METRICS",
    "MOST_SHOTS",
    "STRENGTHS",
    "Head",
    "count_features",
    "draw_shots",
    "draw_weights",
    "evaluable",
    "facts",
    "few_shot",
    "fit_head",
    "group_means",
    "intervals",
    "leakage_alarm",
    "weighted_metrics",
]
