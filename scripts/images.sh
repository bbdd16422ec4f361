# shellcheck shell=bash
# The two test images: the public ones where a registry answers, and otherwise images built here from Debian packages. And
# two images of servers and one of compilers, always Debian's, which only some tests need.
# Sourced by ./dev, which defines say, die, apt_install and apt_update.

PUBLIC_BUSYBOX=busybox:1.36
PUBLIC_PYTHON=python:3.12-alpine
# Raise the tag when a recipe below changes: an image with the same name is not built again.
LOCAL_BUSYBOX=dockerpool-local/busybox:1
LOCAL_PYTHON=dockerpool-local/python:1
LOCAL_REDIS=dockerpool-local/redis:1
LOCAL_POSTGRES=dockerpool-local/postgres:1
LOCAL_JUDGE=dockerpool-local/judge:1
REGISTRY_DEADLINE=5 # seconds for a registry to answer at all
PULL_DEADLINE=900   # seconds for one whole pull
IMAGE_DIR=target/images
IMAGE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

NO_REGISTRY= # set once no registry answered, so that this run does not ask again

image_exists() { docker image inspect "$1" >/dev/null 2>&1; }

# pull IMAGE ANSWER-DEADLINE: the client prints its first line once the registry has answered, so the deadline is for that
# line. The pull itself has a longer one. PULL_ERROR holds the error.
pull() {
    local line pid fd rc=0
    exec {fd}< <(exec timeout $PULL_DEADLINE docker pull "$1" 2>$IMAGE_DIR/pull.err)
    pid=$!
    IFS= read -r -t "$2" line <&"$fd" || rc=$?
    if [ $rc != 0 ]; then
        [ $rc -le 128 ] || kill "$pid" 2>/dev/null || true # above 128: read timed out
        wait "$pid" || true
        exec {fd}<&-
        pull_error
        [ $rc -le 128 ] || PULL_ERROR="no answer within $2 s"
        return 1
    fi
    say "pulling $1"
    while printf '    %s\n' "$line" >&2 && IFS= read -r line <&"$fd"; do :; done
    exec {fd}<&-
    wait "$pid" || rc=$?
    pull_error
    return $rc
}

pull_error() {
    PULL_ERROR=$(tail -n 1 $IMAGE_DIR/pull.err)
    PULL_ERROR=${PULL_ERROR#Error response from daemon: }
}

# choose_image VARIABLE PUBLIC LOCAL BUILDER: sets and exports VARIABLE, and IMAGE_FROM.
choose_image() {
    local variable=$1 public=$2 local_name=$3 builder=$4 image work
    if [ -n "${!variable:-}" ]; then
        image=${!variable}
        IMAGE_FROM="set by $variable"
        image_exists "$image" || pull "$image" 60 ||
            die "the image $image ($variable) is not on the engine and cannot be pulled: $PULL_ERROR"
    elif image_exists "$public"; then
        image=$public
        IMAGE_FROM='public, already on the engine'
    elif image_exists "$local_name"; then
        image=$local_name
        IMAGE_FROM='built here from Debian packages, earlier'
    elif [ -z "$NO_REGISTRY" ] && pull "$public" $REGISTRY_DEADLINE; then
        image=$public
        IMAGE_FROM='public, just pulled'
    else
        [ -n "$NO_REGISTRY" ] || say "no public registry to pull from (${PULL_ERROR:-no answer}): building the images here"
        NO_REGISTRY=1
        image=$local_name
        IMAGE_FROM='built here from Debian packages'
        work=$PWD/$IMAGE_DIR/$builder
        rm -rf "$work"
        mkdir -p "$work"
        $builder "$work" "$image"
        rm -rf "$work"
    fi
    export "$variable=$image"
}

# fetch_debs DIR PACKAGE...: downloads the packages with their dependencies into DIR, and installs none of them. With an
# empty status file apt assumes that no package is installed, so that it resolves all dependencies for the release and
# architecture of this machine.
FETCH_FROM=() # options for apt-get that select another release than the machine's
fetch_debs() {
    local dir=$1
    shift
    mkdir -p "$dir/partial"
    : >"$dir/status"
    apt-get -qq -y --download-only --no-install-recommends "${FETCH_FROM[@]}" \
        -o Dir::State::status="$dir/status" -o Dir::Cache::archives="$dir" \
        -o APT::Sandbox::User=root -o Debug::NoLocking=1 install "$@" >"$dir/log" 2>&1 </dev/null
}

# unpack_debs DIR ROOT: unpacks all packages in DIR into the new folder ROOT, and installs none of them.
unpack_debs() {
    local root=$2 deb
    # Old packages use /lib, new ones /usr/lib. With these links both lead to the same folder.
    mkdir -p "$root"/{dev,etc,home/runner,opt,proc,root,run,srv,sys,tmp,usr/{bin,lib,lib64,sbin,local/bin},var/tmp}
    ln -s usr/bin usr/lib usr/lib64 usr/sbin "$root"
    chmod 1777 "$root/tmp" "$root/var/tmp"
    chmod 700 "$root/root"
    for deb in "$1"/*.deb; do
        case ${deb##*/} in
        # Only maintainer scripts need these.
        dpkg_* | tar_* | perl-base_* | debconf_* | readline-common_*) continue ;;
        # Only scripts around servers need Perl, and only compiled queries need LLVM.
        perl_* | perl-modules-* | libperl5* | libllvm* | libz3-* | locales_* | libc-l10n_*) continue ;;
        esac
        dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink --no-same-owner -C "$root"
    done
}

