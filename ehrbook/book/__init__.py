"""The last station, pages: profiles, the chapter runner, figures and the site. It may use all others.

Read in this order: `profile` (what is run), `chapter` (a notebook as data), `stamp` (does it need to run?),
`run` (run it), `figures` and `plots` (what it shows), `staging` and `site` (the HTML), `joined` and `pdf` (the same on
paper), `editions` (for students and teachers), `cli` (the commands). `ablation`, `replication` and `claims` are what
chapters 5, 6 and 7 do beyond the stations before; `cards` and `head_card` are the page of model cards.
"""
