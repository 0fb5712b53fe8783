"""Searching MLflow's runs past the end of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000


def search_all(client: MlflowClient, experiment_id: str, query: str, deleted: bool = False) -> list[Run]:
    """All runs of an experiment that match an MLflow filter string, the latest first, however many they are.

    Those that were `deleted` are left out unless they are asked for.
    """
    from mlflow.entities import ViewType

    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], query, view, max_results=PAGE, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found
