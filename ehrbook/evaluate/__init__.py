"""Station 5, scores: a few labelled examples, a head on fixed features, and how sure the result is.

Read in this order: `shots` (the draw); `counts` and `clmbr` (features beside the embedding's); `heads`, `trees` and
`models` (what is fitted); `bootstrap` (the draws of subjects); `few_shot` (the protocol that joins them); `joint` and
`compare` (means and differences over tasks); `calibration`, `decision` and `subgroups` (what AUROC does not say).
`leakage` stands apart: an alarm that reads texts.
"""

from ehrbook.evaluate.bootstrap import METRICS, bootstrap_metrics, draw_weights, intervals
from ehrbook.evaluate.calibration import calibration_curve, calibration_summary, correct_prior
from ehrbook.evaluate.clmbr import clmbr_features
from ehrbook.evaluate.compare import MARGIN, compare, holm, needed_draws
from ehrbook.evaluate.counts import count_features
from ehrbook.evaluate.decision import decision_curve
from ehrbook.evaluate.few_shot import Features, Scores, evaluable, few_shot, rows_of
from ehrbook.evaluate.heads import Head, Matrix
from ehrbook.evaluate.joint import MACRO, group_differences, group_draws, group_means, study_means
from ehrbook.evaluate.leakage import facts, leakage_alarm
from ehrbook.evaluate.models import Model, load_models
from ehrbook.evaluate.one_code import one_code
from ehrbook.evaluate.shipped_features import shipped_features
from ehrbook.evaluate.shots import ALL, MOST_SHOTS, draw_shots
from ehrbook.evaluate.subgroups import subgroup_metrics, subgroups

__all__ = [
    "ALL",
    "MACRO",
    "MARGIN",
    "METRICS",
    "MOST_SHOTS",
    "Features",
    "Head",
    "Matrix",
    "Model",
    "Scores",
    "bootstrap_metrics",
    "calibration_curve",
    "calibration_summary",
    "clmbr_features",
    "compare",
    "correct_prior",
    "count_features",
    "decision_curve",
    "draw_shots",
    "draw_weights",
    "evaluable",
    "facts",
    "few_shot",
    "group_differences",
    "group_draws",
    "group_means",
    "holm",
    "intervals",
    "leakage_alarm",
    "load_models",
    "needed_draws",
    "one_code",
    "rows_of",
    "shipped_features",
    "study_means",
    "subgroup_metrics",
    "subgroups",
]
