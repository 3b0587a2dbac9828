# Written by contrib/completions/make.py; do not edit.
# Source it, or put it into /usr/share/bash-completion/completions/gworker.

_gworker() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command=start word words
    COMPREPLY=()
    case $previous in
        --access-log|--config|--log-file|--pid|--reload-extra|--stdout-file|-c) COMPREPLY=($(compgen -f -- "$current")); return ;;
        --chdir|--runtime-dir|--upload-dir) COMPREPLY=($(compgen -d -- "$current")); return ;;
        --user) COMPREPLY=($(compgen -u -- "$current")); return ;;
        --group) COMPREPLY=($(compgen -g -- "$current")); return ;;
        --log-level) COMPREPLY=($(compgen -W 'debug info warning error critical' -- "$current")); return ;;
        --bind|--boot-timeout|--close-timeout|--computing-processes|--env|--forwarded-allow-ips|--graceful-timeout|--handshake-timeout|--header-timeout|--idle-timeout|--keep-alive|--kernel-send-buffer|--limit|--log-format|--max-age|--max-connections|--max-connections-per-address|--max-json-size|--max-memory|--max-package-size|--max-requests|--max-requests-jitter|--max-send-buffer-size|--message-timeout|--min-rate|--name|--ping-interval|--ping-timeout|--send-timeout|--timeout|--umask|--worker|--workers|-b|-n|-w) return ;;
    esac
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
            start|stop|restart|reload|status|connections|health|scale|upgrade|list|check) command=$word; break ;;
        esac
    done
    if [[ $current != -* ]]; then
        words=''
        if ((COMP_CWORD == 1)); then words='start stop restart reload status connections health scale upgrade list check'; fi
        COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -X '!*.py' -- "$current"))
        COMPREPLY+=($(compgen -d -- "$current"))
        return
    fi
    case $command in
        start) words='-h --help --check --print-config -c --config -w --workers -b --bind -d --daemon -n --name --pid --runtime-dir --chdir --umask --user --group --env --stdout-file --log-file --log-level --log-format --access-log --graceful-timeout --boot-timeout --timeout --computing-processes --max-requests --max-requests-jitter --max-memory --max-age --reload --reload-extra --max-connections --max-connections-per-address --idle-timeout --keep-alive --header-timeout --handshake-timeout --message-timeout --send-timeout --close-timeout --min-rate --ping-interval --ping-timeout --proxy-protocol --forwarded-allow-ips --max-package-size --max-send-buffer-size --kernel-send-buffer --max-json-size --upload-dir -V --version' ;;
        stop) words='-h --help --quick -g -c --config -n --name --pid --runtime-dir -V --version' ;;
        restart) words='-h --help -g -c --config -w --workers -b --bind -d --daemon -n --name --pid --runtime-dir --chdir --umask --user --group --env --stdout-file --log-file --log-level --log-format --access-log --graceful-timeout --boot-timeout --timeout --computing-processes --max-requests --max-requests-jitter --max-memory --max-age --reload --reload-extra --max-connections --max-connections-per-address --idle-timeout --keep-alive --header-timeout --handshake-timeout --message-timeout --send-timeout --close-timeout --min-rate --ping-interval --ping-timeout --proxy-protocol --forwarded-allow-ips --max-package-size --max-send-buffer-size --kernel-send-buffer --max-json-size --upload-dir -V --version' ;;
        reload) words='-h --help --no-wait -g -c --config -n --name --pid --runtime-dir -V --version' ;;
        status) words='-h --help --settings --json -d --watch -c --config -n --name --pid --runtime-dir -V --version' ;;
        connections) words='-h --help --json --worker --limit -c --config -n --name --pid --runtime-dir -V --version' ;;
        health) words='-h --help --worker -c --config -n --name --pid --runtime-dir -V --version' ;;
        scale) words='-h --help -c --config -n --name --pid --runtime-dir -V --version' ;;
        upgrade) words='-h --help -c --config -n --name --pid --runtime-dir -V --version' ;;
        list) words='-h --help -c --config --runtime-dir -V --version' ;;
        check) words='-h --help --json -c --config -w --workers -b --bind -d --daemon -n --name --pid --runtime-dir --chdir --umask --user --group --env --stdout-file --log-file --log-level --log-format --access-log --graceful-timeout --boot-timeout --timeout --computing-processes --max-requests --max-requests-jitter --max-memory --max-age --reload --reload-extra --max-connections --max-connections-per-address --idle-timeout --keep-alive --header-timeout --handshake-timeout --message-timeout --send-timeout --close-timeout --min-rate --ping-interval --ping-timeout --proxy-protocol --forwarded-allow-ips --max-package-size --max-send-buffer-size --kernel-send-buffer --max-json-size --upload-dir -V --version' ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o filenames -F _gworker gworker
