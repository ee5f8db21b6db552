"""prompts: what a model is told when it searches for a solution with functions.

The sentences are this project's own; what they have to say is section 4.2 of the ToolBench paper (arXiv 2307.16789) and
its code: short thoughts, one call a message, end with `Finish`, give up where nothing helps; the functions with the
first 512 characters of their descriptions; for a second try, the earlier ones and what they gave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["DESCRIBED", "DIVERSITY", "RANKING", "opening_of"]

DESCRIBED = 512  # characters of a function's description that the system message shows, as upstream
# Training files of ToolBench's kind put what is to be written, Thought, Action, Action Input, behind this sentence;
# its last words, misspelt, are upstream's, whose script looks for them.
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
# Before and behind the earlier tries.
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


def opening_of(query: str, functions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages that a search begins with.

    Args:
        query: what the user wants.
        functions: schemas with name and description.

    >>> [message["role"] for message in opening_of("Is it up?", [{"name": "ping", "description": "Asks a host."}])]
    ['system', 'user']
    """
    told = "\n".join(f"- {each['name']}: {str(each.get('description') or '')[:DESCRIBED]}" for each in functions)
    return [{"role": "system", "content": RULES.format(functions=told)}, {"role": "user", "content": query}]
