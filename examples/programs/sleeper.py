import time

print("good night", flush=True)
time.sleep(30)
print("good morning")
