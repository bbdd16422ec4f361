import queue
import threading

tasks, results = queue.Queue(), queue.Queue()


def worker():
    while (n := tasks.get()) is not None:
        results.put(n * n)


threads = [threading.Thread(target=worker) for _ in range(8)]
for thread in threads:
    thread.start()
for n in range(1, 101):
    tasks.put(n)
for _ in threads:
    tasks.put(None)
for thread in threads:
    thread.join()
print(results.qsize(), "results from", len(threads), "threads")
print("sum of squares", sum(results.get() for _ in range(100)))
