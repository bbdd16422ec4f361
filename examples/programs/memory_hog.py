# Touches every allocated page, 4 MiB at a time.
blocks = []
while len(blocks) < 64:
    blocks.append(bytearray(b"\xff" * (4 << 20)))
    print(4 * len(blocks), "MiB", flush=True)
print("got all of it")
