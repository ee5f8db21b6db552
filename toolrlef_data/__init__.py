"""Training data for selective tool use, with execution feedback, on top of Hugging Face `datasets`.

The public names; each is imported when it is first used, so that `import toolrlef_data` loads no torch, transformers
or openai.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolrlef_data.annotations import ANNOTATIONS as ANNOTATIONS
    from toolrlef_data.answer_writing import write_answers as write_answers
    from toolrlef_data.calls import parse_call as parse_call
    from toolrlef_data.calls import render_call as render_call
    from toolrlef_data.chat_tokens import tokenise as tokenise
    from toolrlef_data.dfsdt import Method as Method
    from toolrlef_data.engines import ENGINES as ENGINES
    from toolrlef_data.engines import EngineSpec as EngineSpec
    from toolrlef_data.engines import Limits as Limits
    from toolrlef_data.engines.local import load_model as load_model
    from toolrlef_data.engines.scripted import scripted as scripted
    from toolrlef_data.exports import EXPORTS as EXPORTS
    from toolrlef_data.exports import export as export
    from toolrlef_data.generating import generate_trajectories as generate_trajectories
    from toolrlef_data.lineage import ledger as ledger
    from toolrlef_data.lineage import lineage as lineage
    from toolrlef_data.loading_scripts import load_source as load_source
    from toolrlef_data.loading_scripts.subsets import TRICE_SIZES as TRICE_SIZES
    from toolrlef_data.loading_scripts.subsets import subset as subset
    from toolrlef_data.preferences import preference_pairs as preference_pairs
    from toolrlef_data.publish import publish as publish
    from toolrlef_data.recipe import load_recipe as load_recipe
    from toolrlef_data.recipe import run_recipe as run_recipe
    from toolrlef_data.records import CapReached as CapReached
    from toolrlef_data.records import CassetteMiss as CassetteMiss
    from toolrlef_data.records import Drop as Drop
    from toolrlef_data.records import InputError as InputError
    from toolrlef_data.records import Reply as Reply
    from toolrlef_data.records import ToolCall as ToolCall
    from toolrlef_data.records import ToolError as ToolError
    from toolrlef_data.records import ToolResult as ToolResult
    from toolrlef_data.records import ToolrlefError as ToolrlefError
    from toolrlef_data.responding import Responder as Responder
    from toolrlef_data.responding import respond as respond
    from toolrlef_data.scoring import RULES as RULES
    from toolrlef_data.splits import shuffle_steps as shuffle_steps
    from toolrlef_data.splits import split_queries as split_queries
    from toolrlef_data.stage1 import answer as answer
    from toolrlef_data.stage1 import build_stage1 as build_stage1
    from toolrlef_data.stage1 import grade as grade
    from toolrlef_data.stage2 import build_stage2 as build_stage2
    from toolrlef_data.stage2 import execute as execute
    from toolrlef_data.stage2 import score as score
    from toolrlef_data.tasks import TASKS as TASKS
    from toolrlef_data.tasks import Example as Example
    from toolrlef_data.tasks import Task as Task
    from toolrlef_data.teaching import propose_calls as propose_calls
    from toolrlef_data.tools import TOOLS as TOOLS
    from toolrlef_data.tools import Tool as Tool
    from toolrlef_data.tools.endpoint import search_endpoint as search_endpoint
    from toolrlef_data.tools.functions import Function as Function
    from toolrlef_data.tools.functions import function_from as function_from
    from toolrlef_data.tools.qa_model import qa_engine as qa_engine
    from toolrlef_data.tools.qa_model import qa_model as qa_model
    from toolrlef_data.tools.search import wiki_search as wiki_search
    from toolrlef_data.tools.translator import translator as translator
    from toolrlef_data.tools.translator import translator_engine as translator_engine
    from toolrlef_data.training import warm_up as warm_up
    from toolrlef_data.trajectories import trajectories as trajectories
    from toolrlef_data.transform import apply as apply
    from toolrlef_data.transform import explode as explode
    from toolrlef_data.transform import keep as keep
    from toolrlef_data.trice_reading import load_trice as load_trice

HOMES = {
    "ANNOTATIONS": "annotations",
    "CapReached": "records",
    "CassetteMiss": "records",
    "Drop": "records",
    "ENGINES": "engines",
    "EXPORTS": "exports",
    "EngineSpec": "engines",
    "Example": "tasks",
    "Function": "tools.functions",
    "InputError": "records",
    "Limits": "engines",
    "Method": "dfsdt",
    "RULES": "scoring",
    "Reply": "records",
    "Responder": "responding",
    "TASKS": "tasks",
    "TOOLS": "tools",
    "TRICE_SIZES": "loading_scripts.subsets",
    "Task": "tasks",
    "Tool": "tools",
    "ToolCall": "records",
    "ToolError": "records",
    "ToolResult": "records",
    "ToolrlefError": "records",
    "answer": "stage1",
    "apply": "transform",
    "build_stage1": "stage1",
    "build_stage2": "stage2",
    "execute": "stage2",
    "explode": "transform",
    "export": "exports",
    "function_from": "tools.functions",
    "generate_trajectories": "generating",
    "grade": "stage1",
    "keep": "transform",
    "ledger": "lineage",
    "lineage": "lineage",
    "load_model": "engines.local",
    "load_recipe": "recipe",
    "load_source": "loading_scripts",
    "load_trice": "trice_reading",
    "parse_call": "calls",
    "preference_pairs": "preferences",
    "propose_calls": "teaching",
    "publish": "publish",
    "qa_engine": "tools.qa_model",
    "qa_model": "tools.qa_model",
    "render_call": "calls",
    "respond": "responding",
    "run_recipe": "recipe",
    "score": "stage2",
    "scripted": "engines.scripted",
    "search_endpoint": "tools.endpoint",
    "shuffle_steps": "splits",
    "split_queries": "splits",
    "subset": "loading_scripts.subsets",
    "tokenise": "chat_tokens",
    "trajectories": "trajectories",
    "translator": "tools.translator",
    "translator_engine": "tools.translator",
    "warm_up": "training",
    "wiki_search": "tools.search",
    "write_answers": "answer_writing",
}

__all__ = [
    "ANNOTATIONS",
    "ENGINES",
    "EXPORTS",
    "RULES",
    "TASKS",
    "TOOLS",
    "TRICE_SIZES",
    "CapReached",
    "CassetteMiss",
    "Drop",
    "EngineSpec",
    "Example",
    "Function",
    "InputError",
    "Limits",
    "Method",
    "Reply",
    "Responder",
    "Task",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "ToolrlefError",
    "answer",
    "apply",
    "build_stage1",
    "build_stage2",
    "execute",
    "explode",
    "export",
    "function_from",
    "generate_trajectories",
    "grade",
    "keep",
    "ledger",
    "lineage",
    "load_model",
    "load_recipe",
    "load_source",
    "load_trice",
    "parse_call",
    "preference_pairs",
    "propose_calls",
    "publish",
    "qa_engine",
    "qa_model",
    "render_call",
    "respond",
    "run_recipe",
    "score",
    "scripted",
    "search_endpoint",
    "shuffle_steps",
    "split_queries",
    "subset",
    "tokenise",
    "trajectories",
    "translator",
    "translator_engine",
    "warm_up",
    "wiki_search",
    "write_answers",
]


class _Package(ModuleType):
    """`toolrlef_data.publish` is the function, also after its module of the same name was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'toolrlef_data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"toolrlef_data.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
