"""Budget: requests sent, tokens used, and the check that the next request stays below the caps.

Tokens are counted as the server reports them. An in-flight request counts with its maximum number of tokens. So does a
request whose HTTP response was lost (a timeout, a truncated body), since the server may have processed it. A rejected
request costs no tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from toolrlef_data.engines.spec import Limits

__all__ = ["SPENDING_BY_MODEL", "Spending", "TokenCounts", "spending_of"]

BATCH_PRICE = 0.5  # https://platform.openai.com/docs/guides/batch


class TokenCounts(NamedTuple):
    """Prompt and completion tokens of one request."""

    prompt: float
    completion: float


class ExceededCap(NamedTuple):
    """A cap that the next request would exceed: a message, and whether the request may fit once others have ended."""

    message: str
    may_fit_later: bool


@dataclass
class Spending:
    """Requests and tokens of this process, for one model on one server.

    >>> spending = Spending()
    >>> spending.start(TokenCounts(10, 5)); spending.finish(TokenCounts(10, 5), TokenCounts(9, 2))
    >>> spending.exceeded_cap(Limits(max_tokens_total=12), TokenCounts(10, 5)).message
    'max_tokens_total=12 would be exceeded: 11 tokens are used, and the next request may use 15'
    """

    requests: int = 0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    in_flight: int = 0
    reserved_prompt: float = 0.0
    reserved_completion: float = 0.0

    def start(self, reserved: TokenCounts, requests: int = 1) -> None:
        """Reserve the maximum tokens of a request; `requests` is 0 if an earlier run sent and counted it."""
        self.requests += requests
        self.in_flight += 1
        self.reserved_prompt += reserved.prompt
        self.reserved_completion += reserved.completion

    def finish(self, reserved: TokenCounts, used: TokenCounts) -> None:
        """Replace the reserved tokens of a request with the used tokens."""
        self.in_flight -= 1
        self.reserved_prompt -= reserved.prompt
        self.reserved_completion -= reserved.completion
        if not self.in_flight:  # rounding errors must not add up
            self.reserved_prompt = self.reserved_completion = 0.0
        self.prompt_tokens += used.prompt
        self.completion_tokens += used.completion

    def undo_start(self, reserved: TokenCounts) -> None:
        """Remove a started request that was never sent."""
        self.requests -= 1
        self.finish(reserved, TokenCounts(0, 0))

    def cost(self, limits: Limits) -> float | None:
        """Return the cost of the used tokens, in the currency of the price; None without a price."""
        return None if limits.price is None else _cost(limits, self.prompt_tokens, self.completion_tokens)

    def exceeded_cap(self, limits: Limits, tokens: TokenCounts) -> ExceededCap | None:
        """Return the cap that the next request would exceed, or None.

        A request that exceeds a token or cost cap now may fit later: in-flight requests can use fewer tokens than
        reserved.
        """
        if limits.max_requests is not None and self.requests >= limits.max_requests:
            message = f"max_requests={limits.max_requests} is reached: {self.requests} requests were sent"
            return ExceededCap(message, may_fit_later=False)
        may_fit_later = self.in_flight > 0
        prompt = self.prompt_tokens + self.reserved_prompt + tokens.prompt
        completion = self.completion_tokens + self.reserved_completion + tokens.completion
        if limits.max_tokens_total is not None and prompt + completion > limits.max_tokens_total:
            message = (
                f"max_tokens_total={limits.max_tokens_total} would be exceeded: "
                f"{self.prompt_tokens + self.completion_tokens:.0f} tokens are used, "
                f"and the next request may use {sum(tokens):.0f}"
            )
            return ExceededCap(message, may_fit_later)
        if limits.max_cost is not None and _cost(limits, prompt, completion) > limits.max_cost:
            message = (
                f"max_cost={limits.max_cost} would be exceeded: {self.cost(limits):.4f} is spent, "
                f"and the next request may cost {_cost(limits, *tokens):.4f}"
            )
            return ExceededCap(message, may_fit_later)
        return None


def _cost(limits: Limits, prompt_tokens: float, completion_tokens: float) -> float:
    prompt_price, completion_price = limits.price or (0.0, 0.0)
    discount = BATCH_PRICE if limits.mode == "batch" else 1.0
    return discount * (prompt_tokens * prompt_price + completion_tokens * completion_price) / 1e6


SPENDING_BY_MODEL: dict[tuple[str, str], Spending] = {}


def spending_of(url: str, model: str) -> Spending:
    """Return the spending of this process, for a model on a server; the same object for each call."""
    return SPENDING_BY_MODEL.setdefault((url, model), Spending())
