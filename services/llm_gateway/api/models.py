"""`/v1/models`: the models that a key can ask for."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from zhiwen.common.auth.dependency import principal_of
from zhiwen.common.prompts import EXTRACTIVE_MODEL
from zhiwen.llm_gateway.accounting.limits import limits_of
from zhiwen.llm_gateway.state import GatewayState, gateway_of
from zhiwen.llm_gateway.upstreams.routing import may_use

router = APIRouter(prefix="/v1", tags=["models"])


def _model_object(name: str) -> dict[str, Any]:
    """Return OpenAI's description of a model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "zhiwen"}


def _model_list(names: list[str]) -> dict[str, Any]:
    """Return OpenAI's list of models."""
    return {"object": "list", "data": [_model_object(name) for name in names]}


def _example(payload: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": payload}}}}


@router.get("/models", summary="The models that can be asked for", responses=_example(_model_list([EXTRACTIVE_MODEL])))
async def models(request: Request) -> Response:
    """List the models that the key may ask for."""
    gateway = gateway_of(request.scope)
    principal = await principal_of(request, gateway.keyring)
    return _json(_model_list(model_names(gateway, principal.name)))


@router.get("/models/{model:path}", summary="One model", responses=_example(_model_object(EXTRACTIVE_MODEL)))
async def model(request: Request, model: str) -> Response:
    """Return one model, if the key may ask for it."""
    gateway = gateway_of(request.scope)
    principal = await principal_of(request, gateway.keyring)
    if model not in model_names(gateway, principal.name):
        gateway.pool.resolve(model)  # raises unless a wildcard matches it
    return _json(_model_object(model))


def model_names(gateway: GatewayState, key: str) -> list[str]:
    """Return the names of all models that the key named `key` may use."""
    names = gateway.pool.public_models()
    if gateway.embeddings is not None and gateway.embeddings.model not in names:
        names.append(gateway.embeddings.model)
    limits = limits_of(gateway.pool.config.keys, key)
    return names if limits is None else [name for name in names if may_use(limits.models, name)]


def _json(payload: dict[str, Any]) -> Response:
    return Response(orjson.dumps(payload), media_type="application/json")
