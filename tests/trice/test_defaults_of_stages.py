"""The defaults of all functions and records of trice but None, as their docstrings state them."""

from __future__ import annotations

import importlib
import inspect

import pytest

DEFAULTS = """
annotations.composer.Annotations: name='annotations'
annotations.composer.Composed: detail=''
annotations.formulas.parse: has_unknown=False
annotations.steps.Step: span=(0, 0)
benchmarks.choices.evaluate_choices: style='chat'
benchmarks.function_calls.evaluate_calls: style='chat' stop=() protocol='text'
benchmarks.offered.OfferedCall: is_offered=True
call_execution.Row: question='' context=''
evaluation.intervals.difference: seed=0
evaluation.intervals.estimate: seed=0
evaluation.outcomes.evaluate: tools=True style='chat' examples=0 stop=() protocol='text'
evaluation.report.Evaluation: kind='questions'
execution.execute_responses: compat=False verify=False
execution.grade_result: compat=False verify=True row_id=''
files.response_files.score_responses: compat=True
files.response_files.stage2_rows: compat=True
files.step_tables.build_file: responder=''
files.step_tables.parse_rows: dataset=''
files.steps.open_step: hint=''
files.steps.read_rows: needs=('id',) hint='' may_be_empty=False
files.steps.unfinished_rows: needs=('id',)
files.writer.write_trice: by_dataset=False
need.classes.need_class: threshold=0.5
need.counterfactual.counterfactual: samples=8 style='chat' examples=0 stop=() protocol='text' threshold=0.5 \
strip_reasoning=True accept_cut=('call', 'marked') ask_again=()
not_calling.stage.without_tool: others=() seed=0
ranking.agreement.drop_learnt: margin=0.0
ranking.logprobs.logprobs: style='alpaca' examples=0 end=True devices=() tolerance=0.025
responders.Responder: style='chat' protocol='text' samples=1 stop=() strip_reasoning=True force_call=False
responders.respond: accept_cut=('call', 'marked') ask_again=()
scoring.candidates.Candidate: uses_tool=False
scoring.rescoring.rescore: trusted=()
scoring.rules.cost: trusted=() threshold=0.5 levels=(20.0, 15.0, 10.0, 5.0, 0.0)
scoring.rules.paper: trusted=() levels=(20.0, 15.0, 10.0, 5.0, 0.0)
scoring.rules.trice: trusted=() missing='zero' ties='order' levels=(20.0, 15.0, 10.0, 5.0, 0.0)
scoring.stage.score: rule='trice' trusted=() compat=False lacking='drop_row'
stage1.build_stage1: teacher=() attempts=3 keep_unverified=False accept_cut=('call', 'marked') ask_again=() compat=False \
unsure='drop' hopeless='call'
stage2.build_stage2: rule='trice' trusted=() compat=False lacking='drop_row'
stage2.execute: compat=False
student.answer: style='chat' examples=0 samples=1 strip_reasoning=True accept_cut=('call', 'marked') ask_again=()
student.grade: threshold=0.5 rule='default' compat=False
student.grade_samples: compat=False
teachers.propose_calls: attempts=3 accept_cut=('call', 'marked') ask_again=() style='chat' verify=True compat=False
teachers.write_calls: verify=True compat=False
training.adapter.train: batch_size=4 accumulation=1 schedule='linear' weight=1.0 compat=False style='alpaca' \
max_tokens=512 seed=0 kept_steps=()
training.losses.batch_loss: update=()
training.samples.Sample: scores=()
training.warm_up.warm_up: steps=12 batch_size=4 learning_rate=0.0001 max_tokens=512 seed=0 style='alpaca'
"""


@pytest.mark.parametrize("line", DEFAULTS.strip().splitlines(), ids=lambda line: line.partition(":")[0])
def test_the_defaults_of_a_function(line: str) -> None:
    path, _, defaults = line.partition(": ")
    module, _, name = path.rpartition(".")
    function = getattr(importlib.import_module(f"toolrlef_data.trice.{module}"), name)
    parameters = inspect.signature(function).parameters.values()
    found = [f"{p.name}={p.default!r}" for p in parameters if p.default not in (p.empty, None)]
    assert " ".join(found) == defaults
