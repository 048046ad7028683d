#!/usr/bin/env bash
# Builds the images and lives through the platform's first hour in containers: up, a first minute, an exact hour, a
# killed container of each kind, down. As root, on Debian with docker.io, docker-compose and debootstrap; it starts a
# Docker engine of its own and stops it in the end. Takes about 20 minutes on two cores.
#   docker/check.sh              with a base image from the machine's own Debian mirror, so that no image is pulled
#   docker/check.sh --pull       with the base image that the Dockerfile names
#   docker/check.sh --keep DIR   the engine's data lie in DIR and stay there, so that the next check builds what changed
set -euo pipefail
cd "$(dirname "$0")/.."

pull='' keep=''
while [ $# -gt 0 ]; do
    case $1 in
        --pull) pull=yes ;;
        --keep) keep=$(realpath -m "${2:?is missing: --keep DIR}") && shift ;;
        *) echo "unknown: $1; the first lines of $0 say what there is" >&2 && exit 2 ;;
    esac
    shift
done
work=${keep:-$(mktemp -d /var/tmp/metrics-platform-check.XXXXXX)}
mkdir -p "$work"
export DOCKER_HOST=unix://$work/docker.sock DOCKER_BUILDKIT=1
export COMPOSE_PROJECT_NAME=metrics-platform-check POSTGRES_PASSWORD=check
export METRICS_PLATFORM_UI_PORT=13000 METRICS_PLATFORM_POSTGRES_PORT=15433
export METRICS_PLATFORM_KAFKA_PORT=29092 METRICS_PLATFORM_SPARK_UI_PORT=18080
BASE=debian:bookworm-slim

say() { echo "$(date +%T) $*"; }

compose() { docker-compose -f docker/compose.yaml --profile demo "$@"; }

platform() { compose exec -T code metrics-platform "$@"; }

# The number that a question to the metric store has for an answer.
number() { compose exec -T -e PGPASSWORD=$POSTGRES_PASSWORD postgres psql -h 127.0.0.1 -U metrics -d metrics -Atqc "$1"; }

# Ask until the answer is yes: await SECONDS WHAT COMMAND...
await() {
    local end=$((SECONDS + $1)) began=$SECONDS what=$2
    shift 2
    until "$@" 2> /dev/null; do
        ((SECONDS < end)) || { say "failed: $what did not come"; compose ps; compose logs --tail 50 code; exit 1; }
        sleep 1
    done
    say "$what ($((SECONDS - began)) s)"
}

finish() {
    compose down -v > "$work/down.log" 2>&1 || true
    if [ -e "$work/dockerd.pid" ]; then
        kill "$(cat "$work/dockerd.pid")" && tail --pid="$(cat "$work/dockerd.pid")" -f /dev/null
    fi
    [ -n "$keep" ] || rm -rf "$work"
    say "down"
}

start_engine() {
    dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" --host "$DOCKER_HOST" \
        > "$work/dockerd.log" 2>&1 &
    until docker info > /dev/null 2>&1; do
        kill -0 $! || { cat "$work/dockerd.log"; exit 1; }
        sleep 0.2
    done
}

# As Debian's own slim image: its smallest system, without documentation. With the machine's certificates.
make_base() {
    local mirror
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -1)
    debootstrap --variant=minbase --include=ca-certificates bookworm "$work/base" "$mirror" > "$work/debootstrap.log"
    rm -rf "$work"/base/usr/share/{doc,man,locale}/* "$work"/base/var/{cache/apt/archives,lib/apt/lists}/*
    cp -r /usr/local/share/ca-certificates/. "$work/base/usr/local/share/ca-certificates/"
    chroot "$work/base" update-ca-certificates > /dev/null
    tar -C "$work/base" -c . | docker import - "$BASE" > /dev/null
    rm -rf "$work/base"
}

build() {
    docker build -q --network host -f docker/Dockerfile -t metrics-platform-postgres --target postgres .
    docker build -q --network host -f docker/Dockerfile -t metrics-platform --target platform .
}

# End a container's first process from outside, as a crash would; Docker starts it again.
crash() {
    kill -9 "$(docker inspect -f '{{.State.Pid}}' "$(compose ps -q "$1")")"
}

healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$(compose ps -q "$1")")" = healthy ]; }

restarted() { [ "$(docker inspect -f '{{.RestartCount}}' "$(compose ps -q "$1")")" -gt 0 ] && healthy "$1"; }

newest() { number "SELECT coalesce(extract(epoch FROM max(window_start)), 0)::int FROM platform.ledger WHERE grain = 'minute' AND source = 'stream'"; }

newer_than() { [ "$(newest)" -gt "$1" ]; }

has_minute() { [ "$(newest)" -gt 0 ]; }

exact_hours() { number "SELECT count(DISTINCT window_start) FROM platform.ledger WHERE grain = 'hour' AND source = 'batch' AND events > 0"; }

trap finish EXIT
start_engine
say "engine $(docker version -f '{{.Server.Version}}'), $(docker info -f '{{.Driver}}'); $(docker-compose version --short)"
if [ -z "$pull" ] && ! docker image inspect "$BASE" > /dev/null 2>&1; then
    make_base
    say "base image made as $BASE"
fi
build > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
say "built: $(docker images --format '{{.Repository}} {{.Size}}' | sort | paste -sd ',')"

compose up -d --no-build > "$work/up.log" 2>&1 || { cat "$work/up.log"; exit 1; }
say "up, every service healthy"
await 300 "first minute number" has_minute

# Traffic is up to two hours late now and then, so the last complete hour has events too.
hour=$(date -u -d "1 hour ago" +%Y-%m-%dT%H:00+00:00)
SECONDS=0
platform restate all --from "$hour" --to "$(date -u +%Y-%m-%dT%H:00+00:00)" --wait
say "exact hours with events: $(exact_hours) ($SECONDS s)"
[ "$(exact_hours)" -gt 0 ]

for service in spark-worker-1 kafka postgres spark-master code daemon webserver; do
    minute=$(newest)
    crash $service
    say "killed $service"
    await 180 "$service is back" restarted $service
    await 600 "a newer minute" newer_than "$((minute + 60))"
done
say "gaps: $(number "SELECT coalesce(string_agg(to_char(minute_start, 'HH24:MI') || '-' || to_char(minute_end, 'HH24:MI'), ', '), 'none') FROM platform.gaps")"
