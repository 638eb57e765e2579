"""The last station, pages: profiles, the chapter runner, figures and the site. It may use all others.

Read in this order: `profile` (what is run), `chapter` (a notebook as data), `stamp` (does it need to run?),
`run` (run it), `figures` and `plots` (what it shows), `site` (the HTML), `cli` (the commands). `ablation`,
`replication` and `claims` are what chapters 5, 6 and 7 do beyond the stations before.
"""
