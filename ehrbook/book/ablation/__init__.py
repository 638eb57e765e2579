"""What chapter 5 does: `settings` (a grid over the profile, written out), `grid` (each judged once, whatever was
stopped before), `plan` (what that will take), then `tables`, `figures` and `words` of the results.
"""
