//! PID 1, names, mounts, keys, control groups, and what the kernel lets itself be told.

use super::{Cleaned, Either, Plant, plant, unseen};

pub const PLANTS: &[Plant] = &[
    plant(
        "the limits of PID 1",
        Either,
        "resource.prlimit(1, resource.RLIMIT_SIGPENDING, (42, resource.prlimit(1, resource.RLIMIT_SIGPENDING)[1]))",
    ),
    plant(
        "the soft limit of PID 1's files",
        Either,
        "resource.prlimit(1, resource.RLIMIT_NOFILE, (99, resource.prlimit(1, resource.RLIMIT_NOFILE)[1]))",
    ),
    unseen(
        "the priority of PID 1",
        Either,
        "os.setpriority(os.PRIO_PROCESS, 1, 19)",
    ),
    unseen(
        "the class of PID 1",
        Either,
        "os.sched_setscheduler(1, os.SCHED_BATCH, os.sched_param(0))",
    ),
    unseen(
        "the idle class for PID 1",
        Either,
        "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
    ),
    unseen(
        "the slice of PID 1",
        Either,
        "system_call(314, 274, 1, struct.pack('IIQiIQQQ', 48, 0, 0, 0, 0, 50_000_000, 0, 0), 0)",
    ),
    unseen("the processors of PID 1", Either, "os.sched_setaffinity(1, {0})"),
    unseen(
        "the input and output of PID 1",
        Either,
        "system_call(251, 30, 1, 1, 3 << 13)",
    ),
    unseen("the score of PID 1", Either, "write('/proc/1/oom_score_adj', '777')"),
    unseen("the dumps of PID 1", Either, "write('/proc/1/coredump_filter', '0x7f')"),
    plant("the timers of PID 1", Either, "write('/proc/1/timerslack_ns', '4242')"),
    plant("the group of PID 1", Either, "write('/proc/1/autogroup', '5')"),
    plant("the name of PID 1", Either, "write('/proc/1/comm', MARK[:15])"),
    unseen(
        "signals to PID 1",
        Either,
        "
for number in range(1, 65):
    if number not in (9, 19): libc.kill(1, number)
system_call(129, 138, 1, 40, struct.pack('iiiiiiQ', 40, 0, -1, 0, 1, 0, 4242) + bytes(96))
",
    ),
    plant("the host's name", Either, "socket.sethostname(MARK)"),
    plant("the domain's name", Either, "call('setdomainname', MARK, len(MARK))"),
    plant(
        "a mount over /tmp",
        Either,
        "call('mount', '/etc', '/tmp', None, 4096, None)",
    ),
    plant(
        "a file system in memory",
        Either,
        "call('mount', 'tmpfs', '/mnt', 'tmpfs', 0, None)",
    ),
    plant(
        "a workspace mounted again with other options",
        Either,
        "call('mount', None, '/tmp', None, 32 | 1, None)",
    ),
    plant(
        "a workspace unmounted",
        Either,
        "any_of([*WORKSPACES, '/dev/mqueue', '/proc/sys', '/sys'], lambda dir: call('umount2', dir, 2))",
    ),
    plant(
        "namespaces of its own",
        Either,
        "leave(lambda: call('unshare', 0x10000000 | 0x20000))",
    ),
    plant("an open file system", Either, "system_call(430, 430, b'tmpfs', 0)"),
    plant(
        "a key",
        Either,
        "system_call(248, 217, b'user', MARK.encode(), MARK.encode(), len(MARK), -5)",
    ),
    plant(
        "control groups",
        Either,
        "any_of(['/sys/fs/cgroup', '/sys/fs/cgroup/memory', '/sys/fs/cgroup/systemd'], lambda dir: os.mkdir(dir + '/' + MARK))",
    ),
    plant(
        "the kernel's settings",
        Either,
        "any_of(['/proc/sys/kernel/shmmni', '/proc/sys/net/ipv4/ip_forward', '/proc/sys/fs/mqueue/queues_max'], lambda path: write(path, '17'))",
    ),
    plant(
        "an address of the network",
        Either,
        "subprocess.run(['ip', 'addr', 'add', '10.9.8.7/32', 'dev', 'lo'], check=True, stderr=subprocess.DEVNULL)",
    ),
    plant("a file in /dev", Either, "write('/dev/' + MARK)"),
    plant("a tree in /dev", Either, "os.makedirs(f'/dev/{MARK}/a/b')"),
    plant("the rights of a device", Either, "os.chmod('/dev/null', 0o600)"),
    plant("the owner of a device", Either, "os.chown('/dev/zero', 4242, 4243)"),
    plant(
        "a file in place of a device",
        Either,
        "os.rename('/dev/full', '/dev/' + MARK); os.rename('/dev/' + MARK, '/dev/full'); os.unlink('/dev/null'); write('/dev/null')",
    ),
    plant(
        "another device by the same name",
        Either,
        "os.unlink('/dev/full'); os.mknod('/dev/full', stat.S_IFCHR | 0o666, os.makedev(1, 5))",
    ),
    plant(
        "another link in /dev",
        Either,
        "os.unlink('/dev/stderr'); os.symlink('/tmp/' + MARK, '/dev/stderr')",
    ),
    plant(
        "the times of directories of the kernel",
        Cleaned,
        "any_of(['/dev', '/dev/pts', '/proc', '/sys', '/sys/fs/cgroup'], lambda dir: os.utime(dir, (4242, 4243)))",
    ),
    plant("the rights of /dev", Either, "os.chmod('/dev', 0o777)"),
    plant(
        "an access list of a device",
        Either,
        "
acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in
    [(1, 6, 0xffffffff), (2, 6, 4242), (4, 6, 0xffffffff), (16, 6, 0xffffffff), (32, 6, 0xffffffff)])
os.setxattr('/dev/null', 'system.posix_acl_access', acl)
",
    ),
    plant(
        "extended attributes of /dev",
        Either,
        "os.setxattr('/dev', 'user.mark', MARK.encode())",
    ),
    plant(
        "the rights of terminals' maker",
        Either,
        "os.chmod('/dev/pts/ptmx', 0o600)",
    ),
    plant(
        "the owner of terminals' maker",
        Either,
        "os.chown('/dev/pts/ptmx', 4242, 4243)",
    ),
    plant("the times of a device", Either, "os.utime('/dev/null', (42, 42))"),
    plant(
        "the times of terminals' maker",
        Cleaned,
        "os.utime('/dev/pts/ptmx', (42, 42))",
    ),
    plant(
        "the rights of terminals' directory",
        Either,
        "os.chmod('/dev/pts', 0o700)",
    ),
    plant(
        "the owner of the queues' directory",
        Cleaned,
        "os.chown('/dev/mqueue', 4242, 4242)",
    ),
];
