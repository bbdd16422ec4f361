# Prints everything that a command of a lease can find in its container, one fact a line, the same each time unless something
# has changed. The argument is a mark, and each place where it is found is told in a line of its own.
import array, ctypes, fcntl, hashlib, os, resource, socket, stat, struct, sys

MARK = os.fsencode(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
out = []


def say(what, *words):
    line = ' '.join([what, *map(str, words)])
    out.append(line.encode('utf-8', 'backslashreplace').decode().replace('\n', '\\n'))


def find(where, data):
    if MARK and MARK in data:
        say('mark:', where)


def read(path):
    try:
        with open(path, 'rb', buffering=0) as file:
            data = b''
            while part := file.read(65536):
                data += part
            return data
    except OSError as error:
        return f'error {error.errno}'.encode()


def attributes(path):
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return ''
    values = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)]
    for name, value in values:
        find(repr(path), os.fsencode(name) + value)
    return values


def flags(path):
    try:
        dir = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        return f'error {error.errno}'
    try:
        number = array.array('L', [0])
        fcntl.ioctl(dir, 0x80086601, number)  # FS_IOC_GETFLAGS
        return number[0]
    except OSError as error:
        return f'error {error.errno}'
    finally:
        os.close(dir)


def entry(path):
    try:
        its = os.lstat(path)
    except OSError as error:
        say('file:', repr(path), 'error', error.errno)
        return False
    find(repr(path), path)
    facts = [repr(path), oct(its.st_mode), its.st_uid, its.st_gid]
    is_dir = stat.S_ISDIR(its.st_mode)
    if not is_dir:
        facts += [its.st_size, its.st_nlink, its.st_rdev]
        if os.getuid() == 0 or path != b'/dev/pts/ptmx':
            facts.append(its.st_mtime_ns)
    if stat.S_ISLNK(its.st_mode):
        target = os.readlink(path)
        find(repr(path), target)
        facts.append(repr(target))
    if stat.S_ISREG(its.st_mode) and its.st_size <= 65536 and not path.startswith(b'/usr/'):
        data = read(path)
        find(repr(path), data)
        facts.append(hashlib.sha256(data).hexdigest()[:16])
    say('file:', *facts, attributes(path))
    return is_dir


def walk(top):
    left = [top]
    while left:
        path = left.pop()
        if not entry(path) or path in (b'/proc', b'/sys'):
            continue
        try:
            left += [os.path.join(path, name) for name in sorted(os.listdir(path))]
        except OSError as error:
            say('directory:', repr(path), 'error', error.errno)


def groups():
    for path, names, _ in sorted(os.walk(b'/sys/fs/cgroup')):
        find(repr(path), path)
        say('groups:', repr(path), sorted(names))


def mounts():
    text = read('/proc/self/mountinfo')
    say('mounts:', text)
    find('mounts', text)
    for line in text.splitlines():
        words = line.split()
        path = words[4].decode().encode('latin1')
        if words[words.index(b'-') + 1] in (b'tmpfs', b'mqueue'):
            free = os.statvfs(path)
            # A part of a file system, or one that is read-only, is the machine's, and others write to it.
            is_machines = words[3] != b'/' or b'rw' not in words[5].split(b',')
            room = () if is_machines else (free.f_blocks, free.f_bfree, free.f_files, free.f_ffree)
            say('free:', path, *room, flags(path))
        # Another user than root sees the time of the cleaning.
        if os.getuid() == 0 and path != b'/' and b'rw' in words[5].split(b','):
            say('time:', path, os.lstat(path).st_mtime_ns)


def texts():
    for path in (
        'sysvipc/shm sysvipc/sem sysvipc/msg self/cgroup sys/kernel/hostname sys/kernel/domainname sys/kernel/shmmax '
        'sys/kernel/shmall sys/kernel/shmmni sys/kernel/sem sys/kernel/msgmax sys/kernel/msgmnb sys/kernel/msgmni '
        'sys/kernel/core_pattern sys/fs/mqueue/queues_max sys/fs/mqueue/msg_max sys/fs/mqueue/msgsize_max '
        'sys/net/ipv4/ip_forward sys/net/ipv4/ping_group_range sys/net/ipv4/ip_local_port_range '
        'sys/net/ipv4/ip_unprivileged_port_start net/route net/arp net/if_inet6 net/packet net/raw net/udp net/udp6 '
        'net/fib_trie'
    ).split():
        text = read('/proc/' + path)
        find(path, text)
        say('text:', path, text)
    for line in read('/proc/locks').splitlines():
        words = line.split()[1:]
        if b'-1' not in words:  # locks without an owner are those of the whole machine
            say('lock:', *words)
    for path in ('tcp', 'tcp6'):
        # The addresses and the state.
        for line in read('/proc/net/' + path).splitlines()[1:]:
            say('connection:', path, *line.split()[1:4])
    for line in read('/proc/net/dev').splitlines():
        if line.split()[:1] == [b'lo:']:
            say('loopback:', *line.split())
    for line in sorted(line.split()[3:] for line in read('/proc/net/unix').splitlines()[1:]):
        find('a socket', b' '.join(line))
        say('socket:', *line)


