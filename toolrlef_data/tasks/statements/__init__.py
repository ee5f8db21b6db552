"""Statements: whether an answer states a gold answer, for the default rule of `text_answers.grade`.

`verdicts.states` reads the words around every occurrence of a gold answer. An answer is right if one occurrence is in
its final statement, is not rejected, and all other words of its sentence are accounted for:

| file | contents | not right, with gold Paris |
|---|---|---|
| `structure` | answers that JSON, tags or a box mark | `{"answer": "Lyon", "note": "Paris"}` |
| `passage` | words, sentences and list items of a text | |
| `sentences` | the final statement | "Paris was the capital. It is Lyon now." |
| `negation` | negations and retractions | "I do not think it is Paris." |
| `candidates` | three or more candidates, or candidates joined by "or" | "It is London, Berlin, Rome or Paris." |
| `assertion` | words that are not accounted for | "Lyon replaced Paris.", "Some say Paris." |
| `core`, `parts` | the part of a sentence with the gold answer, and its other parts | |
| `verdicts` | questions; echoes of the question or the context | "Where in Paris is the Louvre?" |
| `vocabulary`, `assertion_words` | lists of words | |

The vocabulary is English, since gold answers are. Words of other languages only make a verdict unsure.
"""
