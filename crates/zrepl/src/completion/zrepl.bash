# Completion of zrepl's command line for bash: asks the program itself.

_zrepl() {
    # Bash splits words at = and : too, and zrepl does not.
    local words=() word cur prefix line directive=0 i joined=0
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((joined)) || [[ ${#words[@]} -gt 0 && $word == [:=]* ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        joined=0
        [[ $word == *[:=] ]] && joined=1
    done
    for i in "${!words[@]}"; do
        [[ ${words[i]} == "~/"* ]] && words[i]=$HOME/${words[i]#"~/"}
    done
    cur=${words[${#words[@]} - 1]}
    prefix=${cur%"${cur##*[:=]}"}

    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :*) directive=${line#:} ;;
            *) COMPREPLY+=("${line#"$prefix"}") ;;
        esac
    done < <("${COMP_WORDS[0]/#"~/"/$HOME/}" __completeNoDesc "${words[@]}" 2>/dev/null)
    ((directive & 2)) && compopt -o nospace 2>/dev/null
    return 0
}

complete -o nosort -F _zrepl zrepl 2>/dev/null || complete -F _zrepl zrepl
