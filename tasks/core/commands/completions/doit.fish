# Completion of doit and ./doitw in fish:  ./doitw completion fish | source
function __doit_modelwright
    set -l program (commandline -opc)[1]
    set -l found (eval $program completion --line=(string escape -- (commandline -cp)) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
for program in doit doitw
    complete -c $program -f -a '(__doit_modelwright)'
end
