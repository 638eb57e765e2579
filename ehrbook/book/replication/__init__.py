"""What chapter 6 does: `experiments` and `texts` (the study's way on against off), `published` (what is printed,
computed again), `figures`, `words`.
"""
