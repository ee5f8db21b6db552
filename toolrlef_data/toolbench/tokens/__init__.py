"""Tokens: training samples as token ids and labels.

- `labels` builds the table of token ids and labels (`tokenise`).
- `steps` tokenises one step and locates its target.
- `chat_template` loads a tokenizer and checks that its template omits nothing.
"""
