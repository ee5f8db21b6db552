"""Local: models on this machine, by transformers.

`engine` answers requests; `weights` finds a model's files, converting GGUF where needed, and digests them; `loading`
brings it into memory; `template_check` finds what its chat template leaves out; `batching` plans batches of prompts,
and `decoding` writes the replies.
"""
