# The outputs end at once, but the exit code comes later.
import os
import time

print("closing all three", flush=True)
for descriptor in (0, 1, 2):
    os.close(descriptor)
time.sleep(0.3)
os._exit(4)
