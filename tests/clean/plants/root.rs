//! The root file system, and the files that the engine mounts.

use super::{Either, NotShown, Plant, Root, plant};

pub const PLANTS: &[Plant] = &[
    plant("a file in /", Root, "write('/' + MARK)"),
    plant(
        "files in every directory",
        Root,
        "any_of(['/var/tmp', '/run', '/opt', '/srv', '/root', '/etc', '/home/runner', '/usr/local/bin'], lambda dir: write(f'{dir}/{MARK}'))",
    ),
    plant("a file where everybody may write", Root, "write('/var/tmp/' + MARK)"),
    plant("a user", Root, "write('/etc/passwd', f'{MARK}:x:0:0::/:/bin/sh\\n')"),
    plant(
        "a program replaced",
        Root,
        "os.unlink('/bin/true'); write('/bin/true', f'#!/bin/sh\\necho {MARK}\\n'); os.chmod('/bin/true', 0o755)",
    ),
    plant(
        "a program written over",
        Root,
        "write(os.path.realpath('/bin/busybox'))",
    ),
    plant(
        "a library that is loaded first",
        Root,
        "write('/etc/ld.so.preload', '/tmp/' + MARK)",
    ),
    plant(
        "a library written over",
        Root,
        "
import glob
paths = glob.glob('/usr/lib/*/libm.so.6') + glob.glob('/usr/lib/*/libz.so.1*') + glob.glob('/lib/*musl*')
any_of(paths, lambda path: write(os.path.realpath(path)))
",
    ),
    plant(
        "a start-up file of Python",
        Root,
        "import sysconfig; write(sysconfig.get_path('stdlib') + '/sitecustomize.py', f'X = {MARK!r}')",
    ),
    plant(
        "a compiled file of Python",
        Root,
        "
import sysconfig
dir = sysconfig.get_path('stdlib') + '/__pycache__'
os.makedirs(dir, exist_ok=True)
write(f'{dir}/{MARK}.pyc')
",
    ),
    plant(
        "start-up files of shells",
        Root,
        "any_of(['/etc/profile', '/root/.profile', '/root/.bashrc', '/home/runner/.profile'], lambda path: write(path, f'echo {MARK}'))",
    ),
    plant(
        "tasks for later",
        Root,
        "any_of(['/etc/cron.d', '/var/spool/cron/crontabs'], lambda dir: (os.makedirs(dir, exist_ok=True), write(f'{dir}/root')))",
    ),
    plant(
        "a file in $HOME",
        Root,
        "write(os.environ.get('HOME', '/root') + '/.' + MARK)",
    ),
    plant("the rights of a directory", Root, "os.chmod('/etc', 0o777)"),
    plant("the rights of a file", Root, "os.chmod('/etc/passwd', 0o666)"),
    plant("the rights of /", Root, "os.chmod('/', 0o700)"),
    plant(
        "the owner's rights for a program",
        Root,
        "os.chmod('/bin/busybox', 0o4755)",
    ),
    plant(
        "a directory with another name",
        Root,
        "os.rename('/home/runner/', '/home/' + MARK)",
    ),
    plant("a file removed", Root, "os.unlink('/etc/group')"),
    plant("a hard link", Root, "os.link('/etc/passwd', '/etc/' + MARK)"),
    plant("a symbolic link", Root, "os.symlink(MARK, '/var/tmp/link')"),
    plant(
        "a socket and a pipe",
        Root,
        "socket.socket(socket.AF_UNIX).bind('/var/tmp/s'); os.mkfifo('/var/tmp/p')",
    ),
    plant(
        "capabilities of a program",
        Root,
        "os.setxattr('/bin/busybox', 'security.capability', struct.pack('<IIIII', 0x02000001, 1 << 13, 0, 0, 0))",
    ),
    plant(
        "a full disk of small files",
        Root,
        "os.mkdir('/var/tmp/' + MARK); [write(f'/var/tmp/{MARK}/{i}') for i in range(300)]",
    ),
    plant("the hosts file", Root, "write('/etc/hosts', f'10.9.8.7 {MARK}\\n')"),
    plant(
        "the resolver's file",
        Root,
        "write('/etc/resolv.conf', f'search {MARK}\\n')",
    ),
    plant("the host name's file", Root, "write('/etc/hostname')"),
    plant(
        "a mounted file of the same size with its time put back",
        Root,
        "
text = open('/etc/hosts').read()
put_back('/etc/hosts', lambda: write('/etc/hosts', text.swapcase(), 'r+'))
",
    ),
    plant(
        "a mounted file changed through memory",
        Root,
        "
file = open('/etc/hosts', 'r+b')
memory = mmap.mmap(file.fileno(), 0)
its = os.stat('/etc/hosts')
memory[:4] = b'#%&!'
memory.close()
os.utime('/etc/hosts', ns=(its.st_atime_ns, its.st_mtime_ns))
",
    ),
    plant("the rights of a mounted file", Root, "os.chmod('/etc/hosts', 0o600)"),
    plant(
        "the owner of a mounted file",
        Root,
        "os.chown('/etc/hostname', 4242, 4243)",
    ),
    plant(
        "extended attributes of a mounted file",
        Either,
        "os.setxattr('/etc/hosts', 'user.mark', MARK.encode())",
    ),
    plant(
        "a file of the same size with its time put back",
        NotShown,
        "
text = open('/etc/group').read()
put_back('/etc/group', lambda: write('/etc/group', text.swapcase(), 'r+'))
",
    ),
    plant(
        "extended attributes of a directory",
        NotShown,
        "os.setxattr('/srv', 'user.mark', MARK.encode())",
    ),
    plant(
        "extended attributes of a file",
        NotShown,
        "os.setxattr('/etc/group', 'user.mark', MARK.encode())",
    ),
    plant("the owner of a directory", NotShown, "os.chown('/srv', 4242, 4243)"),
    plant(
        "a directory made again",
        NotShown,
        "
its = os.stat('/srv')
os.rmdir('/srv')
os.mkdir('/srv')
os.utime('/srv', ns=(its.st_atime_ns, its.st_mtime_ns))
os.chown('/srv', 4242, 4243)
",
    ),
];
