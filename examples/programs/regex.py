import re

LOG = """\
2024-03-01T08:15:02Z web-1 GET /index.html 200 12ms
2024-03-01T08:15:03Z web-2 GET /missing 404 3ms
not a log line
2024-03-01T08:15:04Z web-1 POST /orders 201 48ms
"""
LINE = re.compile(r"^(?P<day>[\d-]+)T\S+ (?P<host>\S+) (?P<verb>[A-Z]+) (?P<path>\S+) (?P<code>\d{3}) (?P<ms>\d+)ms$", re.M)

for match in LINE.finditer(LOG):
    print(match["host"], match["verb"], match["path"], match["code"])
print("total", sum(int(match["ms"]) for match in LINE.finditer(LOG)), "ms")
print(re.sub(r"(\w+)@(\w+)\.example", r"\2 at \1", "write to ada@lovelace.example today"))
