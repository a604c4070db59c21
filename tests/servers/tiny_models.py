"""Real transformer models, too small to know anything, made on the spot: what a model's folder holds is what counts."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "query", "passage", ":", "年", "假", "有", "几", "天", "annual", "leave", "days"]
HIDDEN = 16
MAX_TOKENS = 30
PROMPTS = {"query": "query: ", "document": "passage: "}


def write_checkpoint(folder: Path, *, one_score: bool = False) -> Path:
    """Write a BERT of random weights with its tokenizer; with `one_score`, a sequence classifier."""
    import torch

    transformers: Any = import_module("transformers")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=1,
    )
    model = transformers.BertForSequenceClassification(config) if one_score else transformers.BertModel(config)
    model.save_pretrained(folder)
    tokenizer = transformers.BertTokenizerFast(vocab=str(vocabulary), model_max_length=MAX_TOKENS + 2)
    tokenizer.save_pretrained(folder)
    return folder


def write_embedding_model(folder: Path) -> Path:
    """Write a sentence-transformers model with prompts for questions and passages; it reads `MAX_TOKENS` tokens."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    bert = Transformer(str(write_checkpoint(folder / "bert")), max_seq_length=MAX_TOKENS + 2)
    model = SentenceTransformer(modules=[bert, Pooling(HIDDEN)], prompts=PROMPTS, device="cpu")
    model.save(str(folder / "model"))
    return folder / "model"


def write_cross_encoder(folder: Path) -> Path:
    """Write a cross-encoder that gives one score."""
    return write_checkpoint(folder, one_score=True)
