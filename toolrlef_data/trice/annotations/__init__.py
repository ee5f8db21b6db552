"""Annotations: a teacher without a model, which composes tool calls from worked solutions.

| module | content |
|---|---|
| `composer` | composes one expression from the steps of a solution |
| `steps` | parses the steps of a solution |
| `formulas` | parses, evaluates and renders formulas |
| `consistency` | finds steps of a response that do not hold |
| `evidence` | recognises solutions whose prose contradicts their steps |
| `constants` | numbers that a formula can contain although the question does not |
"""
