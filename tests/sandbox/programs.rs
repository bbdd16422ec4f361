//! Ordinary programs work in a sandbox.

use crate::{printed, shared};

#[tokio::test]
async fn python_works_with_processes_threads_databases_and_temporary_files() {
    for (name, script, expected) in [
        (
            "multiprocessing",
            "import multiprocessing as m, os\n\
             def square(n): return n * n\n\
             if __name__ == '__main__':\n\
             \x20   with m.get_context('fork').Pool(4) as pool: print(sum(pool.map(square, range(100))))\n\
             \x20   queue = m.Queue(); m.Process(target=queue.put, args=('from a child',)).start(); print(queue.get())\n",
            "328350\nfrom a child",
        ),
        (
            "shared memory",
            "from multiprocessing import shared_memory\n\
             s = shared_memory.SharedMemory(create=True, size=1 << 20); s.buf[:3] = b'abc'\n\
             other = shared_memory.SharedMemory(s.name); print(bytes(other.buf[:3])); s.unlink()\n",
            "b'abc'",
        ),
        (
            "threads",
            "from concurrent.futures import ThreadPoolExecutor\n\
             with ThreadPoolExecutor(32) as pool: print(sum(pool.map(lambda n: n, range(1000))))\n",
            "499500",
        ),
        (
            "sqlite",
            "import sqlite3\n\
             for path in (':memory:', '/work/db', '/tmp/db'):\n\
             \x20   db = sqlite3.connect(path); db.execute('PRAGMA journal_mode=WAL'); db.execute('CREATE TABLE t (n)')\n\
             \x20   db.executemany('INSERT INTO t VALUES (?)', [(n,) for n in range(1000)]); db.commit()\n\
             \x20   print(db.execute('SELECT sum(n) FROM t').fetchone()[0])\n",
            "499500\n499500\n499500",
        ),
        (
            "tempfile",
            "import os, tempfile\n\
             with tempfile.TemporaryDirectory() as d, tempfile.NamedTemporaryFile() as f:\n\
             \x20   print(d.startswith('/tmp/'), f.name.startswith('/tmp/'), os.path.expanduser('~'))\n",
            "True True /work",
        ),
        (
            "a program of its own",
            "import os, subprocess\n\
             open('/work/run', 'w').write('#!/bin/sh\\necho it runs as $(id -u)\\n'); os.chmod('/work/run', 0o755)\n\
             print(subprocess.run(['/work/run'], capture_output=True, text=True).stdout.strip())\n",
            "it runs as 65534",
        ),
        (
            "asyncio and sockets",
            "import asyncio\n\
             async def main():\n\
             \x20   async def answer(r, w): w.write(await r.readline()); await w.drain(); w.close()\n\
             \x20   server = await asyncio.start_unix_server(answer, '/work/s')\n\
             \x20   r, w = await asyncio.open_unix_connection('/work/s'); w.write(b'hello\\n'); print(await r.readline())\n\
             \x20   p = await asyncio.create_subprocess_exec('echo', 'child', stdout=-1); print((await p.communicate())[0])\n\
             asyncio.run(main())\n",
            "b'hello\\n'\nb'child\\n'",
        ),
    ] {
        let c = shared().await;
        assert_eq!(printed(&c, script).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_virtual_environment_of_python_is_made_in_work() {
    let c = shared().await;
    // Without `pip`, which the packages of some systems leave out. A package is unpacked as `pip` does.
    let script = "import os, subprocess, venv, zipfile\n\
                  venv.create('/work/env', with_pip=False)\n\
                  lib = subprocess.run(['/work/env/bin/python', '-c', 'import site; print(site.getsitepackages()[0])'],\n\
                  \x20                    capture_output=True, text=True).stdout.strip()\n\
                  with zipfile.ZipFile('/tmp/mine.whl', 'w') as wheel: wheel.writestr('mine/__init__.py', 'name = 42')\n\
                  zipfile.ZipFile('/tmp/mine.whl').extractall(lib)\n\
                  print(subprocess.run(['/work/env/bin/python', '-c', 'import mine, sys; print(mine.name, sys.prefix)'],\n\
                  \x20                capture_output=True, text=True).stdout.strip())\n";
    assert_eq!(printed(&c, script).await, "42 /work/env");
}
