"""Engine for models on this machine, based on transformers.

| module | contents |
|---|---|
| `engine` | `LocalEngine`: from requests to replies |
| `weights` | location, digest and GGUF conversion of model files |
| `loading` | loaded models, shared between engines |
| `template_check` | detection of message parts that a chat template omits |
| `batching` | grouping of prompts by shared prefix, and batches of similar length |
| `decoding` | the decode loop |
| `memory` | detection of exhausted memory |
| `scoring` | log-probabilities of given responses |
"""
