# Every process forks as fast as possible, and repeats a refused fork forever.
import os
import time

first = os.getpid()
told = False
print("forking", flush=True)
while True:
    try:
        os.fork()
    except OSError as error:
        if os.getpid() == first and not told:
            print("refused:", type(error).__name__, flush=True)
            told = True
        time.sleep(0.02)
