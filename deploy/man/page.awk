# The help of a command of saf as a manual page; with isPart as a section of one.
function quoted(text) {
    gsub(/\\/, "\\e", text); gsub(/-/, "\\-", text)
    if (text ~ /^[.']/) text = "\\&" text
    return text
}
function heading(text) { print (isPart ? ".SS " : ".SH ") quoted(text) }
# An option and what it means are two columns; the second may be on the next line.
function row(line,  place) {
    sub(/^  /, "", line)
    place = match(line, /   */)
    print ".TP"
    print ".B " quoted(place ? substr(line, 1, place - 1) : line)
    if (place) print quoted(substr(line, place + RLENGTH))
}
/^OVERVIEW: / {
    sub(/^OVERVIEW: /, ""); abstract = $0; state = "abstract"; next
}
state == "abstract" && !/^$/ { abstract = abstract " " $0; next }
state == "abstract" {
    if (isPart) { print ".SH " quoted(toupper(name)); print quoted(abstract); print ".PP" }
    else {
        printf ".TH %s %s \"\" \"SwiftSAF %s\" \"SwiftSAF\"\n.SH NAME\n%s \\- %s\n", toupper(name), section, version, \
            name, quoted(abstract)
    }
    state = "text"; next
}
/^USAGE: / {
    if (isPart) print ".PP"; else print ".SH SYNOPSIS"
    sub(/^USAGE: /, ""); print ".B " quoted($0); state = "usage"; next
}
state == "usage" && !/^$/ && !/^[A-Z]+:$/ { print quoted($0); next }
state == "usage" && /^$/ { if (!isPart && length(description)) printf ".SH DESCRIPTION\n%s", description; state = ""; next }
/^(ARGUMENTS|OPTIONS|SUBCOMMANDS):$/ {
    sub(/:/, ""); word = $0 == "SUBCOMMANDS" ? "COMMANDS" : $0
    if (!isPart) heading(word)
    state = "rows"; next
}
/^  See '/ { state = ""; next }
state == "rows" && /^  [^ ]/ { isVersion = /^  --version/ || /^  -h, --help/; if (!isVersion || !isPart) row($0); next }
state == "rows" && /^   / { if (isVersion && isPart) next; sub(/^ +/, ""); print quoted($0); next }
state == "text" {
    # An example, or a line of its own meaning, is not to be filled with the next.
    line = /^$/ ? ".PP" : quoted($0)
    if (/^Example/) line = ".PP\n" line
    else if (/^[a-z-]+: /) line = ".br\n" line
    if (isPart) print line; else description = description line "\n"
}
