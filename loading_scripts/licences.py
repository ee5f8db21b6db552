"""Homepage, licence and language of every source, for data cards, as upstream states them; check before you publish."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["LICENCES", "UNKNOWN", "Licence", "strictest"]


class Licence(NamedTuple):
    """Where a source is from, and its licence.

    Args:
        homepage: address of the data or of its paper.
        name: the licence; empty if upstream states none.
        note: what else applies, such as terms of a part of the rows. Default: nothing.
        language: language of the questions, as a code of ISO 639-1; empty if they have several. Default: "en".
    """

    homepage: str
    name: str
    note: str = ""
    language: str = "en"


UNKNOWN = "unknown"  # the Hub's name for a licence that is not known
# Name of a licence -> its name on the Hub, from the fewest conditions to the most.
HUB_NAMES = {
    "MIT": "mit",
    "Apache-2.0": "apache-2.0",
    "CC BY 4.0": "cc-by-4.0",
    "CC BY-SA 3.0": "cc-by-sa-3.0",
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "CC BY-NC 4.0": "cc-by-nc-4.0",
    "research use only": "other",
    "": UNKNOWN,
}
NONE = "no licence is stated"
LAMA = "https://github.com/facebookresearch/LAMA"
SAMPLE = Licence("", "Apache-2.0", "written for toolrlef_data")

# Name in `SOURCES`, which is also the value of the column `dataset` -> licence.
LICENCES = {
    "addsub": Licence("https://aclanthology.org/D14-1058", "", NONE),
    "asdiv": Licence("https://github.com/chaochun/nlu-asdiv-dataset", "CC BY-NC 4.0"),
    "gsm8k": Licence("https://github.com/openai/grade-school-math", "MIT"),
    "hotpotqa": Licence("https://hotpotqa.github.io", "CC BY-SA 4.0"),
    "mlqa": Licence("https://github.com/facebookresearch/MLQA", "CC BY-SA 3.0", language=""),
    "multiarith": Licence("https://aclanthology.org/D15-1202", "", NONE),
    "nq_open": Licence("https://github.com/google-research-datasets/natural-questions", "CC BY-SA 3.0"),
    "sample": SAMPLE,
    "sample_lama": SAMPLE,
    "sample_mlqa": SAMPLE._replace(language=""),
    "sample_qa": SAMPLE,
    "sample_trajectories": SAMPLE,
    "squad": Licence(LAMA, "CC BY-NC 4.0"),
    "svamp": Licence("https://github.com/arkilpatel/SVAMP", "MIT"),
    "toolbench": Licence("https://github.com/OpenBMB/ToolBench", "Apache-2.0", "messages by models of OpenAI"),
    "trex": Licence(LAMA, "CC BY-NC 4.0"),
    "triviaqa": Licence("https://nlp.cs.washington.edu/triviaqa", "research use only"),
    "webquestions": Licence("https://nlp.stanford.edu/software/sempre", "CC BY 4.0"),
}


def strictest(names: Iterable[str]) -> str:
    """Return the Hub's name of the licence with the most conditions; "unknown" if one is not known, and "" for none.

    >>> strictest(["MIT", "CC BY-SA 4.0"]), strictest(["MIT", ""]), strictest([])
    ('cc-by-sa-4.0', 'unknown', '')
    """
    order = list(HUB_NAMES)
    ranks = [order.index(name) if name in HUB_NAMES else order.index("") for name in names]
    return HUB_NAMES[order[max(ranks)]] if ranks else ""
