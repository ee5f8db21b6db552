"""Readers: transformers models as tools.

`qa_model` answers a question: an extractive model selects a span (`spans`), a generative model writes a text.
`translator` translates between `languages`. Both load their models with `seq2seq`, and run
them with `generation`.
"""
