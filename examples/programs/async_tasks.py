import asyncio


async def work(name, delay):
    await asyncio.sleep(delay)
    return name


async def main():
    async def in_order_of_end():
        for next_done in asyncio.as_completed([work("slow", 0.06), work("fast", 0.0), work("middle", 0.03)]):
            yield await next_done

    print(*[name async for name in in_order_of_end()])
    try:
        await asyncio.wait_for(asyncio.sleep(10), timeout=0.01)
    except asyncio.TimeoutError:
        print("gave up waiting")


asyncio.run(main())
