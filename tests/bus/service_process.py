"""A process under ``run_service`` that does what its argument says: ``fail`` before it is ready, or be ready and
``wait``, ``crash``, ``return``, ``hang``."""

from __future__ import annotations

import asyncio
import sys

from bus.service import ServiceContext, run_service


async def main(context: ServiceContext) -> None:
    what = sys.argv[1]
    if what == "fail":
        raise RuntimeError("the model is broken")
    await context.ready()
    if what == "crash":
        raise RuntimeError("the model is broken")
    if what == "wait":
        await context.stopping.wait()
    while what == "hang":
        await asyncio.sleep(1)


if __name__ == "__main__":
    run_service("sample", main)
