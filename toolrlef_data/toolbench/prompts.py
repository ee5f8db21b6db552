"""prompts: the texts that instruct a model in a trajectory search.

The wording is this project's. The content follows section 4.2 of the ToolBench paper (arXiv 2307.16789) and its code:

- short thoughts, one call per message, `Finish` at the end, give up if nothing helps;
- the functions, with the first 512 characters of their descriptions;
- for a further attempt, the calls of the earlier ones with their observations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["DIVERSITY", "MAX_DESCRIPTION_LENGTH", "RANKING", "opening_messages"]

MAX_DESCRIPTION_LENGTH = 512  # characters of a function's description in the system message, as upstream
# Upstream's script searches for the last words of this sentence, misspelt as they are, and inserts the output format
# (Thought, Action, Action Input) after them.
ONE_CALL = "Every message of yours is a short thought, with a function call to actually excute your step."
RULES = f"""You solve a task with the help of functions.
{ONE_CALL}
You are then shown what the call gave, and go on from there.
Rules:
1. What a call has done stays done.
2. A thought takes five sentences at most.
3. A message holds one call; to try several things, try them one after the other.
4. Call only functions that are listed, by the names that stand there.
5. End with a call of Finish. Its final_answer is all that the user gets to see, so put everything into it; where you
   are stuck, or the functions do not work, call it with give_up_and_restart.

Functions:
{{functions}}"""
# The text before and after the list of earlier attempts.
DIVERSITY = (
    "You have been at this point before, and what you did from here did not lead to a solution. These were your calls, "
    "with what they gave:\n",
    "\nThink about what went wrong, then do something that differs from all of them.",
)
RANKING = """Two ways of going on with a task are compared. The better one is more likely to end in a full answer.

Task:
{query}

So far:
{before}

Way A:
{a}

Way B:
{b}

Which is better? Answer with one letter, A or B."""


def opening_messages(query: str, functions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages that start a search.

    Args:
        query: the user's request.
        functions: schemas with name and description.

    >>> messages = opening_messages("Is it up?", [{"name": "ping", "description": "Asks a host."}])
    >>> [message["role"] for message in messages]
    ['system', 'user']
    """
    descriptions = [
        f"- {function['name']}: {str(function.get('description') or '')[:MAX_DESCRIPTION_LENGTH]}"
        for function in functions
    ]
    system = RULES.format(functions="\n".join(descriptions))
    return [{"role": "system", "content": system}, {"role": "user", "content": query}]
