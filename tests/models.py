"""A causal model small enough to make in a test: two random layers, and a tokenizer trained on a few sentences."""

from __future__ import annotations

from pathlib import Path

from toolrlef_data.engines.weights import quietly

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if tools %}<|tools|>{{ tools | length }}{% endif %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SENTENCES = [
    "How many apples are there in 3 boxes of 12?",
    "calculator(3*12) gives 36.",
    "The answer is\n48, she says.",
]


def tiny_llama(folder: Path, *, template: str | None = TEMPLATE, context: int = 256) -> Path:
    """Save a model and a tokenizer as `from_pretrained` reads them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|tools|>"]
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    words.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    tokenizer.chat_template = template
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.3,  # wide, so that float noise decides no greedy choice
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    with torch.random.fork_rng([]), quietly():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def tiny_adapter(folder: Path, model: Path, seed: int = 0) -> Path:
    """Save a LoRA adapter over the model whose weights are random, so that it changes every reply."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng([]), quietly():
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    return folder
