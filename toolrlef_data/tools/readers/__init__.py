"""Readers: transformers models as tools.

`qa_model` answers a question, by the `spans` that an extractive model marks or the text that a generative one writes;
`translator` translates between `languages`. Both load and decode encoder-decoder models by `seq2seq`.
"""
