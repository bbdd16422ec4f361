//! Objects of System V.

use super::{Cleaned, Either, Plant, plant};

pub const PLANTS: &[Plant] = &[
    plant(
        "shared memory",
        Cleaned,
        "
libc.shmat.restype = ctypes.c_void_p
id = call('shmget', 0x1234567, 65536, 0o1666)
at = libc.shmat(id, None, 0)
ctypes.memmove(at, MARK.encode(), len(MARK))
",
    ),
    plant(
        "objects of another user",
        Cleaned,
        "
def make():
    os.setgroups([]) if os.getuid() == 0 else None
    os.setresgid(4242, 4242, 4242)
    os.setresuid(4242, 4242, 4242)
    call('shmget', 1, 4096, 0o1000)
    call('semget', 2, 3, 0o1000)
    call('msgget', 3, 0o1000)
leave(make, then=lambda: os._exit(0))
",
    ),
    plant(
        "objects without rights",
        Cleaned,
        "
call('shmget', 11, 4096, 0o1000)
call('semget', 12, 3, 0o1000)
call('msgget', 13, 0o1000)
",
    ),
    plant(
        "shared memory that is removed but attached",
        Cleaned,
        "
def hold():
    id = call('shmget', 0, 1 << 20, 0o1600)
    libc.shmat.restype = ctypes.c_void_p
    ctypes.memset(libc.shmat(id, None, 0), 65, 1 << 20)
    call('shmctl', id, 0, None)
leave(hold)
",
    ),
    plant(
        "objects given away",
        Cleaned,
        "
# The owner and the group stand behind the key.
for get, control, size in [(lambda: call('shmget', 21, 4096, 0o1600), lambda id, d: call('shmctl', id, 1, d), 256),
                     (lambda: call('semget', 22, 1, 0o1600), lambda id, d: call('semctl', id, 0, 1, d), 256),
                     (lambda: call('msgget', 23, 0o1600), lambda id, d: call('msgctl', id, 1, d), 256)]:
    data = ctypes.create_string_buffer(size)
    struct.pack_into('IIII', data, 4, 4242, 4243, 0, 0)
    # The most bytes of a message queue.
    struct.pack_into('Q', data, 88, 1024)
    control(get(), data)
",
    ),
    plant(
        "semaphores with values and undo",
        Cleaned,
        "
id = call('semget', 31, 8, 0o1666)
call('semop', id, struct.pack('HhH', 3, 77, 0), 1)
leave(lambda: call('semop', id, struct.pack('HhH', 3, -7, 0x1000), 1))
",
    ),
    plant(
        "a queue with messages",
        Cleaned,
        "
id = call('msgget', 41, 0o1666)
message = struct.pack('l', 5) + MARK.encode()
for _ in range(20): call('msgsnd', id, message, len(MARK), 0)
",
    ),
    plant(
        "many objects",
        Cleaned,
        "
for i in range(300):
    call('shmget', 0, 4096, 0o1666)
    call('semget', 0, 1, 0o1666)
    call('msgget', 0, 0o1666)
",
    ),
    plant(
        "thousands of objects",
        Cleaned,
        "
for i in range(3000):
    call('semget', 0, 1, 0o1666)
    call('msgget', 0, 0o1666)
for i in range(3000): call('shmget', 0, 4096, 0o1666)
",
    ),
    plant(
        "more objects than anybody lists",
        Either,
        "for i in range(20000): call('semget', 0, 1, 0o1666)",
    ),
    plant(
        "locked shared memory in the hands of a stopped process",
        Cleaned,
        "
libc.shmat.restype = ctypes.c_void_p
id = call('shmget', 51, 8192, 0o1666)
libc.shmctl(id, 11, None)  # SHM_LOCK
pid = leave(lambda: libc.shmat(id, None, 0))
os.kill(pid, signal.SIGSTOP)
",
    ),
];
