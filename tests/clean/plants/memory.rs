//! Files in memory: in `/tmp`, `/work`, `/dev/shm` and `/dev/mqueue`.

use super::{Cleaned, Either, Plant, plant};

pub const PLANTS: &[Plant] = &[
    plant("a file in each workspace", Cleaned, "for dir in WORKSPACES: write(dir + '/' + MARK)"),
    plant(
        "odd names",
        Cleaned,
        r"
for name in [b'a\nb', b'\xff\xfe\x80', b'n' * 255, b'-rf', b' ', b'...', b'\\', b'\x01\x1b[2J', b'*', b'$(id)', '\u202e'.encode()]:
    for dir in (b'/tmp/', b'/dev/shm/'):
        os.mkdir(dir + name)
        with open(dir + name + b'/' + name, 'w') as file: file.write(MARK)
",
    ),
    plant(
        "a deep tree",
        Cleaned,
        "
os.chdir('/tmp')
for _ in range(3000):
    os.mkdir(MARK)
    os.chdir(MARK)
write('end')
",
    ),
    plant(
        "directories without rights",
        Cleaned,
        "
for dir in WORKSPACES:
    path = dir + '/' + MARK
    for name in 'abcdef':
        path += '/' + name
        os.makedirs(path)
        write(path + '/file')
    while path != dir:
        os.chmod(path, 0)
        path = os.path.dirname(path)
",
    ),
    plant("five thousand files", Cleaned, "for i in range(5000): os.close(os.open(f'/tmp/{MARK}{i}', os.O_CREAT))"),
    plant(
        "wide and nested directories",
        Cleaned,
        "
for i in range(20):
    for j in range(20): os.makedirs(f'/tmp/{MARK}{i}/{j}/x/y/z')
",
    ),
    plant(
        "workspaces filled to the last byte",
        Cleaned,
        "
for dir in ['/tmp', '/work']:
    with open(dir + '/' + MARK, 'wb', buffering=0) as file:
        for size in [1 << 20, 4096]:
            try:
                while file.write(bytes(size)) == size: pass
            except OSError as error:
                if error.errno != errno.ENOSPC: raise
",
    ),
    plant(
        "a workspace filled to the last inode",
        Cleaned,
        "
try:
    for i in range(5000): os.mkdir(f'/work/{MARK}{i}')
    # Podman has no limit of them.
    if os.statvfs('/work').f_files < 5000: raise OSError(0, 'no end')
except OSError as error:
    if error.errno != errno.ENOSPC: raise
",
    ),
    plant(
        "all inodes in a chain of directories",
        Cleaned,
        "
os.chdir('/work')
try:
    # Podman has no limit of them, and their memory counts.
    for _ in range(3000):
        os.mkdir('x')
        os.chdir('x')
except OSError as error:
    if error.errno != errno.ENOSPC: raise
",
    ),
    plant(
        "a sparse file of a terabyte",
        Cleaned,
        "
write('/tmp/' + MARK)
os.truncate('/tmp/' + MARK, 1 << 40)
",
    ),
    plant(
        "hard links",
        Cleaned,
        "
write('/tmp/' + MARK)
for i in range(500): os.link('/tmp/' + MARK, f'/tmp/{MARK}{i}')
",
    ),
    plant(
        "symbolic links out of the workspaces",
        Cleaned,
        "
os.mkdir('/tmp/d')
for i, target in enumerate(['/', '/etc', '/etc/passwd', '/proc/1/root', '/proc/self/cwd', '..', '.', MARK, 'l7', '/dev/null']):
    for dir in ['/tmp/', '/tmp/d/', '/dev/shm/', '/work/']: os.symlink(target, f'{dir}l{i}')
",
    ),
    plant(
        "pipes and sockets",
        Cleaned,
        "
for dir in WORKSPACES:
    os.mkfifo(f'{dir}/{MARK}p')
    socket.socket(socket.AF_UNIX).bind(f'{dir}/{MARK}s')
",
    ),
    plant(
        "a program with the owner's rights",
        Cleaned,
        "
shutil.copy('/bin/busybox', '/tmp/' + MARK)
os.chmod('/tmp/' + MARK, 0o6755)
",
    ),
    plant("devices in /tmp", Cleaned, "for n in range(9): os.mknod(f'/tmp/{MARK}{n}', stat.S_IFCHR | 0o666, os.makedev(1, n))"),
    plant(
        "overlay's own marks of deletion",
        Cleaned,
        "for name in ['a', '.wh.a', '.wh..wh..opq']: os.mknod('/tmp/' + name, stat.S_IFCHR, 0)",
    ),
    plant(
        "extended attributes of files",
        Cleaned,
        "
write('/tmp/f')
os.setxattr('/tmp/f', 'user.mark', MARK.encode())
",
    ),
    plant(
        "an access list that new files inherit",
        Cleaned,
        "
os.mkdir('/tmp/d')
acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in
    [(1, 7, 0xffffffff), (2, 7, 4242), (4, 7, 0xffffffff), (16, 7, 0xffffffff), (32, 7, 0xffffffff)])
os.setxattr('/tmp/d', 'system.posix_acl_default', acl)
",
    ),
    plant(
        "extended attributes of workspaces",
        Either,
        "any_of(WORKSPACES, lambda dir: os.setxattr(dir, 'user.mark', MARK.encode()))",
    ),
    plant(
        "an access list of /tmp",
        Either,
        "
acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in
    [(1, 7, 0xffffffff), (2, 7, 4242), (4, 7, 0xffffffff), (16, 7, 0xffffffff), (32, 7, 0xffffffff)])