# unpack_base DIR ROOT PACKAGE...: fetches the packages and unpacks them, with busybox's commands
# and a few users, into ROOT.
unpack_base() {
    local dir=$1 root=$2 applet
    shift 2
    command -v apt-get >/dev/null || die 'apt-get is missing, and the test images are built from Debian packages; set DOCKERPOOL_BUSYBOX_IMAGE and DOCKERPOOL_PYTHON_IMAGE to images you have'
    check_architecture
    if ! fetch_debs "$dir/debs" "$@"; then
        # The package lists are missing, or older than the packages on the mirrors.
        [ "$(id -u)" = 0 ] || die "the packages for the test images could not be downloaded; 'apt-get update' as root may help: $(tail -n 1 "$dir/debs/log")"
        apt_update || die 'apt-get update failed: no network? The test images need a registry or Debian packages'
        fetch_debs "$dir/debs" "$@" || die "the packages for the test images could not be downloaded: $(tail -n 1 "$dir/debs/log")"
    fi
    unpack_debs "$dir/debs" "$root"
    rm -rf "$root"/usr/share/{bug,doc,lintian,locale,man}
    for applet in $("$root/bin/busybox" --list); do
        [ -e "$root/bin/$applet" ] || [ -L "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
    done
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'runner:x:1000:1000:runner:/home/runner:/bin/sh' \
        'nobody:x:65534:65534:nobody:/:/bin/false' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'tty:x:5:' 'runner:x:1000:' 'nogroup:x:65534:' >"$root/etc/group"
}

# check_architecture: the packages are for this machine, but an engine reached through DOCKER_HOST may have another
# architecture.
check_architecture() {
    local ours theirs
    ours=$(dpkg --print-architecture)
    case $ours in armhf | armel) ours=arm ;; i386) ours=386 ;; ppc64el) ours=ppc64le ;; esac
    theirs=$(docker version --format '{{.Server.Arch}}')
    [ "$ours" = "$theirs" ] || die "the engine runs $theirs and this machine is $ours: images built here would not run there; set DOCKERPOOL_BUSYBOX_IMAGE and DOCKERPOOL_PYTHON_IMAGE"
}

# import_root ROOT IMAGE CMD [CHANGES...]: sends the tree to the engine. The archive sets the owners, so that this works without
# root. CMD is one program; CHANGES are further instructions of a Dockerfile.
import_root() {
    local root=$1 tar=$1.tar change changes=()
    for change in "${@:4}"; do changes+=(--change "$change"); done
    tar -cf "$tar" -C "$root" --numeric-owner --owner=0 --group=0 --exclude=./home/runner .
    tar -rf "$tar" -C "$root" --numeric-owner --owner=1000 --group=1000 ./home/runner
    docker import --change "CMD [\"$3\"]" --change "ENV PATH=$IMAGE_PATH" --change 'ENV LANG=C.UTF-8' \
        --change 'LABEL dockerpool.test-image=1' "${changes[@]}" - "$2" <"$tar" >/dev/null || die "the engine refused to import $2"
    say "built $2"
}

build_busybox() {
    say "building $2 from busybox-static"
    unpack_base "$1" "$1/root" busybox-static
    import_root "$1/root" "$2" sh
}

build_python() {
    local modules='csv, json, sqlite3, ssl, unicodedata, zlib'
    say "building $2 from CPython's packages"
    unpack_base "$1" "$1/root" busybox-static python3-minimal libpython3-stdlib
    [ -e "$1/root/usr/bin/python" ] || ln -s python3 "$1/root/usr/bin/python"
    compile_python "$1/root" "$2" "$modules"
    import_root "$1/root" "$2" python3
}

# compile_python ROOT IMAGE MODULES: the packages hold sources only, and a user other than root cannot store compiled files: without
# this step every start would compile the standard library again. The step also proves that the tree works.
compile_python() {
    if [ "$(id -u)" = 0 ]; then
        chroot "$1" /usr/bin/python3 -c "import $3" || die "the Python put together for $2 does not work"
        # shellcheck disable=SC2016 # the pattern is for the shell inside
        chroot "$1" /bin/sh -c '/usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash \
            -x "idlelib|lib2to3|pydoc_data|turtle" /usr/lib/python3.*' >/dev/null || true
    else
        say 'warning: not root, so the standard library is not precompiled: Python will start slowly'
    fi
}

