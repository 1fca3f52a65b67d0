#compdef doit doitw
# Completion of doit and ./doitw in zsh, after compinit:  eval "$(./doitw completion zsh)"
_doit_modelwright() {
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX" program=${~words[1]}
    local -a found names shown
    found=("${(@f)$("$program" completion --line="$line" 2>/dev/null)}")
    found=(${found:#})
    names=("${found[@]%%$'\t'*}")
    shown=("${found[@]/$'\t'/  -- }")
    if (( $#names )); then
        compadd -l -d shown -a names
    else
        _files
    fi
}
compdef _doit_modelwright doit doitw