os.setxattr('/tmp', 'system.posix_acl_access', acl)
",
    ),
    plant(
        "a default access list of /dev/shm",
        Either,
        "
acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in
    [(1, 7, 0xffffffff), (2, 7, 4242), (4, 7, 0xffffffff), (16, 7, 0xffffffff), (32, 7, 0xffffffff)])
os.setxattr('/dev/shm', 'system.posix_acl_default', acl)
",
    ),
    plant(
        "a flag of a workspace: not to be in backups",
        Either,
        "
def change(dir):
    fd = os.open(dir, os.O_RDONLY)
    fcntl.ioctl(fd, 0x40086602, struct.pack('L', 0x40))  # FS_IOC_SETFLAGS
any_of(WORKSPACES, change)
",
    ),
    plant(
        "a flag of a workspace: no times of access",
        Either,
        "
def change(dir):
    fd = os.open(dir, os.O_RDONLY)
    fcntl.ioctl(fd, 0x40086602, struct.pack('L', 0x80))
any_of(WORKSPACES, change)
",
    ),
    plant("the times of workspaces", Cleaned, "any_of([*WORKSPACES, '/dev/mqueue'], lambda dir: os.utime(dir, (4242, 4243)))"),
    plant("the rights of workspaces", Cleaned, "any_of([*WORKSPACES, '/dev/mqueue'], lambda dir: os.chmod(dir, 0))"),
    plant("special bits of workspaces", Cleaned, "any_of([*WORKSPACES, '/dev/mqueue'], lambda dir: os.chmod(dir, 0o7777))"),
    plant("the owners of workspaces", Cleaned, "any_of([*WORKSPACES, '/dev/mqueue'], lambda dir: os.chown(dir, 4242, 4243))"),
    plant("a workspace with another name", Cleaned, "any_of(WORKSPACES, lambda dir: os.rename(dir, dir + MARK))"),
    plant("a workspace removed", Cleaned, "any_of(WORKSPACES, os.rmdir)"),
    plant(
        "files of others",
        Cleaned,
        "
for i in range(5):
    os.makedirs(f'/tmp/{MARK}/{i}')
    write(f'/tmp/{MARK}/{i}/f')
    os.chown(f'/tmp/{MARK}/{i}/f', 4000 + i, 4000)
    os.chown(f'/tmp/{MARK}/{i}', 5000 + i, 4000)
    os.chmod(f'/tmp/{MARK}/{i}', 0o1000)
",
    ),
    plant(
        "names that a wipe would use",
        Cleaned,
        "
for i in range(200):
    os.makedirs(f'/tmp/.dockerpool-wipe-{i:08x}/a/b/c')
    write(f'/tmp/.dockerpool-wipe-{i:08x}/a/b/c/d')
",
    ),
    plant(
        "directories that cannot be removed, and full ones within",
        Cleaned,
        "
for i in range(30):
    os.makedirs(f'/tmp/a{i}/b/c/d/e/f')
    os.chmod(f'/tmp/a{i}/b/c/d', 0o500)
    os.chmod(f'/tmp/a{i}/b', 0o100)
    os.chmod(f'/tmp/a{i}', 0o1555)
",
    ),
    plant("much in /dev/shm", Cleaned, "write('/dev/shm/' + MARK, 'x' * (8 << 20))"),
    plant(
        "a named semaphore",
        Cleaned,
        "
libc.sem_open.restype = ctypes.c_void_p
if not libc.sem_open(('/' + MARK).encode(), os.O_CREAT, 0o666, 7): raise OSError(ctypes.get_errno(), 'sem_open')
",
    ),
    plant(
        "queues with messages",
        Cleaned,
        "
for i in range(5):
    queue = call('mq_open', f'/{MARK}{i}', os.O_CREAT | os.O_RDWR, 0o666, None)
    call('mq_send', queue, MARK, len(MARK), 1)
",
    ),
    plant("a queue without rights", Cleaned, "call('mq_open', '/' + MARK, os.O_CREAT | os.O_RDWR, 0, None)"),
    plant(
        "a queue that somebody waits for",
        Cleaned,
        "
queue = call('mq_open', '/' + MARK, os.O_CREAT | os.O_RDWR, 0o600, None)
leave(then=lambda: libc.mq_receive(queue, ctypes.create_string_buffer(65536), 65536, None))
",
    ),
    plant(
        "deleted files that a process holds",
        Cleaned,
        "
def hold():
    file = open('/tmp/' + MARK, 'w')
    file.write(MARK * 1000)
    file.flush()
    os.unlink('/tmp/' + MARK)
    memory = os.memfd_create(MARK)
    os.write(memory, MARK.encode())
    return file
leave(hold)
",
    ),
    plant(
        "a process in a deleted directory",
        Cleaned,
        "
def enter():
    os.mkdir('/tmp/' + MARK)
    os.chdir('/tmp/' + MARK)
    os.rmdir('/tmp/' + MARK)
leave(enter)
",
    ),
    plant(
        "a file with times of long ago and of the future",
        Cleaned,
        "
for i, time in enumerate([0, -1, 1 << 33]):
    write(f'/tmp/{MARK}{i}')
    os.utime(f'/tmp/{MARK}{i}', (time, time))
os.utime('/work', (4, 4))
",
    ),
];