def ask(family, command, attributes=b'', flags=1):
    """Asks the kernel by netlink, and returns its attributes by their numbers, one dictionary for each message."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16) as asked:
        body = struct.pack('BBH', command, 1, 0) + attributes
        asked.send(struct.pack('IHHII', 16 + len(body), family, flags, 1, 0) + body)
        data = asked.recv(1 << 16)
    answers = []
    while len(data) >= 20:
        length, kind = struct.unpack_from('IH', data)
        message, data, found = data[20:length], data[length + 3 & ~3:], {}
        while kind == family and len(message) > 4:
            size, number = struct.unpack_from('HH', message)
            found[number], message = message[4:size], message[size + 3 & ~3:]
        answers.append(found)
    return answers


def metrics():
    """The kernel remembers the addresses of connections by TCP."""
    name = b'tcp_metrics\0'
    family = ask(16, 3, struct.pack('HH', 4 + len(name), 2) + name)[0].get(1)
    if family:
        # 1 and 2 are the other's addresses.
        for found in ask(struct.unpack('H', family)[0], 1, flags=0x301):
            say('connected with:', *(found[n].hex() for n in (1, 2) if n in found))


def keys():
    number = {'x86_64': 250, 'aarch64': 219}[os.uname().machine]
    for ring in (-3, -4, -5):  # of the session, the user, the user's sessions
        text = ctypes.create_string_buffer(4096)
        length = libc.syscall(number, 11, ring, text, 4096)  # KEYCTL_READ
        say('keys:', ring, text.raw[:length] if length >= 0 else f'error {ctypes.get_errno()}')


def attempt(name, function, *args):
    try:
        return function(*args)
    except OSError as error:
        return f'error {error.errno}'


def process(pid):
    base = f'/proc/{pid}/'
    for name in 'oom_score_adj coredump_filter timerslack_ns limits cgroup uid_map setgroups'.split():
        say('process:', pid, name, read(base + name))
    say('process:', pid, 'autogroup', read(base + 'autogroup').split()[-1:])
    number = 0 if pid == 'self' else pid
    say('process:', pid, 'policy', attempt('policy', os.sched_getscheduler, number))
    scheduling = ctypes.create_string_buffer(56)
    libc.syscall({'x86_64': 315, 'aarch64': 275}[os.uname().machine], number, scheduling, 56, 0)
    say('process:', pid, 'scheduling', scheduling.raw.hex())
    say('process:', pid, 'nice', attempt('nice', os.getpriority, os.PRIO_PROCESS, number))
    say('process:', pid, 'processors', attempt('processors', lambda: sorted(os.sched_getaffinity(number))))
    ioprio = {'x86_64': 252, 'aarch64': 31}[os.uname().machine]
    say('process:', pid, 'input and output', libc.syscall(ioprio, 1, number))
    wanted = b'Umask Uid Gid Groups Threads SigPnd ShdPnd SigBlk SigIgn SigCgt CapInh CapPrm CapEff CapBnd CapAmb'.split()
    wanted += b'NoNewPrivs Seccomp Cpus_allowed Mems_allowed TracerPid'.split()
    for line in read(base + 'status').splitlines():
        if line.split(b':')[0] in wanted:
            say('process:', pid, line)


def processes():
    own = str(os.getpid())
    for name in sorted(os.listdir('/proc')):
        if name.isdigit() and name not in ('1', own):
            line = read(f'/proc/{name}/cmdline')
            find(f'process {name}', line + read(f'/proc/{name}/environ'))
            say('other process:', line or read(f'/proc/{name}/stat').split()[1:3])


walk(b'/')
groups()
mounts()
texts()
try:
    metrics()
except OSError as error:
    say('connected with:', 'error', error.errno)
keys()
process(1)
process('self')
processes()
say('directory:', os.getcwd())
say('environment:', sorted(os.environ.items()))
say('files:', sorted(os.listdir('/proc/self/fd'))[:-1])
say('limits:', [resource.getrlimit(which) for which in range(16)])
say('end')
print('\n'.join(out))
