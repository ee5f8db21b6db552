"""Homepage and licence of every source, for data cards: as upstream states them; check them before you publish rows."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LICENCES", "Licence"]


class Licence(NamedTuple):
    """Where a source is from, and its licence.

    Args:
        homepage: address of the data or of its paper.
        name: the licence; empty if upstream states none.
        note: what else applies, such as terms of a part of the rows. Default: nothing.
    """

    homepage: str
    name: str
    note: str = ""


NONE = "no licence is stated"
LAMA = "https://github.com/facebookresearch/LAMA"
SAMPLE = Licence("", "Apache-2.0", "written for toolrlef_data")

# Name in `SOURCES`, which is also the value of the column `dataset` -> licence.
LICENCES = {
    "addsub": Licence("https://aclanthology.org/D14-1058", "", NONE),
    "asdiv": Licence("https://github.com/chaochun/nlu-asdiv-dataset", "CC BY-NC 4.0"),
    "gsm8k": Licence("https://github.com/openai/grade-school-math", "MIT"),
    "hotpotqa": Licence("https://hotpotqa.github.io", "CC BY-SA 4.0"),
    "mlqa": Licence("https://github.com/facebookresearch/MLQA", "CC BY-SA 3.0"),
    "multiarith": Licence("https://aclanthology.org/D15-1202", "", NONE),
    "nq_open": Licence("https://github.com/google-research-datasets/natural-questions", "CC BY-SA 3.0"),
    "sample": SAMPLE,
    "sample_lama": SAMPLE,
    "sample_mlqa": SAMPLE,
    "sample_qa": SAMPLE,
    "sample_trajectories": SAMPLE,
    "squad": Licence(LAMA, "CC BY-NC 4.0"),
    "svamp": Licence("https://github.com/arkilpatel/SVAMP", "MIT"),
    "toolbench": Licence("https://github.com/OpenBMB/ToolBench", "Apache-2.0", "messages by models of OpenAI"),
    "trex": Licence(LAMA, "CC BY-NC 4.0"),
    "triviaqa": Licence("https://nlp.cs.washington.edu/triviaqa", "research use only"),
    "webquestions": Licence("https://nlp.stanford.edu/software/sempre", "CC BY 4.0"),
}
