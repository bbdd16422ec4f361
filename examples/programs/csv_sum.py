# An invoice as CSV on standard input, with quoted commas and quotes. Prints its total.
import csv
import sys
from decimal import Decimal

rows = list(csv.DictReader(sys.stdin))
total = sum(int(row["quantity"]) * Decimal(row["unit_price"]) for row in rows)
print("total", total)
print("rows", len(rows))
print("pieces", sum(int(row["quantity"]) for row in rows))
print("first", rows[0]["item"])
print("third", rows[2]["item"])
