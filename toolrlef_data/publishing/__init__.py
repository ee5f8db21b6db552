"""Publishing: finished tables as a folder that others load, with a card computed from the data.

`folder` writes Parquet and the card, or the original's files; `provenance` tells from the records where the rows came
from; `card` and `step_facts` count what the card says. `exports` writes trajectories for trainers.
"""
