"""Several contexts at once, with the asynchronous client.

Start a server first (`make serve`), or give the address of one: `python async_many.py HOST:PORT`.
"""

from __future__ import annotations

import asyncio
import sys

from codecontext import AsyncCodeContextClient


async def count_primes(client: AsyncCodeContextClient, below: int) -> str:
    """Counts primes in a context of its own."""
    context = await client.create_code_context(labels={"job": "primes"})
    try:
        code = f"sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, {below}))"
        execution = await client.run_code(code, context=context, timeout=60)
        return f"{execution.results[0].text} primes below {below}"
    finally:
        await client.delete_code_context(context, force=True)


async def main(target: str) -> None:
    """Counts in four contexts side by side."""
    async with AsyncCodeContextClient(target) as client:
        for line in await asyncio.gather(*(count_primes(client, 10**n) for n in range(1, 5))):
            print(line)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
