"""A synthetic cohort with a planted signal and a known answer: anyone can run the book, and every result has a ceiling.

Read in this order: ``world.yml`` (all that is planted), `world`, `subjects` (who), `visits` (when, and the outcomes of
stays), `measurements`, `codes`, `oracle` (what is known of each label), `generate` (put together), `card` (said in
words). Nothing here was fitted to real records; results on it say nothing about medicine.
"""

from ehrbook.data.synthetic.card import planted_effects
from ehrbook.data.synthetic.generate import EVENTS, FIRST_SUBJECT, generate, write_cohort

__all__ = ["EVENTS", "FIRST_SUBJECT", "generate", "planted_effects", "write_cohort"]
