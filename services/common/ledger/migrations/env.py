"""Alembic's entry point: runs on the connection that `Database.migrate` hands over."""

from __future__ import annotations

from alembic import context

from zhiwen.common.ledger.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
with context.begin_transaction():
    context.run_migrations()
if connection.in_transaction():
    connection.commit()
