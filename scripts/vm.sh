# shellcheck shell=bash
# A machine like those of users (systemd, cgroup v2 alone, a current Docker or Podman) on a machine that has none of these
# and no hardware virtualization. It is Debian's kernel that runs as a process (User-mode Linux), with a system of Debian
# packages on a disk image. It boots in seconds. Programs in it run at the processor's own speed, but a system call costs
# several times more. It has one processor, no route to the network and no iptables, which that kernel lacks. Sourced by
# ./dev after engines.sh.
#
# The machine mounts the repository under its own path, so that it runs the test binaries of this machine.

VM_DIR=${VM_DIR:-$PWD/target/vm} # holds the images, the kernel, the disk and the log of the console
VM_MEMORY=${VM_MEMORY:-4G}       # this machine provides it as it is used
VM_NICE=${VM_NICE:-10}         # below zero keeps the timing of tests in it while this machine does other work
VM_THREADS=${VM_THREADS:-2}       # tests that run in it at once
VM_BOOT_DEADLINE=180  # seconds for the machine, and for the engine in it, to answer
VM_BUILD_DEADLINE=900 # seconds for an image

# vm_image ENGINE: the name of the disk image with the engine.
vm_image() {
    case $1 in
    podman6) echo experimental ;; # sid, and the packages VM_EXPERIMENTAL of Debian experimental
    *) echo sid ;;
    esac
}
VM_EXPERIMENTAL=(podman netavark) # these two must be of the same suite

# The base system; the engines; the needs of rootless Docker and Podman; ssh; the servers that the tests start.
VM_PACKAGES=(systemd systemd-sysv dbus dbus-user-session libpam-systemd kmod procps iproute2 iptables ca-certificates
    docker.io docker-cli containerd runc crun podman catatonit netavark aardvark-dns
    uidmap rootlesskit slirp4netns passt fuse-overlayfs
    openssh-server openssh-client
    docker-registry python3-minimal socat user-mode-linux)

# ---------------------------------------------------------------- the image

