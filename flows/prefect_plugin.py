"""Lets `prefect deployment run build-multistep` find the deployment without its flow's name.

Prefect asks for FLOW/DEPLOYMENT. It has no public place to change that, so this startup hook wraps the client's look-up by name: a name
without a slash that belongs to exactly one deployment is resolved to it, and anything else gets Prefect's own answer. The hook runs where
plugins are enabled: in a folder whose pyproject.toml has `[tool.prefect.plugins] enabled = true`, or with PREFECT_PLUGINS_ENABLED=1. The
wrapped module is private to Prefect, so the project pins Prefect exactly and tests the bare name against a real server.
"""

from __future__ import annotations

import functools
from typing import Any

from prefect.plugins import register_hook


@register_hook
def setup_environment(*, ctx: Any) -> None:
    """Called by Prefect once, before a command or a worker starts."""
    from prefect.client.orchestration._deployments.client import DeploymentAsyncClient

    original = DeploymentAsyncClient.read_deployment_by_name
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    async def read_deployment_by_name(self: Any, name: str) -> Any:
        return await original(self, await _full_name(self, name) if "/" not in name else name)

    DeploymentAsyncClient.read_deployment_by_name = read_deployment_by_name


async def _full_name(client: Any, name: str) -> str:
    """FLOW/DEPLOYMENT for the only deployment of that name; `name` itself if there is none, or more than one."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    deployments = await client.read_deployments(deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])))
    if len(deployments) != 1:
        return name
    flow = await client.read_flow(deployments[0].flow_id)
    return f"{flow.name}/{name}"
