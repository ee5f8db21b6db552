"""Tiny models with random weights, and tokenizers trained on a few sentences.

A causal model, two kinds of translation models, a sequence-to-sequence model and a span extraction model.
"""

from __future__ import annotations

import io
import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from toolrlef_data.engines.local.weights import silence_transformers

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if tools %}<|tools|>{{ tools | length }}{% endif %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SENTENCES = [
    "How many apples are there in 3 boxes of 12?",
    "calculator(3*12) gives 36.",
    "The answer is\n48, she says.",
]


def tiny_llama(
    folder: Path,
    *,
    template: str | None = TEMPLATE,
    context: int = 256,
    texts: Iterable[str] = (),
    eos: str = "</s>",
) -> Path:
    """Save a causal model and a tokenizer for `from_pretrained`, and return the folder.

    With `texts`, the tokenizer is trained on them and encodes any text; otherwise it encodes a few sentences.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|tools|>"]
    texts = list(texts)
    size, alphabet = (2000, pre_tokenizers.ByteLevel.alphabet()) if texts else (120, [])
    special += [eos] if eos not in special else []
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    words.train_from_iterator(texts or SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token=eos, unk_token="<unk>", pad_token="</s>"
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
        initializer_range=0.3,  # large, so that floating-point noise does not change greedy decoding
        bos_token_id=1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=2,
    )
    with torch.random.fork_rng([]), silence_transformers():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def bytes_chat(folder: Path) -> Path:
    """Save a byte tokenizer, which encodes any text, with a chat template, and return the folder."""
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer.save_pretrained(folder)
    return folder


def tiny_adapter(folder: Path, model: Path, seed: int = 0) -> Path:
    """Save a LoRA adapter with random weights, which changes every reply of the model, and return the folder."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng([]), silence_transformers():
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    return folder


# A question in each language of MLQA, and a passage with its answer.
QUESTIONS = {
    "en": "Where does the river rise that flows past the old mill?",
    "de": "Wo entspringt der Fluss, der an der alten Mühle vorbeifließt?",
    "es": "¿Dónde nace el río que pasa junto al viejo molino?",
    "vi": "Con sông chảy qua cối xay cũ bắt nguồn từ đâu?",
    "ar": "أين ينبع النهر الذي يمر بجانب الطاحونة القديمة؟",
    "hi": "पुरानी चक्की के पास से बहने वाली नदी कहाँ से निकलती है?",
    "zh": "流经老磨坊的那条河发源于哪里？",
}
PASSAGE = "The old mill stands in Tarnau. The river that drives it rises below the Kestrel Hills and is 42 miles long."


def tiny_m2m100(folder: Path) -> Path:
    """Save a translation model with M2M100's tokenizer class and a sentencepiece model, and return the folder."""
    import sentencepiece
    from transformers import M2M100Tokenizer

    folder.mkdir(parents=True)
    pieces = io.BytesIO()
    settings: dict[str, Any] = {
        "vocab_size": 200,
        "hard_vocab_limit": False,
        "character_coverage": 1.0,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(QUESTIONS.values()), model_writer=pieces, **settings
    )
    (folder / "sentencepiece.bpe.model").write_bytes(pieces.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=pieces.getvalue())
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    for n in range(processor.get_piece_size()):
        vocabulary.setdefault(processor.id_to_piece(n), len(vocabulary))
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    size = len(vocabulary) + len(tokenizer.lang_code_to_id) + tokenizer.num_madeup_words
    return _save_translation_model(folder, tokenizer, size)


def tiny_nllb(folder: Path) -> Path:
    """Save a translation model of M2M100's architecture with NLLB's tokenizer class, and return the folder."""
    from transformers import NllbTokenizer

    characters = sorted({character for text in QUESTIONS.values() for character in text if character != " "})
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *characters, *(f"▁{character}" for character in characters)]
    merges = [("▁", character) for character in characters]
    tokenizer = NllbTokenizer(vocab={piece: n for n, piece in enumerate(pieces)}, merges=merges)
    return _save_translation_model(folder, tokenizer, len(tokenizer))


def _save_translation_model(folder: Path, tokenizer: Any, size: int) -> Path:
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    config = M2M100Config(
        vocab_size=size,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=128,
        initializer_range=0.5,  # large, so that floating-point noise does not change greedy decoding
    )
    with torch.random.fork_rng([]), torch.no_grad(), silence_transformers():
        torch.manual_seed(0)
        model = M2M100ForConditionalGeneration(config)
        for layer in model.model.decoder.layers:
            layer.encoder_attn.out_proj.weight *= 5  # so that the output depends on the input
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _reader_tokenizer() -> Any:
    """Return a tokenizer with the words of the passage and the question, and with the letters of all other words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    rules = pre_tokenizers.BertPreTokenizer()
    vocabulary = sorted({word for text in (PASSAGE, QUESTIONS["en"]) for word, _ in rules.pre_tokenize_str(text)})
    letters = sorted(set(string.ascii_letters + string.digits) - set(vocabulary))
    suffixes = [f"##{letter}" for letter in string.ascii_letters]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *vocabulary, *letters, *suffixes]
    words = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    words.pre_tokenizer = rules
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
    )


def tiny_bert(folder: Path, context: int = 64) -> Path:
    """Save a span extraction model with a context of `context` tokens, and return the folder."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    tokenizer = _reader_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=context,
        initializer_range=0.5,
        pad_token_id=0,
    )
    with torch.random.fork_rng([]), silence_transformers():
        torch.manual_seed(0)
        BertForQuestionAnswering(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def tiny_t5(folder: Path) -> Path:
    """Save a sequence-to-sequence model for a reader, or for a translator without language codes; return the folder."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = _reader_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=1,
        num_heads=2,
        initializer_factor=4.0,
        pad_token_id=0,
        eos_token_id=3,
        decoder_start_token_id=0,
    )
    with torch.random.fork_rng([]), silence_transformers():
        torch.manual_seed(0)
        T5ForConditionalGeneration(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder
