"""What chapter 7 does: `numbers` (rows of published files and of a build), `verdicts` (does a claim hold?), `pages`."""
