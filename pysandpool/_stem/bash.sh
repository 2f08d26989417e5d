# Waits for one script, and runs it: see "The runtime's lines" in docs/protocol.md.
printf 'ready\n' >&3
# What a string of JSON stands for, in __text. printf %b knows its escapes, but for \" and, before that, \\.
__decode() {
    local encoded=${1//'\\'/'\x5c'}
    printf -v __text '%bx' "${encoded//'\"'/'"'}"
    __text=${__text%x}
}
IFS= read -r -u 3 __line || exit 0
__line=${__line#'{"code":"'}
__env=${__line#*'","env":{'}
__names=' '
__pair='^"(([^"\\]|\\.)*)":"(([^"\\]|\\.)*)",?'
while [[ $__env =~ $__pair ]]; do
    __env=${__env:${#BASH_REMATCH[0]}}
    __value=${BASH_REMATCH[3]}
    __decode "${BASH_REMATCH[1]}"
    __name=$__text
    __decode "$__value"
    export "$__name=$__text" 2>/dev/null
    __names+="$__name "
done
for __name in $(compgen -e); do
    [[ $__names == *" $__name "* ]] || unset "$__name"
done
# It has no results but its streams and its exit code.
printf '{"t":"done","dropped":false}\n' >&3
exec 3>&-
__decode "${__line%%'","env":{'*}"
unset -f __decode
unset __env __line __name __names __pair __value
eval "unset __text
$__text"
