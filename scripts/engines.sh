# shellcheck shell=bash
# `./dev engines`: the test suite against other engines. Each engine comes from Debian's packages, which are unpacked and not
# installed. It starts in a root, a mount and a network namespace of its own, or, for cgroup v2 and systemd, in the machine
# of vm.sh. Sourced by ./dev after images.sh.

ENGINES=(docker-20.10 docker-26 docker-28 docker-28-userns podman-4.3 podman-5 gvisor
    docker-28-cgroup2 docker-28-crun podman-5-crun podman-6 docker-rootless podman-rootless)
ENGINES_DIR=$PWD/target/engines
ENGINES_PAGE=docs/engines.md
ENGINES_RUN_DEADLINE=5400 # seconds for the suite on one engine
ENGINES_FILE_DEADLINE=1800 # seconds for one test binary in the machine with cgroup v2
# The part of the tests that `./dev test` runs.
ENGINES_CORE=(--test agent --test exec --test engine --test owner -- commands:: ends:: surroundings:: lifeline::)
ENGINES_KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

# engine_recipe NAME: sets TITLE; VM, the name of the engine in vm.sh, or empty; otherwise SUITE, PACKAGES and SERVE, the
# command that starts the engine; TESTS, the tests that run on it; and LACKS, the capabilities of
# tests/support/capability.rs that it lacks.
engine_recipe() {
    # Programs that Docker and Podman call by name, and on which no package depends.
    PACKAGES=(iptables iproute2 mount)
    SERVE=(dockerd)
    TITLE=Docker
    VM=
    TESTS=(--lib --tests)
    # The images of servers and of the judge are large, and what these do does not depend on the engine.
    LACKS=(servers judge)
    case $1 in
    docker-20.10) SUITE=bookworm PACKAGES+=(docker.io) ;;
    docker-26) SUITE=trixie PACKAGES+=(docker.io) ;;
    docker-28) SUITE=sid PACKAGES+=(docker.io) ;;
    podman-4.3 | podman-5)
        SUITE=bookworm
        [ "$1" = podman-4.3 ] || SUITE=sid PACKAGES+=(nftables)
        PACKAGES+=(podman runc catatonit netavark aardvark-dns dash sed)
        SERVE=(podman system service --time=0 unix:///run/docker.sock)
        TITLE=Podman
        ;;
    # All its containers share one range of remapped users. Only tests that depend on users run.
    docker-28-userns)
        SUITE=sid PACKAGES+=(docker.io)
        SERVE=(dockerd --userns-remap=default)
        TITLE='Docker with userns-remap'
        TESTS=(--test agent --test agent_attached --test exec --test owner --test engine --
            commands:: attacks:: conformance:: leftovers:: output:: socket:: supervise:: volume:: ends:: limits:: lifeline::
            raw_config::)
        ;;
    # Docker with another runtime. Only tests that depend on the runtime run.
    gvisor)
        SUITE=trixie PACKAGES+=(docker.io runsc dash) # Docker uses a shell to start runtimes that have arguments
        SERVE=(dockerd --default-runtime runsc)
        TITLE='gVisor under Docker'
        TESTS=(--test pool --test agent --test exec --test owner --
            acquire:: returns:: commands:: conformance:: ends:: limits:: stdin:: lifeline::)
        ;;
    docker-28-cgroup2) VM=docker LACKS=(servers judge iptables toolchain aarch64 calls32) ;;
    docker-28-crun) VM=docker-crun LACKS=(servers judge iptables toolchain aarch64 calls32) ;;
    podman-5-crun) VM=podman TITLE=Podman LACKS=(servers judge iptables toolchain aarch64 calls32) ;;
    podman-6) VM=podman6 TITLE=Podman LACKS=(servers judge iptables toolchain aarch64 calls32) ;;
    docker-rootless) VM=docker-rootless TITLE='rootless Docker' LACKS=(servers judge iptables toolchain aarch64 calls32 root loopback) ;;
    podman-rootless) VM=podman-rootless TITLE='rootless Podman' LACKS=(servers judge iptables toolchain aarch64 calls32 root) ;;
    *) die "there is no engine $1; there are: ${ENGINES[*]}" ;;
    esac
}

