"""Spending: what was sent and used, and whether one more request stays below the caps.

Tokens count as the server reports them. A request under way counts with what it may use at most; one whose answer
was lost (a timeout, a cut body) stays counted so, since the server may have worked for it; a refusal costs no tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from toolrlef_data.engines.spec import Limits

__all__ = ["SPENDING_BY_MODEL", "Need", "Spending", "spending_of"]

BATCH_PRICE = 0.5  # https://platform.openai.com/docs/guides/batch


class Need(NamedTuple):
    """Tokens that a request may use at most: of its prompt (estimated) and of its reply."""

    prompt: float
    completion: float


@dataclass
class Spending:
    """What this process has sent to one model of one server.

    >>> spending = Spending()
    >>> spending.start(Need(10, 5)); spending.finish(Need(10, 5), Need(9, 2))
    >>> spending.refusal(Limits(max_tokens_total=12), Need(10, 5))
    'max_tokens_total=12: 11 tokens are used, and the next request may use 15'
    """

    requests: int = 0
    prompt: float = 0.0
    completion: float = 0.0
    under_way: int = 0
    reserved_prompt: float = 0.0
    reserved_completion: float = 0.0

    def start(self, need: Need, requests: int = 1) -> None:
        """A request is let through; `requests` is 0 where it was counted before, by an earlier run."""
        self.requests += requests
        self.under_way += 1
        self.reserved_prompt += need.prompt
        self.reserved_completion += need.completion

    def finish(self, need: Need, used: Need) -> None:
        self.under_way -= 1
        self.reserved_prompt -= need.prompt
        self.reserved_completion -= need.completion
        if not self.under_way:  # no crumbs of sums of floats
            self.reserved_prompt = self.reserved_completion = 0.0
        self.prompt += used.prompt
        self.completion += used.completion

    def take_back(self, need: Need) -> None:
        """A request that was let through and never sent."""
        self.requests -= 1
        self.finish(need, Need(0, 0))

    def cost(self, limits: Limits) -> float | None:
        """What the used tokens cost; None without prices."""
        return None if limits.price is None else _cost(limits, self.prompt, self.completion)

    def refusal(self, limits: Limits, need: Need) -> str:
        """Why the next request may not go, for good or until another one is back; empty where it may."""
        if limits.max_requests is not None and self.requests >= limits.max_requests:
            return f"max_requests={limits.max_requests}: {self.requests} requests are sent"
        prompt = self.prompt + self.reserved_prompt + need.prompt
        completion = self.completion + self.reserved_completion + need.completion
        if limits.max_tokens_total is not None and prompt + completion > limits.max_tokens_total:
            return (
                f"max_tokens_total={limits.max_tokens_total}: {self.prompt + self.completion:.0f} tokens are used, and "
                f"the next request may use {sum(need):.0f}"
            )
        if limits.max_cost is not None and _cost(limits, prompt, completion) > limits.max_cost:
            return (
                f"max_cost={limits.max_cost}: {self.cost(limits):.4f} is spent, and the next request may cost "
                f"{_cost(limits, *need):.4f}"
            )
        return ""


def _cost(limits: Limits, prompt: float, completion: float) -> float:
    per_prompt, per_completion = limits.price or (0.0, 0.0)
    share = BATCH_PRICE if limits.mode == "batch" else 1.0
    return share * (prompt * per_prompt + completion * per_completion) / 1e6


SPENDING_BY_MODEL: dict[tuple[str, str], Spending] = {}


def spending_of(url: str, model: str) -> Spending:
    """The one record of this process for a model of a server."""
    return SPENDING_BY_MODEL.setdefault((url, model), Spending())
