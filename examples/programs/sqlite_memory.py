import sqlite3

db = sqlite3.connect(":memory:")
db.execute("create table numbers (n integer primary key, odd integer)")
db.executemany("insert into numbers values (?, ?)", ((n, n % 2) for n in range(1, 1001)))
print("sum", *db.execute("select sum(n) from numbers").fetchone())
for row in db.execute("select odd, count(*), sum(n) from numbers group by odd order by odd"):
    print(*row, sep="|")