engine_socket() { echo "$ENGINES_DIR/$1/root/run/docker.sock"; }

# debian_mirror: DEBIAN_MIRROR, or else the mirror of this machine's apt, if it is one of Debian.
debian_mirror() {
    local uri=${DEBIAN_MIRROR:-}
    # shellcheck disable=SC2016 # for apt
    [ -n "$uri" ] || uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/\?$') ||
        die "this machine's apt uses no mirror of Debian: set DEBIAN_MIRROR"
    echo "$uri"
}

# unpack_engine NAME: fetches and unpacks its packages, once.
unpack_engine() {
    local dir=$ENGINES_DIR/$1 root=$ENGINES_DIR/$1/root.new mirror
    [ ! -e "$dir/root" ] || return 0
    [ -r $ENGINES_KEYS ] || apt_install "Debian's keys" debian-archive-keyring
    mirror=$(debian_mirror) || exit 1
    say "fetching $1 from Debian $SUITE: ${PACKAGES[*]}"
    rm -rf "$dir"
    mkdir -p "$dir"/{debs,lists}/partial
    echo "deb [signed-by=$ENGINES_KEYS] $mirror $SUITE main" >"$dir/sources.list"
    # Separate lists, which the machine's apt neither reads nor changes.
    FETCH_FROM=(-o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::State::lists="$dir/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o Acquire::Languages=none
        # A mirror may be some weeks old, so the expiry date of its index does not matter.
        -o Acquire::Check-Valid-Until=false)
    : >"$dir/status"
    apt-get -qq "${FETCH_FROM[@]}" -o Dir::State::status="$dir/status" -o APT::Sandbox::User=root \
        -o Debug::NoLocking=1 update >"$dir/apt.log" 2>&1 </dev/null ||
        die "$mirror gave no package list of Debian $SUITE: $(tail -n 1 "$dir/apt.log")"
    fetch_debs "$dir/debs" "${PACKAGES[@]}" || die "the packages of $1 could not be downloaded: $(tail -n 1 "$dir/debs/log")"
    FETCH_FROM=()
    unpack_debs "$dir/debs" "$root"
    configure_engine "$root"
    rm -rf "$dir"/{debs,lists,status}
    mv "$root" "$dir/root" # last, so that this name stands for a complete root
}

# configure_engine ROOT: does the work of the packages' own scripts, and adapts the root to this machine.
configure_engine() {
    local root=$1 program
    for program in iptables ip6tables; do ln -sf $program-nft "$root/usr/sbin/$program"; done
    [ -L "$root/var/run" ] || { rm -rf "$root/var/run" && ln -s ../run "$root/var/run"; }
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'dockremap:x:998:998::/:/bin/false' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'docker:x:999:' 'dockremap:x:998:' >"$root/etc/group"
    echo 'dockremap:200000:65536' | tee "$root/etc/subuid" >"$root/etc/subgid"
    echo '127.0.0.1 localhost' >"$root/etc/hosts"
    : >"$root/etc/resolv.conf"
    if [ -e "$root/usr/bin/runsc" ]; then
        mkdir -p "$root/etc/docker"
        # gVisor's own network does not start in a network namespace without an uplink.
        echo '{"runtimes": {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--network=none"]}}}' >"$root/etc/docker/daemon.json"
    fi
    [ -d "$root/etc/containers" ] || return 0
    # crun, Podman's default, refuses hybrid cgroup hierarchies. There is no journal for events.
    cat >"$root/etc/containers/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc-within-limits"
exit_command_delay = 86400 # otherwise each command of the exec API starts a process 300 s after its end
cgroup_manager = "cgroupfs"
events_logger = "file"
init_path = "/usr/bin/catatonit"
[engine.runtimes]
runc-within-limits = ["/usr/bin/runc-within-limits"]
[network]
network_backend = "netavark"
CONF
    # If the user sets any limit, Podman sets others to a million, which may exceed what root is allowed here.
    cat >"$root/usr/bin/runc-within-limits" <<'SH'
#!/bin/sh
before=
for word; do
    case $before in
    --bundle | -b) file=$word/config.json ;;
    --process | -p) file=$word ;;
    *) file= ;;
    esac
    [ -z "$file" ] || sed -i 's/"hard":1048576,"soft":1048576/"hard":4096,"soft":4096/g' "$file"
    before=$word
