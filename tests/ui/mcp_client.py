"""An MCP client that lists the page's tools, draws, and asks for results: ``python -m tests.ui.mcp_client URL``.

A process of its own, because the protocol's library warns in ways that are none of ours.
"""

import asyncio
import json
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def main(url):
    async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        compared = next(name for name in tools if name.endswith("compare"))
        called = await session.call_tool(compared, {"prompt": "a cat", "seed": 3})
        results = next(name for name in tools if name.endswith("results"))
        refused = await session.call_tool(results, {})
        print(
            json.dumps(
                {
                    "tools": sorted(tools),
                    "asks": sorted(tools[compared].inputSchema["properties"]),
                    "about": tools[compared].description,
                    "error": called.isError,
                    "kinds": [part.type for part in called.content],
                    "text": " ".join(getattr(part, "text", "") for part in called.content),
                    "refused": refused.isError,
                    "why": " ".join(getattr(part, "text", "") for part in refused.content),
                }
            )
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
