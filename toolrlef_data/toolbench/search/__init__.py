"""Search: new trajectories, by a model that calls functions.

`generation` runs one search a query. `pool` keeps many searches busy with one engine; `dfsdt` holds the algorithms as
generators that say what they need next; `protocols` render it as requests and read the replies. `answer_writer` stores
searches as upstream's answer files. `demo` has queries and recorded replies, `demo_functions` what they call.
"""