done
exec /usr/bin/runc "$@"
SH
    chmod 755 "$root/usr/bin/runc-within-limits"
    printf '%s\n' '[storage]' 'driver = "overlay"' 'runroot = "/run/containers/storage"' \
        'graphroot = "/var/lib/containers/storage"' >"$root/etc/containers/storage.conf"
    # The registries that the tests start. Docker trusts them by default.
    printf '%s\n' '[[registry]]' 'location = "127.0.0.1"' 'insecure = true' \
        '[[registry]]' 'location = "localhost"' 'insecure = true' >"$root/etc/containers/registries.conf"
}

# A shell runs this in new namespaces and then becomes the engine's process. $1 is the engine's root.
# shellcheck disable=SC2016 # for the inner shell
ENTER_ENGINE='
    set -e
    root=$1
    shift
    mount --bind "$root" "$root"
    mount -t sysfs sysfs "$root/sys"
    mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    # Files in these folders can be mounted, as with every engine on the machine. The library puts the agent into the second.
    mkdir -p "$root/tmp" "$root/run/dockerpool" "$root/.old" /run/dockerpool
    mount --bind /tmp "$root/tmp"
    mount --bind /run/dockerpool "$root/run/dockerpool"
    cd "$root"
    pivot_root . .old
    cd /
    export PATH=/usr/sbin:/usr/bin
    ip link set lo up
    umount -l /.old
    exec "$@"
'

