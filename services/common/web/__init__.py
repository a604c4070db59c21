"""The base of every FastAPI service: errors, request ids, health, metrics, and running as a process."""

from zhiwen.common.web.application import add_docs, install, new_app
from zhiwen.common.web.middlewares import MAX_BODY_BYTES, BodyLimit, CatchAll, RequestContext
from zhiwen.common.web.operations import Check, add_operations_routes, in_thread
from zhiwen.common.web.problems import Problem, problem_response, problems, service_error_of
from zhiwen.common.web.running import configuration_errors_end_the_process, migrated_ledger, run_service, serve

__all__ = [
    "MAX_BODY_BYTES",
    "BodyLimit",
    "CatchAll",
    "Check",
    "Problem",
    "RequestContext",
    "add_docs",
    "add_operations_routes",
    "configuration_errors_end_the_process",
    "in_thread",
    "install",
    "migrated_ledger",
    "new_app",
    "problem_response",
    "problems",
    "run_service",
    "serve",
    "service_error_of",
]
