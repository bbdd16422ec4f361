# The end of the output is not the end of the program.
import os
import sys
import time

print("closing", flush=True)
os.close(1)
time.sleep(0.2)
print("still here", file=sys.stderr)
