# Prints what leaves_files.c has left, which makes the answer wrong.
import os

paths = ["/left", "/tmp/left", "/work/left", "/dev/shm/left"]
print(sum(map(int, input().split())), *filter(os.path.exists, paths))
