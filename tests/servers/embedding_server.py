"""A scripted server of embeddings in a process of its own: OpenAI's `/v1/embeddings`, with models that tests can judge.

    python -m tests.servers.embedding_server [--answers FILE]

prints `{"port": N}` on its first line. FILE is a JSON object: the passage that answers each question.

    oracle      a passage's vector is random; a question's is near that of the passage that answers it, and all cosines
                are squeezed into .55 to .85 by a component that every vector has
    noise       every vector is random, by the hash of its text
    zero        every vector is zero
    constant    every vector is the same
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIMENSION = 256
LIKENESS = 0.55
SHARED = 0.6

Vector = NDArray[np.float64]


def random_vector(text: str) -> Vector:
    """Return a unit vector that only depends on the text, white space aside."""
    seed = int.from_bytes(hashlib.blake2b("".join(text.split()).encode(), digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).standard_normal(DIMENSION)
    found: Vector = vector / np.linalg.norm(vector)
    return found


def oracle(text: str, answers: Mapping[str, str]) -> Vector:
    """Return the squeezed vector of a passage, or of a question in the direction of its answer."""
    vector = random_vector(text)
    if text in answers:
        vector = LIKENESS * random_vector(answers[text]) + np.sqrt(1 - LIKENESS**2) * vector
    return np.concatenate([[np.sqrt(SHARED)], np.sqrt(1 - SHARED) * vector / np.linalg.norm(vector)])


def vector_of(model: str, text: str, answers: Mapping[str, str]) -> Vector:
    """Return the vector that a model gives."""
    match model:
        case "oracle":
            return oracle(text, answers)
        case "noise":
            return random_vector(text)
        case "constant":
            return random_vector("constant")
        case _:
            return np.zeros(DIMENSION)


def handler(answers: Mapping[str, str]) -> type[BaseHTTPRequestHandler]:
    """Return what answers the requests."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            vectors = [vector_of(asked["model"], text, answers) for text in asked["input"]]
            data = [{"object": "embedding", "index": n, "embedding": v.tolist()} for n, v in enumerate(vectors)]
            body = json.dumps({"object": "list", "model": asked["model"], "data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def main() -> None:
    """Serve until the process is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=Path)
    args = parser.parse_args()
    answers = json.loads(args.answers.read_text(encoding="utf-8")) if args.answers else {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(answers))
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
