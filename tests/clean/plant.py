# Runs a plant, the second argument. The first is the mark that it leaves. The last line says whether that worked.
import ctypes, errno, fcntl, mmap, os, resource, shutil, signal, socket, stat, struct, subprocess, sys, threading, time

MARK = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
ARM = os.uname().machine == 'aarch64'
WORKSPACES = ['/tmp', '/work', '/dev/shm']


def call(name, *args):
    args = [os.fsencode(arg) if isinstance(arg, str) else arg for arg in args]
    result = getattr(libc, name)(*args)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result


def system_call(on_intel, on_arm, *args):
    return call('syscall', on_arm if ARM else on_intel, *args)


def write(path, text=None, mode='a'):
    with open(path, mode) as file:
        file.write(MARK if text is None else text)


def wait_forever():
    while True:
        time.sleep(1000)


def leave(run=lambda: None, session=True, then=wait_forever):
    """Leaves a process behind, and returns once it has done its work."""
    done, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        if os.read(done, 1) != b'x':
            raise OSError(0, 'the process left behind has failed')
        os.close(done)
        return pid
    try:
        os.close(done)
        null = os.open('/dev/null', os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        if session:
            os.setsid()
        kept = run()
        os.write(tell, b'x')
        os.close(tell)
        then()
    finally:
        os._exit(1)


def put_back(path, change):
    """Changes a file, and puts its times back."""
    its = os.stat(path)
    change()
    os.utime(path, ns=(its.st_atime_ns, its.st_mtime_ns))


def any_of(paths, change):
    """Does something to each path, and fails if that worked nowhere."""
    failure = OSError(0, 'no path')
    worked = False
    for path in paths:
        try:
            change(path)
            worked = True
        except OSError as error:
            failure = error
    if not worked:
        raise failure


try:
    exec(compile(sys.argv[2], 'plant', 'exec'), globals())
    print('planted')
except (OSError, subprocess.SubprocessError) as error:
    print('refused:', error)
sys.stdout.flush()
