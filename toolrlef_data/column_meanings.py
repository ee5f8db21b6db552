"""The meaning and the author of every column, for the data card and the docs.

| author | who wrote the values, and whose terms apply |
|---|---|
| source | the data set that the column `dataset` names |
| task | the task's prompts, which are part of this package unless the task is your own |
| model | a language model |
| tool | a tool or its corpus |
| pipeline | this package: ids, grades, scores and other facts about the row |

Several authors, separated by commas, wrote parts of a value, or different rows: a call can be composed from the source.
"""

from __future__ import annotations

__all__ = ["COLUMN_MEANINGS", "RESPONSE_MEANINGS", "Meaning"]

Meaning = tuple[str, str]  # meaning, author

ROW: dict[str, Meaning] = {
    "id": ("the id of the row; rows about one question or one search share it up to `#`", "pipeline"),
    "task": ("the task", "pipeline"),
    "dataset": ("the data set that the question or the search is from", "pipeline"),
}
GOLD: dict[str, Meaning] = {"answers": ("the gold answers, each of which is correct", "source")}
QUESTION: dict[str, Meaning] = {
    **ROW,
    **GOLD,
    "question": ("the question", "source"),
    "context": ("the text that the question is about; may be empty", "source"),
    "solution": ("the worked solution or formula of the data set; may be empty", "source"),
    "split_origin": ("the data set's split of the row", "pipeline"),
    "response": ("the student's response, written without a tool", "model"),
    "samples": ("further responses of the student to the same question", "model"),
    "prediction": ("the answer extracted from the student's response; null if there is none", "pipeline"),
    "correct": ("whether the prediction is right; null if it could not be graded", "pipeline"),
    "pass_rate": ("the share of right responses among all samples of the question", "pipeline"),
    "needs_tool": ("whether the question needs the tool: the student's pass rate is too low", "pipeline"),
    "tool_call": ("the verified tool call for the question; null if there is none", "model, source"),
    "tool_output": ("what the tool returned for the call", "tool"),
    "verified": ("whether the call was executed and led to a gold answer", "pipeline"),
    "verified_by": ('the evidence that the call is right: "value", "output", "reader" or null', "pipeline"),
    "attempts": ("the number of calls that were proposed", "pipeline"),
    "teacher": ("who wrote the call", "pipeline"),
    "rejected": ("why each earlier proposal was rejected", "pipeline"),
}
STAGE1: dict[str, Meaning] = {
    **ROW,
    **GOLD,
    "instruction": ("the task's instruction, which names the tool", "task"),
    "input": ("the question, with its context", "source"),
    "output": (
        "the training target: the student's response, or a tool call such as `calculator(36+36/2)`",
        "model, source",
    ),
    "uses_tool": ("whether `output` is a tool call", "pipeline"),
    "source": (
        'who wrote `output`: "student", "teacher", or "question" (a call that needed no teacher)',
        "pipeline",
    ),
    "verified_by": QUESTION["verified_by"],
}
NOT_CALLING: dict[str, Meaning] = {
    **STAGE1,
    "answers": ("the gold answers of a row of stage 1; empty in the others, which no reward grades", "source"),
    "instruction": ("what the row asks for, and the tools that it offers", "task, pipeline"),
    "input": ("the question, perhaps without a number; or a message that asks nothing", "source, pipeline"),
    "output": ("the training target", "model, source, pipeline"),
    "source": (
        'who wrote `output`: as in stage 1; "template" for a fixed text of this package; or a responder of stage 2',
        "pipeline",
    ),
    "kind": (
        'why the right behaviour is not to call: "no_tools", "other_tools", "missing_argument" or "chat"; null for a '
        "row of stage 1",
        "pipeline",
    ),
    "tools": ("the functions that the row offers as a list of schemas, in JSON text", "pipeline"),
    "rejected": ("the call that is wrong in this row; null if there is none", "model, source"),
    "check": ("what was executed to check the row", "pipeline"),
}
STAGE2: dict[str, Meaning] = {
    **ROW,
    **GOLD,
    "query": ("instruction and input, with a line break between them", "task, source"),
    "responses": ("the texts, gold first", "model, source"),
    "origin": ('who responded: "gold" is the output of stage 1, the others are names of responders', "pipeline"),
    "scores": ("the score of each response, 20 to 0 by the rules of this package; higher is better", "pipeline"),
    "answer": (
        'the prediction of each response, numbers with a decimal point ("54.0"); null if there is none',
        "pipeline",
    ),
    "uses_tool": ("whether each response calls the tool; an unfinished call counts", "pipeline"),
    "tool_outputs": ("what the tool returned; null without a call or a value", "tool"),
    "correct": ("whether each response is right; null if it could not be graded", "pipeline"),
    "finish_reasons": ('why each reply ended: "stop", "length" or "tool_calls"', "pipeline"),
    "instruction": ("the first part of `query`", "task"),
    "input": ("the second part of `query`", "source"),
    "errors": ("the error kind of each call; null without an error", "pipeline"),
    "error_details": ("the tool's message for each error of `errors`; null without one", "pipeline"),
    "rule": ("the scoring rule", "pipeline"),
}
SEARCH: dict[str, Meaning] = {
    **ROW,
    "query": ("the query that the search answers", "source"),
    "finish_type": ('how the search ended: "give_answer", "give_up", or null if it was stopped', "pipeline"),
    "source_file": ("the answer file of the search", "pipeline"),
    "flags": ("irregularities of the trained steps", "pipeline"),
}
ANSWERS: dict[str, Meaning] = {
    **SEARCH,
    "valid": ("whether the file has a chosen path", "pipeline"),
    "win": ("whether the search reports success", "pipeline"),
    "n_calls": ("the number of requests to the model", "pipeline"),
    "total_tokens": ("the number of tokens that the file reports", "pipeline"),
    "answer": ("the complete answer file as JSON text", "model"),
}
STEP: dict[str, Meaning] = {
    "step": ("the number of the last trained step", "pipeline"),
    "steps": ("the numbers of all trained steps", "pipeline"),
    "layout": ('"split": one trained step a row; "merged": several', "pipeline"),
    "history": ("how the history includes retry prompts", "pipeline"),
    "tools": ("the functions as a list of schemas, in JSON text", "source"),
    "on_path": ("whether all trained steps are on the chosen path of the search", "pipeline"),
}
TRAJECTORIES: dict[str, Meaning] = {
    **SEARCH,
    **STEP,
    "n_steps": ("the number of steps of the complete trajectory", "pipeline"),
    "messages": ("the messages in OpenAI's format; those with `train` are the targets", "model, source, tool"),
    "on_path_steps": ("the trained steps on the chosen path", "pipeline"),
}
TOOLLLAMA: dict[str, Meaning] = {
    **SEARCH,
    **STEP,
    "name": ("the id in ToolBench's training file, which is not unique", "pipeline"),
    "conversations": (
        "the text turns of ToolBench's training file; only the last one is trained",
        "model, source, tool",
    ),
}
PAIRS: dict[str, Meaning] = {
    **SEARCH,
    **STEP,
    "prompt": ("the messages before the step", "model, source, tool"),
    "chosen": ("the preferred next message", "model"),
    "rejected": ("the other next message", "model"),
    "why": ("why the other branch was rejected", "pipeline"),
}
TOKENS: dict[str, Meaning] = {
    **SEARCH,
    **STEP,
    "input_ids": ("the tokens of the rendered messages", "model, source, tool"),
    "labels": ("the same tokens; -100 for those that are not trained", "model"),
    "n_tokens": ("the number of tokens", "pipeline"),
    "n_trained": ("the number of trained tokens", "pipeline"),
    "fallback": ("why a step does not share its merged sequence; null for other rows", "pipeline"),
    "shortened": ("the number of messages removed from the history", "pipeline"),
}
EXECUTIONS: dict[str, Meaning] = {
    **ROW,
    "tool": ("the tool that was called, or its reader", "pipeline"),
    "version": ("the version of the tool, or the model of the reader", "pipeline"),
    "argument": ("the argument of the call", "model"),
    "output": ("what the tool returned: one text, or one a passage; empty if it failed", "tool"),
    "error": ("the error kind; null if the tool succeeded", "pipeline"),
    "detail": ("the tool's message for `error`; null without one", "pipeline"),
}
NEED: dict[str, Meaning] = {
    **ROW,
    **{
        f"{name}_{side}{end}": (meaning.format(kind), "pipeline")
        for side, kind in (("plain", "without the tool"), ("tool", "with a forced call of the tool"))
        for name, end, meaning in (
            ("p", "", "the share of right samples {}; null if none was graded"),
            ("p", "_low", "the lower bound of its 95 % interval (Wilson)"),
            ("p", "_high", "the upper bound of its 95 % interval"),
            ("n", "", "the number of graded samples {}"),
            ("tokens", "", "the mean tokens of a reply {}; null if the engine counts none"),
            ("calls", "", "the mean calls of a response {}"),
        )
    },
    "need": ("the class: needs_tool, indifferent, harmed, hopeless or unsure", "pipeline"),
    "model": ("the model that was measured", "pipeline"),
}
LOGPROBS: dict[str, Meaning] = {
    "logprobs": ("the log-probability of each response, in nats; null without a value", "pipeline"),
    "logprob_tokens": ("the number of tokens of each response", "pipeline"),
    "logprob_errors": ("why there is no value", "pipeline"),
    "logprob_model": ("the model of the log-probabilities, with a digest", "pipeline"),
}
AGREEMENT: dict[str, Meaning] = {
    "logprobs_normalised": ("the log-probability of each response per token, in nats", "pipeline"),
    "ranking_pairs": ("the number of pairs of responses with different scores", "pipeline"),
    "ranking_ordered": ("the number of these pairs that the log-probabilities order as the scores do", "pipeline"),
    "ranking_margin": ("the smallest difference of a pair, better minus worse; null without a pair", "pipeline"),
    "ranking_loss": ("the sum over the pairs of max(0, worse - better)", "pipeline"),
    "ranking_learnt": ("whether all pairs are ordered; null without a pair", "pipeline"),
    "ranking_weight": ("the share of the pairs that are not ordered", "pipeline"),
}
DROPPED: dict[str, Meaning] = {
    **ROW,
    "stage": ("the stage that dropped the row", "pipeline"),
    "reason": ("why it was dropped", "pipeline"),
    "detail": ("the text that shows the reason", "source, model"),
}

