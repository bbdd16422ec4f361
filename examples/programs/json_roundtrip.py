import json

value = {
    "name": "Zoë \"Z\"",
    "list": [1, 2.5, None, True, -0.0, 1e100],
    "nested": {"empty": {}, "lines": "a\nb\tc"},
    "large": 2**70,
}
text = json.dumps(value, sort_keys=True, separators=(",", ":"))
assert json.loads(text) == value
assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
print(text)