# build_redis: Redis as a plain user, with nothing on the disk.
build_redis() {
    say "building $2 from redis-server"
    unpack_base "$1" "$1/root" busybox-static redis-server
    import_root "$1/root" "$2" redis-server 'USER runner' \
        'CMD ["redis-server", "--bind", "*", "--protected-mode", "no", "--save", "", "--dir", "/tmp"]'
}

# build_postgres: PostgreSQL as a plain user. Its entrypoint makes the database first, as that of the public image does.
build_postgres() {
    local program root=$1/root
    say "building $2 from postgresql"
    unpack_base "$1" "$root" busybox-static postgresql
    # The programs of that name in /usr/bin are scripts around them.
    for program in "$root"/usr/lib/postgresql/*/bin/*; do ln -sf "${program#"$root"}" "$root/usr/local/bin/"; done
    cat >"$root/usr/local/bin/docker-entrypoint.sh" <<'SCRIPT'
#!/bin/sh
# Makes the database where there is none, and runs the command.
set -e
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    initdb --username postgres --auth trust --locale C --encoding UTF8 --no-sync "$PGDATA" >/dev/null
    echo 'host all all all trust' >>"$PGDATA/pg_hba.conf"
fi
exec "$@"
SCRIPT
    chmod 755 "$root/usr/local/bin/docker-entrypoint.sh"
    import_root "$root" "$2" postgres 'USER runner' 'ENV PGDATA=/home/runner/data PGHOST=/tmp PGUSER=postgres' \
        'ENTRYPOINT ["docker-entrypoint.sh"]' \
        'CMD ["postgres", "-c", "listen_addresses=*", "-c", "unix_socket_directories=/tmp", "-c", "fsync=off"]'
}

# build_judge: what examples/judge.rs runs submissions in. The C compiler is tcc, which links by itself, so that the image has 60 MB:
# gcc and what it needs would add 175. Programs are linked with the image's C library.
build_judge() {
    say "building $2 from tcc and python3-minimal"
    unpack_base "$1" "$1/root" busybox-static tcc libc6-dev python3-minimal
    ln -s tcc "$1/root/usr/bin/cc"
    compile_python "$1/root" "$2" os
    import_root "$1/root" "$2" sh
}

# server_image VARIABLE LOCAL BUILDER: sets and exports VARIABLE, and builds the image if it is not there.
server_image() {
    local variable=$1 image=${!1:-$2} work=$PWD/$IMAGE_DIR/$3
    export "$variable=$image"
    ! image_exists "$image" || return 0
    [ "$image" = "$2" ] || die "the image $image ($variable) is not on the engine"
    rm -rf "$work"
    mkdir -p "$work"
    # In a shell of its own, which may end.
    ("$3" "$work" "$image") || return 1
    rm -rf "$work"
}

# server_images: the images of the tests of servers, and that of the judge. Where they cannot be built, these tests are left
# out (tests/support/capability.rs).
server_images() {
    local lock
    mkdir -p $IMAGE_DIR
    exec {lock}>$IMAGE_DIR/lock
    flock -w 300 "$lock" || die 'another ./dev has been making the images for five minutes'
    if server_image DOCKERPOOL_REDIS_IMAGE $LOCAL_REDIS build_redis &&
        server_image DOCKERPOOL_POSTGRES_IMAGE $LOCAL_POSTGRES build_postgres; then
        say "images of servers: $DOCKERPOOL_REDIS_IMAGE, $DOCKERPOOL_POSTGRES_IMAGE"
    else
        say 'warning: the tests with Redis and PostgreSQL are left out'
        export DOCKERPOOL_TEST_LACKS=${DOCKERPOOL_TEST_LACKS:+$DOCKERPOOL_TEST_LACKS,}servers
    fi
    if server_image DOCKERPOOL_JUDGE_IMAGE $LOCAL_JUDGE build_judge; then
        say "image of the judge: $DOCKERPOOL_JUDGE_IMAGE"
    else
        say 'warning: the test of the judge is left out'
        export DOCKERPOOL_TEST_LACKS=${DOCKERPOOL_TEST_LACKS:+$DOCKERPOOL_TEST_LACKS,}judge
    fi
    exec {lock}>&-
}

images() {
    local lock
    mkdir -p $IMAGE_DIR
    # Two runs of ./dev would build in the same folder.
    exec {lock}>$IMAGE_DIR/lock
    flock -w 300 "$lock" || die 'another ./dev has been making the images for five minutes'
    choose_image DOCKERPOOL_BUSYBOX_IMAGE $PUBLIC_BUSYBOX $LOCAL_BUSYBOX build_busybox
    say "image for plain commands: $DOCKERPOOL_BUSYBOX_IMAGE ($IMAGE_FROM)"
    choose_image DOCKERPOOL_PYTHON_IMAGE $PUBLIC_PYTHON $LOCAL_PYTHON build_python
    say "image for Python: $DOCKERPOOL_PYTHON_IMAGE ($IMAGE_FROM)"
    exec {lock}>&-
}
