# Committed rows are there after reopening, rows that were rolled back are not.
import os
import sqlite3
import tempfile

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "orders.db")
    db = sqlite3.connect(path)
    with db:
        db.execute("create table orders (id integer primary key, customer text, cents integer)")
        db.executemany(
            "insert into orders (customer, cents) values (?, ?)",
            [("Ada", 1250), ("Grace", 399), ("Ada", 51)],
        )
    db.execute("delete from orders")
    db.rollback()
    db.close()

    db = sqlite3.connect(path)
    for row in db.execute("select customer, sum(cents) from orders group by 1 order by 1"):
        print(*row)
    print("integrity", *db.execute("pragma integrity_check").fetchone())
    db.close()
