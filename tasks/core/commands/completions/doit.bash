# Completion of doit and ./doitw in bash:  eval "$(./doitw completion bash)"
_doit_modelwright() {
    local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT}
    local word=${line##*[[:space:]]} program=${COMP_WORDS[0]/#\~/$HOME}
    local found=($("$program" completion --line="$line" 2>/dev/null))
    COMPREPLY=("${found[@]%%$'\t'*}")
    # bash divides words at colons: it replaces only what comes after the last one.
    if [[ $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
    fi
}
complete -o bashdefault -o default -F _doit_modelwright doit doitw
