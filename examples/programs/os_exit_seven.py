# os._exit skips all clean-up, so text in the buffer is lost.
import os

print("flushed", flush=True)
print("never seen")
os._exit(7)
