"""TRICE: behaviour cloning (stage 1) and ranking data (stage 2), with execution feedback.

`stage1` lets a student answer, grades it, and builds targets: its own right answers, and for wrong ones a call that a
teacher (`teachers`: a model, or annotations composed by `annotations`) proposes and that is executed to check it
(`execution`; `reader` reads what a tool returned). `responders` add one column a responder. `stage2` executes all
responses, scores them by the rules of `scoring` and ranks them; `cassette` records executions and replays them.
`warm_up` trains an adapter on stage 1. `files` reads and writes the original's JSON Lines. `row_tasks` finds the task
of each row.
"""
