//! Processes of every kind and state, and what only lives as long as they do.

use super::{Cleaned, Either, Plant, plant, unseen};

pub const PLANTS: &[Plant] = &[
    plant("a daemon", Cleaned, "leave()"),
    plant("a child in the command's session", Cleaned, "leave(session=False)"),
    plant(
        "a daemon by two forks",
        Cleaned,
        "leave(lambda: leave(), then=lambda: os._exit(0))",
    ),
    plant("a stopped process", Cleaned, "os.kill(leave(), signal.SIGSTOP)"),
    plant(
        "a process that ignores signals",
        Cleaned,
        "
def ignore():
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
leave(ignore)
",
    ),
    plant(
        "zombies",
        Cleaned,
        "
def fork():
    for _ in range(20):
        if os.fork() == 0: os._exit(0)
leave(fork)
",
    ),
    plant(
        "a traced process",
        Cleaned,
        "
def trace():
    pid = os.fork()
    if pid == 0:
        libc.ptrace(0, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        wait_forever()
    os.waitpid(pid, os.WUNTRACED)
leave(trace)
",
    ),
    plant(
        "a process whose first thread has ended",
        Cleaned,
        "
def start():
    threading.Thread(target=wait_forever).start()
leave(start, then=lambda: libc.syscall(93 if ARM else 60, 0))
",
    ),
    plant(
        "a process of many threads",
        Cleaned,
        "
def start():
    threading.stack_size(65536)
    for _ in range(30): threading.Thread(target=wait_forever).start()
leave(start)
",
    ),
    unseen(
        "a fork bomb",
        Cleaned,
        "
def bomb():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        try:
            if os.fork() == 0: os.setsid()
        except OSError: pass
leave(then=bomb)
",
    ),
    unseen(
        "a chain in which each process starts the next and ends",
        Cleaned,
        "
def chain():
    while True:
        try:
            if os.fork(): os._exit(0)
            os.setsid()
        except OSError: pass
leave(then=chain)
",
    ),
    plant(
        "processes of other users",
        Cleaned,
        "
for user in [1, 4242, 65534]: leave(lambda: os.setresuid(user, user, user))
",
    ),
    plant("fifty processes", Cleaned, "for _ in range(50): leave()"),
    plant(
        "locks of files",
        Cleaned,
        "
def lock():
    files = [open(path) for path in ['/etc/passwd', '/dev/null', '/etc/hosts', '/tmp']  if not os.path.isdir(path)]
    for file in files: fcntl.flock(file, fcntl.LOCK_SH)
    files.append(open('/tmp/' + MARK, 'w'))
    fcntl.lockf(files[-1], fcntl.LOCK_EX)
    return files
leave(lock)
",
    ),
    plant(
        "an abstract socket",
        Cleaned,
        "
def listen():
    s = socket.socket(socket.AF_UNIX)
    s.bind('\\0' + MARK)
    s.listen()
    return s
leave(listen)
",
    ),
    plant(
        "servers on ports",
        Cleaned,
        "
def listen():
    tcp = socket.socket()
    tcp.bind(('127.0.0.1', 31999))
    tcp.listen()
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.bind(('127.0.0.1', 31998))
    return tcp, udp
leave(listen)
",
    ),
    plant(
        "a connection that is open at both ends",
        Either,
        "
def connect():
    server = socket.socket()
    server.bind(('127.0.0.1', 31997))
    server.listen()
    client = socket.create_connection(('127.0.0.1', 31997))
    other, _ = server.accept()
    client.send(MARK.encode())
    return server, client, other
leave(connect)
",
    ),
    plant(
        "connections that the kernel remembers",
        Either,
        "
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(('127.0.0.1', 31996))
server.listen()
for _ in range(3):
    client = socket.create_connection(('127.0.0.1', 31996))
    other, _ = server.accept()
    client.close()
    other.recv(1)
    other.close()
",
    ),
    plant(
        "connections by IPv6 that the kernel remembers",
        Either,
        "
server = socket.socket(socket.AF_INET6)
server.bind(('::1', 31995))
server.listen()
client = socket.create_connection(('::1', 31995))
other, _ = server.accept()
other.close()
client.recv(1)
client.close()
",
    ),
    unseen(
        "descriptors on their way through a socket that is in them",
        Either,
        "
def send():
    a, b = socket.socketpair()
    for _ in range(5): socket.send_fds(a, [MARK.encode()], [a.fileno(), b.fileno()])
leave(send, then=lambda: os._exit(0))
",
    ),
    plant(
        "datagrams by IPv6 of a protocol beside UDP",
        Either,
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, 136).sendto(MARK.encode(), ('::1', 9))",
    ),
    unseen(
        "a terminal on its way through a socket that is on its way too",
        Either,
        "
def send():
    a, b = socket.socketpair()
    ends = os.openpty()
    os.write(ends[0], MARK.encode())
    socket.send_fds(a, [b'x'], [a.fileno(), b.fileno(), *ends])
leave(send, then=lambda: os._exit(0))
",
    ),
    plant(
        "a terminal",
        Cleaned,
        "
def open_terminal():
    ends = os.openpty()
    os.write(ends[0], MARK.encode())
    return ends
leave(open_terminal)
",
    ),
    plant(
        "timers and watches",
        Cleaned,
        "
def watch():
    signal.setitimer(signal.ITIMER_REAL, 1000)
    fd = call('inotify_init')
    call('inotify_add_watch', fd, '/tmp', 0xfff)
    call('timerfd_create', 0, 0)
    call('eventfd', 0, 0)
leave(watch)
",
    ),
    plant(
        "a process in another root",
        Cleaned,
        "
def enter():
    os.mkdir('/tmp/root')
    os.chroot('/tmp/root')
leave(enter)
",
    ),
    unseen(
        "a storm of signals that stop everybody and let everybody go on",
        Cleaned,
        "
def storm():
    for _ in range(4):
        if os.fork() == 0: wait_forever()
    # One alone: two could stop each other at once.
    while True:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            try: os.kill(-1, number)
            except OSError: pass
leave(then=storm)
",
    ),
    plant(
        "a process that waits for its child as after vfork",
        Cleaned,
        "
def wait():
    if system_call(56, 220, 0x4000 | signal.SIGCHLD, 0, 0, 0, 0) == 0: wait_forever()
leave(then=wait)
",
    ),
    plant(
        "much memory in a process",
        Cleaned,
        "memory = leave(lambda: (MARK * (16 << 20 >> 4)).encode())",
    ),
    plant(
        "a process with the name of the agent",
        Cleaned,
        "leave(lambda: call('prctl', 15, '.dockerpool-age', 0, 0, 0))",
    ),
    plant(
        "a process that holds PID 1's files",
        Cleaned,
        "leave(lambda: [os.open('/proc/1/' + name, os.O_RDONLY) for name in ('status', 'limits', 'stat')])",
    ),
    plant(
        "a process in a low class of priority",
        Cleaned,
        "leave(lambda: (os.nice(19), os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))))",
    ),
];
