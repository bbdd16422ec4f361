import os

print("giving up", flush=True)
os.abort()
