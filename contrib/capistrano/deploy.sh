#!/bin/sh
# Put a new release in place and have gworker serve it. The layout is Capistrano's:
#
#     SITE/releases/20260101120000-4711   the releases, each a copy of SOURCE
#     SITE/current                   a link to the one that serves
#
#     deploy.sh SITE SOURCE [OPTIONS]     options of `gworker reload` that say which instance is meant
#
# The instance was started once, by that link, so that each load follows it:
#
#     cd SITE/current && gworker chat:handlers -w 8 --daemon
#     gworker chat:handlers --chdir SITE/current           the same in a unit, a cron job, a container
#
# A release that cannot be loaded disconnects no client: the reload refuses it, and the link goes back.
set -eu

site=$1
source=$2
shift 2
keep=5

switch() {
    ln -sfn "$1" "$site/current.new"
    mv -T "$site/current.new" "$site/current" # one rename(2): there is no moment without a release
}

previous=$(readlink "$site/current" || true)
release=releases/$(date -u +%Y%m%d%H%M%S)-$$ # the number: two deploys may fall into one second
mkdir -p "$site/releases"
mkdir "$site/$release"
cp -R "$source/." "$site/$release"
switch "$release"

if ! (cd "$site/current" && gworker reload "$@"); then
    [ -z "$previous" ] || switch "$previous"
    rm -rf "${site:?}/$release"
    exit 1
fi

cd "$site/releases"
ls -1 | sort | head -n -$keep | xargs -r rm -rf --
