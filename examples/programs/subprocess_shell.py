import subprocess

done = subprocess.run(
    ["sh", "-c", "read line; echo got $line; echo oops >&2; exit 5"],
    input="a line\n",
    capture_output=True,
    text=True,
)
print("exit", done.returncode)
print("stdout", repr(done.stdout))
print("stderr", repr(done.stderr))