# private_engine NAME: the pid of its main process, if the process still runs and ./dev started it.
private_engine() {
    local pid start
    read -r pid start 2>/dev/null <"$ENGINES_DIR/$1/pid" || return 1
    [ -n "$start" ] && [ "$start" = "$(start_time "$pid")" ] && echo "$pid"
}
private_engine_gone() { ! private_engine "$1" >/dev/null; }
private_engine_answers() { DOCKER_HOST=unix://$(engine_socket "$1") engine_answers; }
private_engine_settled() { private_engine_answers "$1" || private_engine_gone "$1"; }

PRIVATE_ENGINE= # the engine that runs now
start_private_engine() {
    local name=$1 dir=$ENGINES_DIR/$1 pid
    stop_private_engine "$name" # if a killed run has left one
    # These folders hold all that an engine writes. A run begins without the files of an earlier one.
    rm -rf --one-file-system "$dir"/root/{run,var/lib/docker,var/lib/containers,var/lib/containerd}
    mkdir -p "$dir/root/run"
    PRIVATE_ENGINE=$name
    # Without descriptors of this script, so that a reader of its pipes does not wait for the engine.
    # With default signals, since the commands in containers would inherit the signals that this shell ignores (nohup).
    setsid env --default-signal unshare --mount --net --propagation private \
        bash -c "$ENTER_ENGINE" _ "$dir/root" "${SERVE[@]}" >"$dir/log" 2>&1 </dev/null 8>&- 9>&- &
    pid=$!
    echo "$pid $(start_time $pid)" >"$dir/pid"
    if ! wait_for $ENGINE_DEADLINE private_engine_settled "$name" || ! private_engine_answers "$name"; then
        tail -n 20 "$dir/log" >&2
        die "$name did not come up; its log is $dir/log"
    fi
    say "$name: version $(DOCKER_HOST=unix://$(engine_socket "$name") engine_version) (pid $pid, log $dir/log)"
}

# processes_of NAME: the processes whose root is the engine's (the engine and the shims of its containers), and all their
# children, the containers' processes.
processes_of() {
    local process
    for process in /proc/[0-9]*; do
        [ ! "$process/root" -ef "$ENGINES_DIR/$1/root" ] || with_children "${process#/proc/}"
    done
}
with_children() {
    local child
    for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do with_children "$child"; done
    echo "$1"
}
none_of() { [ -z "$(processes_of "$1")" ]; }

# stop_private_engine NAME: stops the engine and removes all its containers, since only ./dev uses it.
stop_private_engine() {
    local name=$1 pid rest
    if pid=$(private_engine "$name"); then
        say "stopping $name (pid $pid)"
        if private_engine_answers "$name"; then
            # shellcheck disable=SC2046 # ids
            (
                export DOCKER_HOST=unix://$(engine_socket "$name")
                timeout 120 docker ps -aq | xargs -r timeout 120 docker rm -f -v
            ) >/dev/null 2>&1 || true
        fi
        kill -TERM "$pid" 2>/dev/null || true
        wait_for $ENGINE_DEADLINE private_engine_gone "$name" || say "$name did not stop in time and is killed"
    fi
    rest=$(processes_of "$name")
    # shellcheck disable=SC2086 # pids
    [ -z "$rest" ] || kill -KILL $rest 2>/dev/null || true
    wait_for 10 none_of "$name" || say "warning: processes of $name are left: $(processes_of "$name" | xargs)"
    rm -f "$ENGINES_DIR/$name/pid"
    PRIVATE_ENGINE=
}

# load_images NAME: copies both test images from the current engine.
load_images() {
    local image target=unix://$(engine_socket "$1")
    for image in "$DOCKERPOOL_BUSYBOX_IMAGE" "$DOCKERPOOL_PYTHON_IMAGE"; do
        docker save "$image" | DOCKER_HOST=$target docker load >/dev/null || die "$1 cannot load the image $image"
        DOCKER_HOST=$target image_exists "$image" || die "$1 has loaded $image under another name"
    done
}

# run_on NAME CARGO-ARGUMENTS...: replaces the shell by a run of tests or benchmarks in the engine's network namespace, in
# which the engine can reach the servers that tests start on the loopback interface.
run_on() {
    local name=$1 pid
    shift
    pid=$(private_engine "$name") || die "$name has ended; its log is $ENGINES_DIR/$name/log"
    exec timeout --kill-after=10 $ENGINES_RUN_DEADLINE nsenter --net="/proc/$pid/ns/net" \
        env -u TMPDIR -u DOCKER_CONTEXT -u DOCKER_TLS_VERIFY -u DOCKER_CERT_PATH DOCKER_HOST="unix://$(engine_socket "$name")" \
        CRITERION_HOME="$ENGINES_DIR/$name/criterion" RUST_TEST_THREADS=4 CARGO_NET_OFFLINE=true cargo "$@" 2>&1 </dev/null
}

# run_in_vm CARGO-ARGUMENTS...: runs tests in the machine with cgroup v2. That machine has no cargo, so this runs the test
# binaries one after the other, and prints the same lines as cargo.
run_in_vm() {
    local file binary threads until=$((SECONDS + ENGINES_RUN_DEADLINE)) rc=0
    local -a cargo=() harness=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do cargo+=("$1") && shift; done
    [ $# = 0 ] || harness=("${@:2}")
    while read -r file binary; do
        printf '     Running %s (%s)\n' "$file" "$binary"
        if [ $SECONDS -ge $until ]; then
            echo "error: not run: the run has used up its $ENGINES_RUN_DEADLINE s" && rc=1 && continue
        fi
        # Several at once on one processor, since most tests wait most of the time. The examples have limits of seconds.
        threads=$VM_THREADS
        [ "$file" != tests/examples.rs ] || threads=1
        vm_run $ENGINES_FILE_DEADLINE "$binary" --test-threads $threads "${harness[@]}" </dev/null 2>&1 ||
            { rc=$? && echo "error: $file: exit $rc" && rc=1; }
    done < <(test_binaries "${cargo[@]}")
    return $rc
}

# test_binaries CARGO-ARGUMENTS...: prints "FILE BINARY" for each test binary. All are built already.
test_binaries() {
    cargo "$@" --no-run 2>&1 </dev/null | sed -nE 's/^ *Executable (unittests )?(\S+) \((\S+)\)$/\2 \3/p'
}

# stage_on NAME LOG CARGO-ARGUMENTS...: runs in the background with wait, so that an interrupt reaches this script at once.
stage_on() {
    local rc=0 lacks
    # The machine with cgroup v2 does not inherit what this machine lacks.
    lacks=$(IFS=, && echo "${LACKS[*]}")
    if [ -n "$VM" ]; then
        DOCKERPOOL_TEST_LACKS=$lacks run_in_vm "${@:3}" >"$2" &
    else
        DOCKERPOOL_TEST_LACKS=${DOCKERPOOL_TEST_LACKS:-}${lacks:+,$lacks} run_on "$1" "${@:3}" >"$2" &
    fi
    STAGE_PID=$!
    wait $STAGE_PID || rc=$?
    STAGE_PID=
    return $rc
}

# speed NAME: prints "AGENT EXEC-API FORK", their times for `true` in the last benchmark, in milliseconds.
speed() {
    local way ns times=()
    for way in agent exec_api fork_floor; do
        ns=$(scripts/bench-table.sh --median "$ENGINES_DIR/$1/criterion/exec_true/$way/new/estimates.json") || return 1
        times+=("$(awk -v ns="$ns" 'BEGIN { printf "%.2f", ns / 1e6 }')")
    done
    echo "${times[*]}"
}

# docker_on NAME ARGUMENTS...: runs the docker command line against the engine.
docker_on() {
    local name=$1
    shift
    if [ -n "$VM" ]; then
        vm_docker "$(printf '%q ' "$@")"
    else
        DOCKER_HOST=unix://$(engine_socket "$name") timeout 30 docker "$@"
    fi
}

# describe NAME: prints lines "KEY VALUE": name and version of the engine, of the runtime and of the kernel, the kind of
# cgroups, and the day.
describe() {
    local name=$1 runtime kernel cgroup version root program
    IFS='|' read -r runtime kernel cgroup < <(docker_on "$name" info \
        --format '{{.DefaultRuntime}}|{{.KernelVersion}}|v{{.CgroupVersion}}, {{.CgroupDriver}}') || return 1
    # With Podman the runtime is the script above, whose name begins with the real runtime's name.
    runtime=${runtime##*/} runtime=${runtime%%-*}
    if [ -n "$VM" ]; then
        version=$(vm_as root "$runtime --version")
    else
        root=$ENGINES_DIR/$name/root
        for program in "/usr/bin/$runtime" "/usr/sbin/$runtime"; do [ ! -x "$root$program" ] || break; done
        # gVisor's runtime needs /proc, which is mounted for the engine only.
        version=$(nsenter --target "$(private_engine "$name")" --mount --root "$program" --version) || return 1
    fi
    # "runc version 1.3.6", "crun version 1.28", "runsc version release-...".
    version=$(sed -n '1s/.* version //p' <<<"$version")
    echo "engine $TITLE $(docker_on "$name" version --format '{{.Server.Version}}')"
    echo "runtime $runtime $version"
    echo "kernel $kernel"
    echo "cgroup $cgroup"
    echo "day $(date +%F)"
}

# results: reads cargo's output. Prints "file FILE PASSED APART FAILED" or "file FILE broke off" for each test file, "apart FILE
# TEST: CAPABILITY: REASON" for each test that is left out, and "failed FILE TEST" for each failed test.
results() {
    awk '
        # The last result counts: a failed test may have printed that of a run of its own.
        function flush() {
            if (file != "" && has_result) print "file", file, passed - apart, apart, failed
            else if (file != "") print "file", file, "broke off"
            file = ""; listing = 0; apart = 0; has_result = 0
        }
        $1 == "Running" { flush(); file = $2 == "unittests" ? $3 : $2; next }
        file == "" { next }
        match($0, /left out: .*/) { print "apart", file, substr($0, RSTART + 10); apart++ }
        $1 == "failures:" { listing = 1; next }
        listing && NF == 1 && /^    [A-Za-z0-9_:]+$/ { if (!((file, $1) in told)) print "failed", file, $1; told[file, $1] = 1 }
        $1 == "test" && $2 == "result:" {
            for (i = 3; i < NF; i++) { if ($(i + 1) ~ /^passed/) passed = $i; if ($(i + 1) ~ /^failed/) failed = $i }
            has_result = 1
        }
        END { flush() }
    '
}

# engines_table: prints a line for each engine with a complete run, the failed tests, and the tests that are left out with the
# reasons.
engines_table() {
    local name files=()
    for name in "${ENGINES[@]}"; do [ ! -e "$ENGINES_DIR/$name.results" ] || files+=("$ENGINES_DIR/$name.results"); done
    [ ${#files[@]} -gt 0 ] || return 1
    awk '
        FNR == 1 { n++; name[n] = FILENAME; sub(/.*\//, "", name[n]); sub(/\.results$/, "", name[n]) }
        $1 == "speed" { agent[n] = $2; api[n] = $3; fork[n] = $4; next }
        $1 == "file" {
            if ($3 == "broke") { broke[n]++; next }
            passed[n] += $3; apart[n] += $4; failed[n] += $5
            next
        }
        $1 == "apart" {
            text = $0; sub(/^apart [^ ]+ /, "", text)
            test = text; sub(/: .*/, "", test); sub(/^[^:]*(::[^:]+)*: /, "", text)
            capability = text; sub(/: .*/, "", capability)
            why = text; sub(/^[^:]*: /, "", why)
            if (!((capability, why) in said)) { said[capability, why] = ++lines; cap[lines] = capability; reason[lines] = why }
            line = said[capability, why]
            if (!((line, n) in on)) { on[line, n] = 1; where[line] = where[line] (where[line] ? ", " : "") name[n] }
            test = "`" $2 "` " test
            if (!((line, test) in has)) { has[line, test] = 1; which[line] = which[line] (which[line] ? "; " : "") test }
            next
        }
        $1 == "failed" { lost[++losses] = "| " name[n] " | `" $2 "` | " $3 " |"; next }
        { key = $1; value = $0; sub(/^[^ ]+ /, "", value); is[key, n] = value }
        END {
            print "| recipe | engine | runtime | kernel | cgroups | passed | left out | failed | `true` by the agent | by the exec API | times faster | a fork alone | day |"
            print "|---|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|"
            for (i = 1; i <= n; i++) {
                printf "| `%s` | %s | %s | %s | %s | %d | %d | %d%s | ", name[i], is["engine", i], is["runtime", i], is["kernel", i], is["cgroup", i], passed[i], apart[i], failed[i], broke[i] ? " and " broke[i] " files broke off" : ""
                if (agent[i]) printf "%s ms | %s ms | %.0f | %s ms | ", agent[i], api[i], api[i] / agent[i], fork[i]
                else printf "– | – | – | – | "
                print is["day", i] " |"
            }
            if (losses) {
                print "\nFailed:\n\n| recipe | file | test |\n|---|---|---|"
                for (i = 1; i <= losses; i++) print lost[i]
            }
            if (lines) {
                print "\nLeft out:\n\n| capability | why | recipes | tests |\n|---|---|---|---|"
                for (i = 1; i <= lines; i++) print "| `" cap[i] "` | " reason[i] " | " where[i] " | " which[i] " |"
            }
        }
    ' "${files[@]}"
}

# write_table: writes the table between the two markers in docs/engines.md.
write_table() {
    local name
    engines_table >"$ENGINES_DIR/table.md" || return 0
    grep -q '^<!-- engines:begin -->$' $ENGINES_PAGE && grep -q '^<!-- engines:end -->$' $ENGINES_PAGE ||
        die "$ENGINES_PAGE has no markers <!-- engines:begin --> and <!-- engines:end -->"
    # The results of other engines may be on another machine. The page must keep their lines.
    for name in "${ENGINES[@]}"; do
        if grep -q "^| \`$name\` |" $ENGINES_PAGE && ! grep -q "^| \`$name\` |" "$ENGINES_DIR/table.md"; then
            say "$ENGINES_PAGE is unchanged, since the results of $name are not on this machine; the new table is $ENGINES_DIR/table.md"
            return 0
        fi
    done
    awk -v table="$ENGINES_DIR/table.md" '
        $0 == "<!-- engines:end -->" { inside = 0 }
        !inside { print }
        $0 == "<!-- engines:begin -->" { inside = 1; while ((getline line < table) > 0) print line }
    ' $ENGINES_PAGE >"$ENGINES_DIR/page.md"
    cat "$ENGINES_DIR/page.md" >$ENGINES_PAGE
    say "the table in $ENGINES_PAGE is written"
}

# finish_engines: at any end of the run, stops its tests and engines.
finish_engines() {
    trap - EXIT
    trap '' INT TERM HUP
    if [ -n "$STAGE_PID" ]; then
        kill -TERM "$STAGE_PID" 2>/dev/null || true
        # Tests in the machine with cgroup v2 end with the machine.
        [ -n "$VM_USED" ] || wait "$STAGE_PID" 2>/dev/null || true
    fi
    [ -z "$PRIVATE_ENGINE" ] || stop_private_engine "$PRIVATE_ENGINE"
    [ -z "$VM_USED" ] || vm_down
}

# renewed NAME: prints the results of the last whole run, in which those of each test file of a later run replace the older
# ones. The line keeps the day of the whole run.
renewed() {
    awk '
        { file = $1 == "file" || $1 == "apart" || $1 == "failed" ? $2 : "" }
        FNR == NR { if (file != "") { new[file] = 1; lines = lines $0 "\n" } next }
        !(file in new) || file == "" { print }
        END { printf "%s", lines }
    ' "$ENGINES_DIR/$1.last" "$ENGINES_DIR/$1.results"
}

# run_engine NAME [CARGO-ARGUMENTS...]: runs all tests of the recipe and a benchmark, and writes the table. With arguments it
# runs only the tests that they select. If these are whole test files, their results replace those of the last whole run.
run_engine() {
    local name=$1 log=$ENGINES_DIR/$1.log about rc=0
    shift
    say "== $name"
    engine_recipe "$name"
    [ $# = 0 ] || TESTS=("$@")
    if [ -n "$VM" ]; then
        vm_build "$VM"
        vm_up "$VM"
    else
        unpack_engine "$name"
        start_private_engine "$name"
        load_images "$name"
    fi
    about=$(describe "$name") || die "$name does not tell its version"
    say "== $name: ${about//$'\n'/, }"
    say "== $name: the tests run; their output goes to $log"
    stage_on "$name" "$log" test --all-features --no-fail-fast "${TESTS[@]}" || rc=$?
    { echo "$about" && results <"$log"; } >"$ENGINES_DIR/$name.last"
    sed -n 's/^apart \([^ ]*\) /    left out: \1 /p' "$ENGINES_DIR/$name.last" >&2
    say "== $name: $(awk '$1 == "file" && $3 != "broke" { p += $3; a += $4; f += $5 } $1 == "file" && $3 == "broke" { b++ }
        END { printf "%d passed, %d left out, %d failed, %d files broke off", p, a, f, b }' "$ENGINES_DIR/$name.last")"
    if [ $rc != 0 ]; then
        say "== $name: FAILED:"
        { grep -E '^error' "$log" || true; sed -n 's/^failed /    /p; s/^file \(.*\) broke off$/    \1 broke off/p' "$ENGINES_DIR/$name.last"; } >&2
        FAILED+=("$name")
    elif ! grep -q '^file' "$ENGINES_DIR/$name.last"; then
        say "== $name: FAILED: no test ran"
        FAILED+=("$name")
    else
        say "== $name: ok"
    fi
    if [ $# = 0 ]; then
        if [ -z "$VM" ]; then # timings in the machine mean nothing
            say "== $name: measuring a command by the agent and by the exec API"
            stage_on "$name" "$ENGINES_DIR/$name.bench.log" bench --all-features --bench exec -- exec_true/ || {
                tail -n 20 "$ENGINES_DIR/$name.bench.log" >&2
                die "the benchmark failed on $name"
            }
            echo "speed $(speed "$name")" >>"$ENGINES_DIR/$name.last"
        fi
        mv "$ENGINES_DIR/$name.last" "$ENGINES_DIR/$name.results"
        write_table
    elif [[ " $* " != *' -- '* ]] && [ -e "$ENGINES_DIR/$name.results" ]; then
        renewed "$name" >"$ENGINES_DIR/$name.renewed"
        mv "$ENGINES_DIR/$name.renewed" "$ENGINES_DIR/$name.results"
        write_table
    fi
    if [ -n "$VM" ]; then vm_down; else stop_private_engine "$name"; fi
}

# lock_engines KIND...: holds what a run with native engines, or one with the machine, has for itself (descriptors 9 and 8). Both can
# run at once.
lock_engines() {
    local kind
    mkdir -p "$ENGINES_DIR" "$VM_DIR"
    exec 8>"$VM_DIR/lock" 9>"$ENGINES_DIR/lock"
    for kind in "$@"; do
        case $kind in
        native) flock -w "$LOCK_DEADLINE" 9 || die 'another ./dev engines is running' ;;
        vm) flock -w "$LOCK_DEADLINE" 8 || die 'another ./dev engines uses the machine with cgroup v2' ;;
        esac
    done
}
LOCK_DEADLINE=0

# prepare_engines NAME...: fetches and unpacks the packages for a later run of these engines.
prepare_engines() {
    local name
    LOCK_DEADLINE=3600
    lock_engines native vm
    for name in "$@"; do
        engine_recipe "$name"
        if [ -n "$VM" ]; then vm_build "$VM"; else unpack_engine "$name"; fi
    done
}

engines() {
    local names=() name args=() native='' vm=''
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        if [ "$1" = all ]; then names+=("${ENGINES[@]}"); else names+=("$1"); fi
        shift
    done
    args=("${@:2}")
    [ ${#names[@]} -gt 0 ] || bad_usage "engines wants names, or 'all'; there are: ${ENGINES[*]}"
    for name in "${names[@]}"; do
        engine_recipe "$name"
        if [ -n "$VM" ]; then vm=vm; else native=native; fi
    done
    [ "$(id -u)" = 0 ] || die 'starting engines needs root'
    need_test_servers
    need_aarch64
    set_up
    # shellcheck disable=SC2086 # one word each, or none
    lock_engines $native $vm
    # Builds now, since an engine's namespace has no network.
    if [ ${#args[@]} -gt 0 ]; then
        local part=()
        for name in "${args[@]}"; do [ "$name" != -- ] || break && part+=("$name"); done
        cargo test --all-features --no-run "${part[@]}"
    else
        # With the examples, which tests run.
        cargo test --all-features --no-run --lib --tests
        cargo build --all-features --examples
        [ -z "$native" ] || cargo bench --all-features --no-run --bench exec
    fi
    trap finish_engines EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    for name in "${names[@]}"; do run_engine "$name" "${args[@]}"; done
    [ ${#FAILED[@]} = 0 ] || die "not all tests passed on: ${FAILED[*]}"
}
