"""Search: new trajectories from a model that calls functions.

- `generation` runs one search per query; `pool` runs many of them concurrently over one engine.
- `dfsdt` implements the search algorithms as generators; `method` has their settings, requests and results.
- `protocols` renders requests and parses replies.
- `answer_writer` converts search results to upstream's answer files.
- `demo` provides queries and recorded replies; `demo_functions` provides their functions.
"""
