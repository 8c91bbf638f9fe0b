"""An embedding function for texts that needs no model: words hashed into a few dimensions."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from chromadb import Documents, EmbeddingFunction, Embeddings
from chromadb.utils.embedding_functions import register_embedding_function

DIMENSION = 64


@register_embedding_function
class WordHash(EmbeddingFunction[Documents]):
    """Texts that share words are near each other."""

    def __init__(self) -> None:
        pass

    def __call__(self, input: Documents) -> Embeddings:
        return [self.embed(text) for text in input]

    @staticmethod
    def embed(text: str) -> np.ndarray:
        vector = np.zeros(DIMENSION, dtype=np.float32)
        for word in text.lower().split():
            digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
            vector[int.from_bytes(digest, "little") % DIMENSION] += 1
        return vector / max(np.linalg.norm(vector), 1)

    @staticmethod
    def name() -> str:
        return "word_hash"

    def get_config(self) -> dict[str, Any]:
        return {}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> WordHash:
        return WordHash()
