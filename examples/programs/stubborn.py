# Only SIGKILL ends this program.
import signal
import time

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
    signal.signal(number, signal.SIG_IGN)
print("not listening", flush=True)
while True:
    time.sleep(0.05)
