# Completion of zrepl's command line for fish: asks the program itself.

function __zrepl_candidates
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    test (count $current) -eq 0; and set current ''
    command $words[1] __COMPLETE $words[2..-1] $current 2>/dev/null | string match -v -r '^:'
end

complete -c zrepl -f -k -a '(__zrepl_candidates)'
