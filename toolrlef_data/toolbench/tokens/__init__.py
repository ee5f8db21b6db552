"""Tokenise: trajectory samples as token ids and labels.

`labels` makes the table; `steps` finds the tokens of each step; `chat_template` checks that a tokenizer and its
template lose nothing.
"""