# vm_need: installs the programs that build and start the machine, or reports why that is impossible here.
vm_need() {
    local packages=() pair
    [ "$(id -u)" = 0 ] || die 'the machine with cgroup v2 needs root'
    [ "$(uname -m)" = x86_64 ] || die "the machine with cgroup v2 needs an x86-64 processor, and this is $(uname -m)"
    for pair in mmdebstrap:mmdebstrap patchelf:patchelf mkfs.ext4:e2fsprogs ssh-keygen:openssh-client ip:iproute2; do
        command -v "${pair%:*}" >/dev/null || packages+=("${pair#*:}")
    done
    [ ${#packages[@]} = 0 ] || apt_install 'the machine with cgroup v2' "${packages[@]}"
    local why
    why=$(unshare --net ip tuntap add vmtest mode tap 2>&1) ||
        die "the machine with cgroup v2 cannot be started: this machine allows no network namespace with a tap device in it (${why:-no reason given})"
}

# vm_build ENGINE: builds the disk image and the kernel, once.
vm_build() {
    local root=$VM_DIR/root image packages mirror sources
    image=$(vm_image "$1")
    mkdir -p "$VM_DIR"
    vm_need
    [ ! -e "$VM_DIR/$image.img" ] || return 0
    [ -r "$ENGINES_KEYS" ] || apt_install "Debian's keys" debian-archive-keyring
    mirror=$(debian_mirror) || exit 1
    packages=("${VM_PACKAGES[@]}")
    sources=("deb $mirror sid main")
    if [ "$image" = experimental ]; then
        sources+=("deb $mirror experimental main")
        # From that suite come only these packages, and dependencies of them that sid lacks.
        packages+=("${VM_EXPERIMENTAL[@]/%//experimental}")
    fi
    rm -rf "$root" "$VM_DIR/$image.img.new"
    say "the machine with cgroup v2: fetching and installing packages of Debian $image (log $VM_DIR/build.log)"
    # A mirror may be some weeks old, so the expiry date of its index does not matter.
    nice -n $VM_NICE timeout --kill-after=10 $VM_BUILD_DEADLINE mmdebstrap --mode=root --variant=minbase \
        --include="$(IFS=, && echo "${packages[*]}")" --keyring="$ENGINES_KEYS" \
        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io \
        sid "$root" "${sources[@]}" >"$VM_DIR/build.log" 2>&1 </dev/null ||
        die "the machine with cgroup v2 cannot be built: $(grep -m 1 -E '^(E:|Err:)' "$VM_DIR/build.log") (log $VM_DIR/build.log; no network?)"
    [ -e "$VM_DIR/kernel/linux" ] || vm_take_kernel "$root"
    vm_configure "$root"
    truncate -s 12G "$VM_DIR/$image.img.new" # sparse
    nice -n $VM_NICE mkfs.ext4 -q -F -L root -O ^has_journal -m 0 -d "$root" "$VM_DIR/$image.img.new" ||
        die "the machine with cgroup v2 cannot be built: its disk image could not be written to $VM_DIR"
    rm -rf "$root"
    mv "$VM_DIR/$image.img.new" "$VM_DIR/$image.img" # last, so that this name stands for a complete image
}

# vm_take_kernel ROOT: takes the kernel, a program of sid that needs sid's C library. All images share it.
vm_take_kernel() {
    local root=$1 lib=$VM_DIR/kernel/lib
    rm -rf "$VM_DIR/kernel"
    mkdir -p "$lib"
    cp -L "$root"/usr/lib/x86_64-linux-gnu/{ld-linux-x86-64.so.2,libc.so.6} "$lib"
    mv "$root/usr/lib/uml/modules" "$VM_DIR/kernel/modules"
    # The file itself names the loader, since the kernel executes itself again.
    patchelf --set-interpreter "$lib/ld-linux-x86-64.so.2" --set-rpath "$lib" "$root/usr/bin/linux.uml"
    mv "$root/usr/bin/linux.uml" "$VM_DIR/kernel/linux" # last, so that this file stands for a complete kernel
}

vm_configure() {
    local root=$1 unit
    mkdir -p "$root"/etc/{modules-load.d,docker,systemd/journald.conf.d} "$root/usr/lib/modules"
    cp -a "$VM_DIR"/kernel/modules/* "$root/usr/lib/modules/"
    printf '%s\n' overlay bridge veth tun fuse >"$root/etc/modules-load.d/vm.conf"
    echo '/dev/ubda / ext4 defaults 0 1' >"$root/etc/fstab"
    echo vm >"$root/etc/hostname"
    printf '%s\n' '127.0.0.1 localhost vm' '::1 localhost' >"$root/etc/hosts"
    : >"$root/etc/resolv.conf"
    printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/vm.conf"
    for unit in getty@tty1.service console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
        e2scrub_all.timer e2scrub_reap.service fstrim.timer; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    cat >"$root/etc/systemd/system/vm-net.service" <<'UNIT'
[Unit]
Description=The network to the machine outside
Before=network.target
After=systemd-modules-load.service
Wants=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip addr add 10.99.0.2/24 dev vec0
ExecStart=/usr/sbin/ip link set vec0 up
# The image has no udev, which would do this.
ExecStart=-/usr/bin/chmod 666 /dev/net/tun /dev/fuse
[Install]
WantedBy=multi-user.target
UNIT
    ln -sf ../vm-net.service "$root/etc/systemd/system/multi-user.target.wants/vm-net.service"
    # This kernel has neither iptables nor nftables for IPv4. The options are on the command line and not in daemon.json, so
    # that a test can start another dockerd with a configuration of its own.
    echo 'DOCKER_OPTS="--iptables=false --ip6tables=false"' >"$root/etc/default/docker"
    mkdir -p "$root"/etc/containers/{containers,registries}.conf.d
    printf '[network]\nfirewall_driver = "none"\n' >"$root/etc/containers/containers.conf.d/vm.conf"
    # The registries that the tests start. Docker trusts them by default.
    printf '%s\n' '[[registry]]' 'location = "127.0.0.1"' 'insecure = true' \
        '[[registry]]' 'location = "localhost"' 'insecure = true' >"$root/etc/containers/registries.conf.d/vm.conf"
    [ -e "$root/etc/containers/policy.json" ] ||
        echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$root/etc/containers/policy.json"
    # The ssh key, and a plain user.
    [ -e "$VM_DIR/key" ] || ssh-keygen -q -t ed25519 -N '' -C vm -f "$VM_DIR/key"
    chroot "$root" useradd -m -s /bin/bash dev
    mkdir -p "$root/root/.ssh" "$root/home/dev/.ssh" "$root/home/dev/.config/docker"
    ssh-keygen -y -f "$VM_DIR/key" | tee "$root/root/.ssh/authorized_keys" >"$root/home/dev/.ssh/authorized_keys"
    echo '{"iptables": false, "ip6tables": false}' >"$root/home/dev/.config/docker/daemon.json"
    chroot "$root" chown -R dev: /home/dev
}

# ---------------------------------------------------------------- the machine

# vm_running: the pid of the machine, if it still runs and ./dev started it.
vm_running() {
    local pid start
    read -r pid start 2>/dev/null <"$VM_DIR/pid" || return 1
    [ -n "$start" ] && [ "$start" = "$(start_time "$pid")" ] && echo "$pid"
}
vm_gone() { ! vm_running >/dev/null; }

# vm_as USER COMMAND: runs the command in the machine by ssh, through the network namespace of the machine.
vm_as() {
    local user=$1 pid
    shift
    pid=$(vm_running) || {
        say "the machine with cgroup v2 has ended; the end of its console ($VM_DIR/console.log):"
        tail -n 5 "$VM_DIR/console.log" >&2
        return 255
    }
    nsenter --net="/proc/$pid/ns/net" ssh -i "$VM_DIR/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR -o ConnectTimeout=5 -o ServerAliveInterval=30 "$user@10.99.0.2" "$@" 8>&- 9>&-
}
vm_answers() { vm_as root true 2>/dev/null; }
vm_settled() { vm_gone || vm_answers; }

# vm_up ENGINE: starts the machine with a fresh disk and one of the engines of vm_start_engine.
vm_up() {
    local engine=$1 path
    vm_down # if a killed run has left one
    VM_USED=1
    mkdir -p "$VM_DIR/images"
    # seccomp=on selects the faster of the kernel's two ways to catch system calls.
    # shellcheck disable=SC2016 # for the inner shell
    setsid nice -n $VM_NICE unshare --net bash -c '
        ip link set lo up
        ip tuntap add tap0 mode tap
        ip addr add 10.99.0.1/24 dev tap0
        ip link set tap0 up
        exec "$@"' _ "$VM_DIR/kernel/linux" "mem=$VM_MEMORY" seccomp=on "uml_dir=$VM_DIR/run/" umid=vm \
        "ubda=$VM_DIR/disk,$VM_DIR/$(vm_image "$engine").img" root=/dev/ubda rw vec0:transport=tap,ifname=tap0,depth=128 \
        con=null con0=null,fd:1 console=tty0 >"$VM_DIR/console.log" 2>&1 </dev/null 8>&- 9>&- &
    echo "$! $(start_time $!)" >"$VM_DIR/pid"
    disown # otherwise bash reports its end
    if ! wait_for $VM_BOOT_DEADLINE vm_settled || vm_gone; then
        tail -n 20 "$VM_DIR/console.log" >&2
        die "the machine with cgroup v2 did not come up (its console is above, and in $VM_DIR/console.log): does this machine allow ptrace, seccomp and memory of ${VM_MEMORY}?"
    fi
    for path in "$PWD" "$VM_DIR/images"; do
        vm_as root "mkdir -p '$path' && mount -t hostfs none '$path' -o hostfs='$path'" ||
            die "the machine with cgroup v2 does not see $path"
    done
    VM_USER=root
    VM_HOST=
    vm_start_engine "$engine"
    wait_for $VM_BOOT_DEADLINE vm_engine_answers || die "$engine does not answer in the machine with cgroup v2"
    vm_load_images
}

# The user of the tests, and DOCKER_HOST where the library does not find the engine itself.
VM_USER=root
VM_HOST=
VM_USED= # set if this run started the machine
vm_start_engine() {
    # Otherwise each command of Podman's exec API starts a process 300 s after its end.
    vm_as root 'printf "[engine]\nexit_command_delay = 86400\n" >/etc/containers/containers.conf.d/delay.conf'
    case $1 in
    docker) ;; # started by systemd
    docker-crun)
        vm_as root 'sed -i "s|=\"|=\"--add-runtime crun=/usr/bin/crun --default-runtime crun |" /etc/default/docker &&
            systemctl restart docker'
        ;;
    podman | podman6)
        VM_HOST=unix:///run/podman/podman.sock
        # For each request of its version, Podman asks dpkg-query for the packages of six programs, which takes seconds here.
        vm_as root 'chmod -x /usr/bin/dpkg-query
            systemctl disable -q --now docker.socket docker.service; systemctl start podman.socket'
        ;;
    podman-rootless)
        VM_USER=dev
        vm_as root 'chmod -x /usr/bin/dpkg-query
            systemctl disable -q --now docker.socket docker.service; loginctl enable-linger dev'
        vm_as dev 'systemctl --user start podman.socket'
        # shellcheck disable=SC2016 # for the shell in there
        VM_HOST=unix://$(vm_as dev 'echo $XDG_RUNTIME_DIR')/podman/podman.sock
        ;;
    docker-rootless)
        VM_USER=dev
        vm_as root 'systemctl disable -q --now docker.socket docker.service; loginctl enable-linger dev'
        # shellcheck disable=SC2016 # for the shell in there
        vm_as dev 'PATH=/usr/share/docker.io/contrib:/usr/sbin:$PATH systemd-run --quiet --user --unit docker -p Delegate=yes \
            -E PATH="/usr/share/docker.io/contrib:/usr/sbin:$PATH" dockerd-rootless.sh'
        # shellcheck disable=SC2016
        VM_HOST=unix://$(vm_as dev 'echo $XDG_RUNTIME_DIR')/docker.sock
        ;;
    esac || die "the engine $1 could not be started in the machine with cgroup v2"
}

# vm_docker ARGUMENTS: runs the docker command line in the machine, against the engine that was started.
vm_docker() { vm_as "$VM_USER" "${VM_HOST:+DOCKER_HOST=$VM_HOST }docker $*"; }
vm_engine_answers() { vm_docker version >/dev/null 2>&1; }

vm_load_images() {
    local image
    for image in "$DOCKERPOOL_BUSYBOX_IMAGE" "$DOCKERPOOL_PYTHON_IMAGE"; do
        docker save "$image" >"$VM_DIR/images/image.tar" || die "the engine of this machine has no $image"
        chmod 644 "$VM_DIR/images/image.tar"
        vm_docker "load -q -i '$VM_DIR/images/image.tar'" >/dev/null || die "the engine in the machine with cgroup v2 cannot load the image $image"
        rm -f "$VM_DIR/images/image.tar"
    done
}

# vm_run SECONDS COMMAND...: runs the command in this folder, as the engine's user. The deadline holds within the machine,
# since ending ssh does not end the command.
vm_run() {
    local seconds=$1 name env=()
    shift
    for name in $(compgen -e | grep -E '^(DOCKERPOOL_[A-Z_]*|RUST_BACKTRACE)$'); do env+=("$name=${!name}"); done
    [ -z "$VM_HOST" ] || env+=("DOCKER_HOST=$VM_HOST")
    vm_as "$VM_USER" "cd $(printf %q "$PWD") && exec timeout --kill-after=10 $seconds env $(printf '%q ' "${env[@]}" "$@")"
}

# vm_down: kills the machine. The files on its disk are not needed again.
vm_down() {
    local pid
    if pid=$(vm_running); then
        # All its processes are in the process group of its session.
        kill -KILL -- "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true
        wait_for 10 vm_gone || say "warning: the machine with cgroup v2 (pid $pid) does not end"
    fi
    rm -rf "$VM_DIR/pid" "$VM_DIR/disk" "$VM_DIR/run" "$VM_DIR/images"
    VM_USED=
}