# Kind of table -> column -> meaning.
COLUMN_MEANINGS = {
    "questions": QUESTION,
    "stage1": STAGE1,
    "not_calling": NOT_CALLING,
    "stage2": STAGE2,
    "answers": ANSWERS,
    "trajectories": TRAJECTORIES,
    "toolllama": TOOLLLAMA,
    "pairs": PAIRS,
    "tokens": TOKENS,
    "executions": EXECUTIONS,
    "need": NEED,
    "logprobs": LOGPROBS,
    "agreement": AGREEMENT,
    "dropped": DROPPED,
}

# Field of a response -> meaning.
RESPONSE_MEANINGS: dict[str, Meaning] = {
    "text": ("the text that is parsed and graded; null if and only if `error` is set", "model"),
    "reasoning": ("the reasoning before the text, which is never parsed", "model"),
    "raw": ("the reply, with reasoning and surrounding white space", "model"),
    "finish_reason": ('why the reply ended: "stop", "length" or "tool_calls"', "pipeline"),
    "error": ("the error kind of the request; null without an error", "pipeline"),
    "error_detail": ("the error message", "pipeline"),
    "n_calls": ("the number of calls in the text", "pipeline"),
    "tool": ("the called tool; also set for a failed call", "pipeline"),
    "argument": ("the argument of the call", "model"),
    "arguments": ("all arguments of the call as a JSON object", "model"),
    "tool_output": ("what the tool returned", "tool"),
    "tool_error": ("the error kind of the call; null without an error", "pipeline"),
    "tool_error_detail": ("the tool's message for `tool_error`; null without one", "pipeline"),
    "predictions": ("the answers extracted from the response or from the tool's output", "pipeline"),
    "correct": ("whether a prediction is right; null if it could not be graded", "pipeline"),
    "prompt_tokens": ("the tokens of the prompt, as the engine counts them", "pipeline"),
    "completion_tokens": ("the tokens of the reply, as the engine counts them", "pipeline"),
}
